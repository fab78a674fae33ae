"""A number that JSON cannot hold is written as a string, and never as null."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from airflow_bifrost.results.lines import finite, parse_line
from airflow_bifrost.results.native import entries
from airflow_bifrost.results.records import quick_record, record_of

UNUSUAL = {
    "NaN": "NaN",
    "Infinity": "Infinity",
    "-Infinity": "-Infinity",
    "1e999": "1e999",
    "-1.5e400": "-1.5e400",
    "123456789012345678901234567890": 123456789012345678901234567890,
    "0.1": 0.1,
}
BODY = '{"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}], "logprob": %s}'


def strict(row: bytes) -> Any:
    """Parse strict JSON: NaN and infinities are errors."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(row, parse_constant=refuse)


@pytest.mark.parametrize(("sent", "written"), UNUSUAL.items(), ids=UNUSUAL)
def test_a_number_in_a_response_is_written_unchanged_or_as_a_string(sent: str, written: Any) -> None:
    line = b'{"custom_id": "r", "response": {"status_code": 200, "body": ' + (BODY % sent).encode() + b"}}"
    for value in (parse_line(line), next(entries([b'{"results": [' + line + b"]}"]))):
        record = record_of(value, None)
        assert record is not None
        row = strict(record.row)
        assert (row["outcome"], row["response"]["logprob"]) == ("succeeded", written)


@pytest.mark.parametrize("sent", UNUSUAL)
def test_the_quick_way_writes_json_or_leaves_the_line_to_the_general_way(sent: str) -> None:
    usage = b', "model": "m", "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}'
    line = b'{"custom_id": "r", "response": {"status_code": 200, "body": ' + (BODY % sent).encode()[:-1] + usage + b"}}"
    if record := quick_record(line):
        assert f'"logprob": {sent}'.encode() in record.row
        strict(record.row)


class Measured(BaseModel):
    value: float
    more: dict[str, list[float]] = {}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", '"NaN"', "1e999"])
@pytest.mark.parametrize("tool", [False, True], ids=["text", "tool call"])
def test_a_validated_number_that_json_cannot_hold_is_not_written_as_null(number: str, tool: bool) -> None:
    answer = f'{{"value": {number}, "more": {{"x": [1.5, {number}]}}}}'
    call = {"function": {"name": "f", "arguments": answer}}
    message = {"content": None, "tool_calls": [call]} if tool else {"content": answer}
    body = {"choices": [{"message": message, "finish_reason": "stop"}]}
    adapter = TypeAdapter(Measured)
    record = record_of({"custom_id": "r", "response": {"status_code": 200, "body": body}}, adapter)
    assert record is not None
    row = strict(record.row)
    assert row["outcome"] == "succeeded"
    expected = adapter.validate_json(answer)
    assert isinstance(row["output"]["value"], str)
    assert repr(adapter.validate_python(row["output"])) == repr(expected)  # NaN is not equal to itself


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=10,
    )
)
def test_only_floats_that_json_cannot_hold_are_changed(value: Any) -> None:
    def same(before: Any, after: Any) -> bool:
        if isinstance(before, float) and not math.isfinite(before):
            return isinstance(after, str) and repr(float(after)) == repr(before)
        if isinstance(before, dict):
            return before.keys() == after.keys() and all(same(before[name], after[name]) for name in before)
        if isinstance(before, list):
            return len(before) == len(after) and all(map(same, before, after))
        return bool(before == after)

    assert same(value, finite(value))
    strict(json.dumps(finite(value)).encode())
