"""A line of any provider becomes a result row."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conformance.recordings import RECORDINGS, Recording, differing
from hypothesis import given, settings
from hypothesis import strategies as st
from support.result_lines import answered, row_of

from airflow_bifrost.results.answers import model_of
from airflow_bifrost.results.parse import is_placeholder, result_row

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
    "vertex": [("row-1", "succeeded", "Hello", None), ("row-2", "failed", None, "400")],
}


def test_native_results_of_a_running_gateway_are_read() -> None:
    def compare(recording: Recording) -> tuple[Any, Any]:
        without_rows = recording.name.endswith(("_in_response", "_no_objects"))
        return recorded(recording), [] if without_rows else RECORDED[recording.provider]

    assert differing(NATIVE, compare) == {}


def test_files_of_a_running_gateway_are_read() -> None:
    def compare(recording: Recording) -> tuple[Any, Any]:
        rows = recorded(recording)
        return rows, RECORDED[recording.provider][: len(rows)]

    assert differing(FILES, compare) == {}


def test_there_are_recordings_of_every_provider() -> None:
    assert {recording.provider for recording in NATIVE} == set(RECORDED)
    assert {recording.provider for recording in FILES} >= {"openai", "azure", "bedrock"}


def test_a_row_that_the_gateway_invents_is_not_a_result() -> None:
    message = "Batch completed with state: BATCH_STATE_SUCCEEDED. No results available."
    invented = {"custom_id": "info", "response": {"status_code": 200, "body": {"message": message}}}
    assert is_placeholder(invented)
    assert result_row(invented) is None


def test_a_row_of_the_user_may_be_called_info() -> None:
    line = {"custom_id": "info", "response": {"status_code": 200, "body": {"text": "No results available"}}}
    assert not is_placeholder(line)
    assert row_of(line).text == "No results available"


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
def test_an_http_error_fails_the_row_and_gives_the_reason(body: Any, code: str, message: str | None) -> None:
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
def test_the_error_code_of_a_row_without_a_response_decides_its_outcome(code: Any, outcome: str) -> None:
    row = row_of({"custom_id": "r", "response": None, "error": {"code": code, "message": "no"}})
    assert (row.outcome, row.response, row.text, row.usage) == (outcome, None, None, None)
    assert row.error is not None
    assert row.error.message == "no"


def test_a_response_with_an_error_fails_the_row_with_any_http_status() -> None:
    row = answered({"status": "failed", "output": [], "error": {"code": "server_error", "message": "no"}})
    assert (row.outcome, row.error and row.error.code) == ("failed", "server_error")
    answer = [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}]
    assert answered({"status": "completed", "output": answer, "error": None}).outcome == "succeeded"


@pytest.mark.parametrize(
    "line", [{}, {"response": {}}, {"response": None, "error": None}, {"result": {}}, {"result": 7}]
)
def test_a_line_without_any_response_is_a_failure(line: dict[str, Any]) -> None:
    row = row_of({"custom_id": "r", **line})
    assert (row.outcome, row.error and row.error.code) == ("failed", "failed")


def test_anthropics_own_errors_are_read_if_the_gateway_keeps_them() -> None:
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}
    row = row_of({"custom_id": "r", "result": {"type": "errored", "error": error}})
    assert row.error is not None
    assert (row.outcome, row.error.code, row.error.message) == ("failed", "invalid_request_error", "no")


def test_an_unknown_result_type_of_anthropic_is_a_failure() -> None:
    row = row_of({"custom_id": "r", "result": {"type": "paused", "message": {}}})
    assert (row.outcome, row.error and row.error.code) == ("failed", "paused")


def test_errors_in_bedrocks_own_files_are_read() -> None:
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


def test_an_error_message_is_shortened_and_keys_in_it_are_redacted() -> None:
    key = "sk-" + "a1b2" * 10
    row = answered({"error": {"message": f"Incorrect API key provided: {key}. " + "x" * 1000}}, status=401)
    assert row.error is not None
    assert row.error.message is not None
    assert key not in row.error.message
    assert len(row.error.message) == 500


@pytest.mark.parametrize("line", [None, 7, "x", [], {}, {"custom_id": ""}, {"custom_id": 7}, {"custom_id": None}])
def test_a_line_without_a_rows_result_gives_no_row(line: Any) -> None:
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
def test_no_line_raises_and_every_row_keeps_the_contract(line: Any) -> None:
    row = result_row({"custom_id": "r", **line} if isinstance(line, dict) else line)
    if row is not None:
        assert (row.error is None) == (row.outcome == "succeeded")
        assert row.text is None or isinstance(row.text, str)
        assert row.usage is None or row.usage.total_tokens is not None
        assert model_of(row.response or {}) is None or isinstance(model_of(row.response or {}), str)
