"""One line of any provider -> one result row."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from conformance.recordings import RECORDINGS, Recording, ids
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_bifrost.results.answers import model_of
from airflow_bifrost.results.parse import is_invented, result_row
from airflow_bifrost.results.rows import COLUMNS, ResultRow, Usage, missing_row


def row_of(line: Any) -> ResultRow:
    row = result_row(line)
    assert row is not None
    return row


def answered(body: Any, status: Any = 200, error: Any = None) -> ResultRow:
    """The row of a line of OpenAI's files."""
    response = {"status_code": status, "request_id": "req_1", "body": body}
    return row_of({"id": "batch_req_1", "custom_id": "r", "response": response, "error": error})


def chat(content: Any = "Hi", finish_reason: Any = "stop", **message: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **message}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]}


def bedrock(output: Any) -> ResultRow:
    return row_of({"recordId": "r", "modelInput": {}, "modelOutput": output})


# The contract


def test_a_row_is_written_with_all_keys_in_the_order_of_the_contract() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    body = {**chat(), "model": "gpt-4o-mini", "usage": usage}
    written = json.loads(msgspec.json.encode(answered(body)))
    assert list(written.items()) == [
        ("custom_id", "r"),
        ("outcome", "succeeded"),
        ("text", "Hi"),
        ("finish_reason", "stop"),
        ("output", None),
        ("response", body),
        ("error", None),
        ("usage", {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12}),
    ]
    assert tuple(written) == COLUMNS


def test_a_missing_row_has_all_keys_too() -> None:
    written = json.loads(msgspec.json.encode(missing_row("r")))
    assert tuple(written) == COLUMNS
    assert (written["custom_id"], written["outcome"], written["error"]["code"]) == ("r", "missing", "missing")
    assert {written[name] for name in ("text", "finish_reason", "output", "response", "usage")} == {None}


def test_rows_are_read_without_airflow() -> None:
    script = (
        "import sys, airflow_bifrost.results.rows, airflow_bifrost.results.tally; sys.exit('airflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0


# What a running gateway has sent

NATIVE = [recording for recording in RECORDINGS if recording.call == "batch_results" and "rows" in recording.expected]
FILES = [
    recording for recording in RECORDINGS if recording.call == "file_content" and "\n" in str(recording.answer["body"])
]


def recorded(recording: Recording) -> list[tuple[str, str, str | None, str | None]]:
    lines = (
        recording.answer["body"]["results"]
        if recording.call == "batch_results"
        else [json.loads(line) for line in recording.answer["body"].splitlines() if line.startswith("{")]
    )
    rows = [row for row in map(result_row, lines) if row]
    return [(row.custom_id, str(row.outcome), row.text, row.error and row.error.code) for row in rows]


OPENAI = [("row-1", "succeeded", "Héllo ✓", None), ("row-2", "expired", None, "batch_expired")]
RECORDED = {
    "anthropic": [
        ("row-1", "succeeded", "Hello", None),
        ("row-2", "failed", None, "error"),
        ("row-3", "expired", None, "expired"),
        ("row-4", "cancelled", None, "canceled"),
    ],
    "azure": OPENAI,
    "bedrock": [("row-1", "succeeded", "Hi", None), ("row-2", "failed", None, "400")],
    "gemini": [("row-1", "succeeded", "Hello", None), ("row-2", "failed", None, "3")],
    "openai": OPENAI,
}


@pytest.mark.parametrize("recording", NATIVE, ids=ids)
def test_native_results_of_a_running_gateway_are_read(recording: Recording) -> None:
    invented = recording.name.endswith("_in_response")
    assert recorded(recording) == ([] if invented else RECORDED[recording.provider])


@pytest.mark.parametrize("recording", FILES, ids=ids)
def test_files_of_a_running_gateway_are_read(recording: Recording) -> None:
    rows = recorded(recording)
    assert rows == RECORDED[recording.provider][: len(rows)]


def test_there_are_recordings_of_every_provider() -> None:
    assert {recording.provider for recording in NATIVE} == set(RECORDED)
    assert {recording.provider for recording in FILES} >= {"openai", "azure", "bedrock"}


def test_the_row_that_the_gateway_invents_is_no_result() -> None:
    message = "Batch completed with state: BATCH_STATE_SUCCEEDED. No results available."
    invented = {"custom_id": "info", "response": {"status_code": 200, "body": {"message": message}}}
    assert is_invented(invented)
    assert result_row(invented) is None


def test_a_users_own_row_may_be_called_info() -> None:
    line = {"custom_id": "info", "response": {"status_code": 200, "body": {"text": "No results available"}}}
    assert not is_invented(line)
    assert row_of(line).text == "No results available"


# Outcomes and errors


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"error": {"code": "bad_model", "type": "invalid_request_error", "message": "no"}}, "bad_model", "no"),
        ({"error": {"code": None, "type": "invalid_request_error", "message": "no"}}, "invalid_request_error", "no"),
        ({"error": {"message": "no"}}, "429", "no"),
        ({"error": "no"}, "429", "no"),
        ({"error": {"code": 17, "message": "no"}}, "17", "no"),
        ({"message": "no", "type": "BadRequestError"}, "BadRequestError", "no"),
        ({"error": {}}, "429", None),
        ("<html>", "429", None),
        (None, "429", None),
    ],
)
def test_an_http_error_fails_the_row_and_tells_why(body: Any, code: str, message: str | None) -> None:
    row = answered(body, status=429)
    assert row.outcome == "failed"
    assert row.error is not None
    assert (row.error.code, row.error.message) == (code, message)


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("batch_expired", "expired"),
        ("batch_cancelled", "cancelled"),
        ("batch_canceled", "cancelled"),
        ("4", "expired"),
        (1, "cancelled"),
        ("server_error", "failed"),
        (None, "failed"),
    ],
)
def test_a_row_without_an_answer_says_by_its_error_what_became_of_it(code: Any, outcome: str) -> None:
    row = row_of({"custom_id": "r", "response": None, "error": {"code": code, "message": "no"}})
    assert (row.outcome, row.response, row.text, row.usage) == (outcome, None, None, None)
    assert row.error is not None
    assert row.error.message == "no"


def test_an_answer_that_is_an_error_is_none_whatever_its_http_status() -> None:
    row = answered({"status": "failed", "output": [], "error": {"code": "server_error", "message": "no"}})
    assert (row.outcome, row.error and row.error.code) == ("failed", "server_error")
    answer = [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}]
    assert answered({"status": "completed", "output": answer, "error": None}).outcome == "succeeded"


@pytest.mark.parametrize(
    "line", [{}, {"response": {}}, {"response": None, "error": None}, {"result": {}}, {"result": 7}]
)
def test_what_says_nothing_is_no_success(line: dict[str, Any]) -> None:
    row = row_of({"custom_id": "r", **line})
    assert (row.outcome, row.error and row.error.code) == ("failed", "failed")


def test_anthropics_own_errors_are_read_where_they_came_through() -> None:
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}
    row = row_of({"custom_id": "r", "result": {"type": "errored", "error": error}})
    assert row.error is not None
    assert (row.outcome, row.error.code, row.error.message) == ("failed", "invalid_request_error", "no")


def test_an_unknown_type_of_anthropics_is_no_success() -> None:
    row = row_of({"custom_id": "r", "result": {"type": "paused", "message": {}}})
    assert (row.outcome, row.error and row.error.code) == ("failed", "paused")


def test_bedrocks_errors_are_read_from_its_own_files() -> None:
    row = row_of({"recordId": "r", "modelInput": {}, "error": {"errorCode": 400, "errorMessage": "bad request"}})
    assert row.error is not None
    assert (row.outcome, row.error.code, row.error.message) == ("failed", "400", "bad request")


def test_googles_own_files_are_read() -> None:
    answer = {
        "candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}],
        "modelVersion": "gemini-3",
    }
    row = row_of({"key": "r", "response": answer})
    assert (row.outcome, row.text, row.response, model_of(row.response or {})) == (
        "succeeded",
        "Hi",
        answer,
        "gemini-3",
    )
    assert row_of({"key": "r", "error": {"code": 3, "message": "no"}}).outcome == "failed"


def test_a_message_is_shortened_and_loses_its_keys() -> None:
    key = "sk-" + "a1b2" * 10
    row = answered({"error": {"message": f"Incorrect API key provided: {key}. " + "x" * 1000}}, status=401)
    assert row.error is not None
    assert row.error.message is not None
    assert key not in row.error.message
    assert len(row.error.message) == 500


# Text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (chat("Hi"), "Hi"),
        (chat(""), ""),
        (chat([{"type": "text", "text": "H"}, {"type": "image_url"}, {"type": "text", "text": "i"}]), "Hi"),
        (chat([{"type": "thinking", "text": "hm"}, {"type": "text", "text": "Hi"}]), "Hi"),
        (chat(None, refusal="I cannot"), None),
        (chat("", refusal="I cannot"), None),
        (chat([{"type": "refusal", "refusal": "I cannot"}]), None),
        (chat(None, "tool_calls", tool_calls=[{"id": "1"}]), None),
        ({"choices": [{"text": "Hi", "finish_reason": "stop"}]}, "Hi"),
        ({"choices": []}, None),
        ({"choices": [None]}, None),
        (
            {
                "output": [
                    {"type": "reasoning", "summary": []},
                    {"type": "message", "content": [{"type": "output_text", "text": "H"}, {"type": "refusal"}]},
                    {"type": "message", "content": [{"type": "output_text", "text": "i"}]},
                ]
            },
            "Hi",
        ),
        ({"output": []}, None),
        ({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hi"}]}, "Hi"),
        ({"content": [{"type": "tool_use", "input": {}}]}, None),
        ({"candidates": [{"content": {"parts": [{"text": "hm", "thought": True}, {"text": "Hi"}]}}]}, "Hi"),
        ({"candidates": [{"finishReason": "SAFETY"}]}, None),
        ({"text": "Hi", "finish_reason": "STOP"}, "Hi"),
        ({"data": [{"object": "embedding", "embedding": [0.1]}], "model": "e"}, None),
        ({"embedding": {"values": [0.1]}}, None),
    ],
)
def test_the_assistants_text_is_found_in_every_api(body: dict[str, Any], text: str | None) -> None:
    assert answered(body).text == text


@pytest.mark.parametrize(
    ("output", "finish_reason"),
    [
        ({"content": [{"type": "text", "text": "Hi"}], "stop_reason": "max_tokens"}, "length"),
        (
            {"output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}}, "stopReason": "max_tokens"},
            "length",
        ),
        ({"generation": "Hi", "stop_reason": "length"}, "length"),
        ({"results": [{"outputText": "Hi", "completionReason": "LENGTH"}]}, "length"),
        ({"outputs": [{"text": "Hi", "stop_reason": "length"}]}, "length"),
        (
            {"output": {"message": {"content": [{"text": "Hi"}]}}, "stopReason": "guardrail_intervened"},
            "content_filter",
        ),
        ({"results": [{"outputText": "Hi", "completionReason": "FINISH"}]}, "stop"),
    ],
)
def test_every_family_of_bedrocks_models_is_read(output: dict[str, Any], finish_reason: str) -> None:
    row = bedrock(output)
    assert (row.outcome, row.text, row.finish_reason, row.response) == ("succeeded", "Hi", finish_reason, output)


# Why it ended


def anthropic(reason: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": "Hi"}], "stop_reason": reason}


def gemini(reason: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": reason}]}


def responses(status: str, **more: Any) -> dict[str, Any]:
    return {"status": status, "output": [{"type": "message", "content": []}], **more}


@pytest.mark.parametrize(
    ("body", "finish_reason"),
    [
        (chat(finish_reason="length"), "length"),
        (chat(finish_reason="eos"), "eos"),
        (chat(finish_reason=None), None),
        (chat(finish_reason=7), None),
        (anthropic("end_turn"), "stop"),
        (anthropic("stop_sequence"), "stop"),
        (anthropic("max_tokens"), "length"),
        (anthropic("model_context_window_exceeded"), "length"),
        (anthropic("tool_use"), "tool_calls"),
        (anthropic("refusal"), "content_filter"),
        (anthropic("pause_turn"), "pause_turn"),
        (gemini("STOP"), "stop"),
        (gemini("MAX_TOKENS"), "length"),
        (gemini("SAFETY"), "content_filter"),
        (gemini("OTHER"), "OTHER"),
        ({"promptFeedback": {"blockReason": "SAFETY"}}, "content_filter"),
        ({"text": "Hi", "finish_reason": "MAX_TOKENS"}, "length"),
        (responses("completed"), "stop"),
        (responses("completed", output=[{"type": "function_call"}]), "tool_calls"),
        (responses("incomplete", incomplete_details={"reason": "max_output_tokens"}), "length"),
        (responses("incomplete", incomplete_details={"reason": "content_filter"}), "content_filter"),
        (responses("incomplete"), "incomplete"),
    ],
)
def test_the_finish_reason_is_in_openais_words(body: dict[str, Any], finish_reason: str | None) -> None:
    assert answered(body).finish_reason == finish_reason


# Usage


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        ({"usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}}, (9, 3, 12)),
        ({"usage": {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12}}, (9, 3, 12)),
        ({"usage": {"prompt_tokens": 9, "total_tokens": 9}}, (9, None, 9)),  # embeddings
        ({"usage": {"input_tokens": 9, "output_tokens": 3}}, (9, 3, 12)),
        ({"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3, "totalTokenCount": 12}}, (9, 3, 12)),
        ({"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": 5}}, (9, 8, 17)),
        ({"usageMetadata": {"promptTokenCount": 9, "thoughtsTokenCount": 5, "totalTokenCount": 14}}, (9, 5, 14)),
        ({"usage": {"inputTokens": 9, "outputTokens": 3, "totalTokens": 12}}, (9, 3, 12)),  # Nova
        ({"generation": "", "prompt_token_count": 9, "generation_token_count": 3}, (9, 3, 12)),  # Llama
        ({"inputTextTokenCount": 9, "results": [{"tokenCount": 3, "outputText": ""}]}, (9, 3, 12)),  # Titan
        ({"usage": {"prompt_tokens": "9", "completion_tokens": True, "total_tokens": 12}}, (None, None, 12)),
    ],
)
def test_tokens_are_counted_in_every_api(body: dict[str, Any], usage: tuple[int | None, ...]) -> None:
    assert answered(body).usage == Usage(*usage)


def test_tokens_that_anthropic_has_cached_are_input_as_everywhere_else() -> None:
    usage = {"input_tokens": 1, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 300, "output_tokens": 3}
    assert answered({"usage": usage}).usage == Usage(321, 3, 324)


@pytest.mark.parametrize("usage", [None, {}, [], "9", {"prompt_tokens": -1}, {"total_tokens": 10**30}])
def test_no_usage_is_null(usage: Any) -> None:
    assert answered({"usage": usage}).usage is None


# Untidy lines


@pytest.mark.parametrize("line", [None, 7, "x", [], {}, {"custom_id": ""}, {"custom_id": 7}, {"custom_id": None}])
def test_a_line_that_is_about_no_row_gives_none(line: Any) -> None:
    assert result_row(line) is None


WORDS = """custom_id recordId key response result error modelOutput status_code body type message code choices content text parts
finish_reason output candidates usage usageMetadata prompt_tokens results outputs generation status thought refusal model"""
NAMES = st.sampled_from(WORDS.split())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just("succeeded"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=30,
)


@settings(deadline=None, max_examples=300)
@given(JSON)
def test_no_line_ever_raises_and_every_row_keeps_the_contract(line: Any) -> None:
    row = result_row({"custom_id": "r", **line} if isinstance(line, dict) else line)
    if row is not None:
        assert (row.error is None) == (row.outcome == "succeeded")
        assert row.text is None or isinstance(row.text, str)
        assert row.usage is None or row.usage.total_tokens is not None
        assert model_of(row.response or {}) is None or isinstance(model_of(row.response or {}), str)
