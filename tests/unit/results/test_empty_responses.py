"""A row succeeds only if it has an answer. The HTTP status does not suffice."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from airflow_bifrost.results.parse import result_row
from airflow_bifrost.results.records import quick_record, record_of
from airflow_bifrost.results.rows import ResultRow
from airflow_bifrost.results.transient import is_transient


def line_of(body: Any) -> dict[str, Any]:
    return {"custom_id": "r", "response": {"status_code": 200, "request_id": "req_1", "body": body}, "error": None}


def row_of(line: dict[str, Any]) -> ResultRow:
    row = result_row(line)
    assert row is not None
    return row


def chat(message: Any, finish_reason: str = "stop") -> dict[str, Any]:
    return {"id": "c", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]}


ABSENT = {"custom_id": "r", "response": {"status_code": 200, "request_id": "req_1"}, "error": None}
NO_ANSWER = {
    "body null": line_of(None),
    "body a list": line_of([]),
    "body a list of objects": line_of([chat({"content": "Hi"})]),
    "body an empty string": line_of(""),
    "body a string of no JSON": line_of("<html>"),
    "body a string of a list": line_of("[]"),
    "body a number": line_of(7),
    "body empty": line_of({}),
    "body absent": ABSENT,
    "body of nulls": line_of({"message": None, "usage": None}),
    "choices null": line_of({"model": "m", "choices": None}),
    "no choices": line_of({"model": "m", "choices": []}),
    "choice null": line_of({"model": "m", "choices": [None]}),
    "message null": line_of(chat(None)),
    "message absent": line_of({"model": "m", "choices": [{"finish_reason": "stop"}]}),
    "message a string": line_of(chat("Hi")),
    "message without content": line_of(chat({"role": "assistant", "content": None, "refusal": None, "tool_calls": []})),
    "text null": line_of({"choices": [{"text": None, "finish_reason": "stop"}]}),
    "output null": line_of({"status": "completed", "output": None}),
    "no output": line_of({"status": "completed", "output": []}),
    "no embeddings": line_of({"model": "e", "data": []}),
    "Anthropic: message null": {"custom_id": "r", "result": {"type": "succeeded", "message": None}},
    "Anthropic: message absent": {"custom_id": "r", "result": {"type": "succeeded"}},
    "Anthropic: content null": {"custom_id": "r", "result": {"type": "succeeded", "message": {"content": None}}},
    "Bedrock: message null": {"recordId": "r", "modelOutput": {"output": {"message": None}}},
    "Bedrock: no content": {"recordId": "r", "modelOutput": {"content": [], "id": "m"}},
    "Gemini: no candidates": {"key": "r", "response": {"candidates": [], "modelVersion": "g"}},
    "Gemini: candidate empty": {"key": "r", "response": {"candidates": [{}], "modelVersion": "g"}},
}


@pytest.mark.parametrize("line", NO_ANSWER.values(), ids=NO_ANSWER)
def test_a_success_without_an_answer_is_a_failed_row_that_may_be_sent_again(line: dict[str, Any]) -> None:
    row = row_of(line)
    assert row.outcome == "failed"
    assert row.error is not None
    assert row.error.code == "empty_response"
    assert row.text is None or line["response"]["body"]["choices"][0]["message"] == "Hi"
    assert is_transient(line, row)
    assert quick_record(json.dumps(line).encode()) is None


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ANSWERS = {
    "empty text": line_of(chat({"content": ""})),
    "a refusal": line_of(chat({"content": None, "refusal": "I cannot"})),
    "a tool call": line_of(chat({"content": None, "tool_calls": [CALL]}, "tool_calls")),
    "audio": line_of(chat({"content": None, "audio": {"id": "a"}})),
    "cut off before the first word": line_of(chat({"content": None}, "length")),
    "stopped by a filter": line_of(chat({"content": None}, "content_filter")),
    "a completion": line_of({"choices": [{"text": "", "finish_reason": "stop"}]}),
    "an embedding": line_of({"data": [{"embedding": [0.1]}]}),
    "another API": line_of({"id": "x", "object": "something.new"}),
    "a response that was cut off": line_of(
        {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": []}
    ),
    "Anthropic: a turn without a word": {
        "custom_id": "r",
        "result": {"type": "succeeded", "message": {"content": [], "stop_reason": "end_turn"}},
    },
    "Gemini: a candidate that a filter stopped": {"key": "r", "response": {"candidates": [{"finishReason": "SAFETY"}]}},
    "Gemini: a prompt that was refused": {"key": "r", "response": {"promptFeedback": {"blockReason": "SAFETY"}}},
    "Gemini: what the gateway leaves": line_of({"text": "Hi", "finish_reason": "STOP"}),
    "Bedrock: Llama": {"recordId": "r", "modelOutput": {"generation": "", "stop_reason": "stop"}},
    "Bedrock: Titan": {"recordId": "r", "modelOutput": {"results": [{"outputText": ""}]}},
}


@pytest.mark.parametrize("line", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_need_not_have_text(line: dict[str, Any]) -> None:
    assert row_of(line).outcome == "succeeded"


# Responses that are strings of JSON


class Pen(BaseModel):
    price: float


ANSWER = chat({"content": '{"price": 1.5}'}) | {
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
}
STRINGS = {
    "body": line_of(json.dumps(ANSWER)),
    "body, indented": line_of("\n" + json.dumps(ANSWER, indent=2)),
    "response": {"custom_id": "r", "response": json.dumps({"status_code": 200, "body": ANSWER})},
    "Bedrock": {"recordId": "r", "modelOutput": json.dumps(ANSWER)},
    "Anthropic": {"custom_id": "r", "result": {"type": "succeeded", "message": json.dumps(ANSWER)}},
}


@pytest.mark.parametrize("adapter", [None, TypeAdapter(Pen)], ids=["any answer", "output_type"])
@pytest.mark.parametrize("line", STRINGS.values(), ids=STRINGS)
def test_a_response_that_is_a_json_string_is_parsed(line: dict[str, Any], adapter: TypeAdapter[Any] | None) -> None:
    record = record_of(line, adapter)
    assert record is not None
    assert record.tokens == (1, 2, 3)
    row = json.loads(record.row)
    assert (row["outcome"], row["text"], row["response"]) == ("succeeded", '{"price": 1.5}', ANSWER)
    assert row["output"] == (None if adapter is None else {"price": 1.5})


def test_an_error_in_a_json_string_is_read() -> None:
    body = json.dumps({"error": {"code": "bad", "message": "no"}})
    row = row_of({"custom_id": "r", "response": {"status_code": 400, "body": body}})
    assert row.error is not None
    assert (row.outcome, row.error.code, row.error.message) == ("failed", "bad", "no")


def test_an_answer_that_is_missing_does_not_become_invalid_output() -> None:
    record = record_of(line_of(None), TypeAdapter(Pen))
    assert record is not None
    assert json.loads(record.row)["error"]["code"] == "empty_response"
