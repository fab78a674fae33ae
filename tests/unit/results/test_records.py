"""``quick_record`` returns the same record as ``record_of``, or None."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conformance.recordings import RECORDINGS
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_bifrost.results.lines import parse_line
from airflow_bifrost.results.records import quick_record, record_of
from airflow_bifrost.results.rows import COLUMNS

USUAL = {
    "id": "batch_req_1",
    "custom_id": "row-000000001",
    "response": {
        "status_code": 200,
        "request_id": "req_1",
        "body": {
            "id": "chatcmpl-1",
            "model": "gpt-4o-mini",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": 'Hé 😀\n"!"', "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "x": {"cached_tokens": 1.5}},
            "service_tier": "default",
        },
    },
    "error": None,
}
LINE = json.dumps(USUAL).encode()


def is_the_same_or_left_to_the_general_way(line: bytes) -> None:
    quick = quick_record(line)
    if quick is None:
        return
    general = record_of(parse_line(line), None)
    assert general is not None
    assert quick[:-1] == general[:-1]
    assert parse_line(quick.row) == parse_line(general.row)


def line_with(changes: dict[str, Any], **kwargs: Any) -> bytes:
    """The usual line with different values at some places, such as ``response.body.choices.0.message.content``."""
    line = json.loads(LINE)
    for path, value in changes.items():
        *parents, name = path.split(".")
        at: Any = line
        for parent in parents:
            at = at[int(parent) if isinstance(at, list) else parent]
        at[name] = value
    return json.dumps(line, **kwargs).encode(errors="surrogatepass")


@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_the_usual_line_is_read_the_quick_way(ensure_ascii: bool) -> None:
    line = json.dumps(USUAL, ensure_ascii=ensure_ascii).encode()
    record = quick_record(line)
    assert record is not None
    row = json.loads(record.row)
    assert tuple(row) == COLUMNS
    assert row["response"] == USUAL["response"]["body"]  # type: ignore[index]
    is_the_same_or_left_to_the_general_way(line)


def test_a_response_keeps_its_bytes() -> None:
    body = b'{ "model": "m", "choices": [{"message": {"content": "\\u0041"}, "finish_reason": "stop"}], "x": 1.50, "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2} }'
    record = quick_record(b'{"custom_id": "r", "response": {"status_code": 200, "body": ' + body + b"}}")
    assert record is not None
    assert b'"text":"A"' in record.row
    assert b'"response":' + body in record.row


def test_text_that_cannot_be_encoded_is_left_to_the_general_way() -> None:
    for text in (b"\\ud83d", b"\\ude00", b"\\ud83d\\u0041", b"\\ude00\\ud83d", b"\xff", b"\xed\xa0\x80"):
        assert quick_record(LINE.replace(b"default", text)) is None
        assert quick_record(LINE.replace(b"H\\u00e9", text)) is None


@pytest.mark.parametrize("member", ["result", "modelOutput", "recordId", "key"])
def test_a_line_with_a_member_of_another_provider_is_left_to_the_general_way(member: str) -> None:
    assert quick_record(line_with({member: {"type": "errored"}})) is None


FILES = [str(recording.answer["body"]) for recording in RECORDINGS if recording.call == "file_content"]


def test_recorded_lines_are_read_the_same_both_ways() -> None:
    lines = [line.encode() for file in FILES for line in file.splitlines() if line.startswith("{")]
    for line in lines:
        is_the_same_or_left_to_the_general_way(line)
    assert any(quick_record(line) for line in lines)


BODY = "response.body."
PLACES = [
    *("custom_id", "error", "result", "key", "response.status_code", "response.error"),
    *(BODY + name for name in ("model", "error", "message", "usage", "choices", "output", "modelVersion", "text")),
    *(f"{BODY}choices.0.{name}" for name in ("message", "finish_reason", "message.content", "message.refusal")),
    *(f"{BODY}usage.{name}" for name in ("prompt_tokens", "completion_tokens", "total_tokens", "input_tokens")),
]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS | st.sampled_from(["", "info", "length", "No results available", 2**53, 2**53 + 1, 199, 300, 299.0]),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, max_examples=500)
@given(st.dictionaries(st.sampled_from(PLACES), VALUES, max_size=1), st.booleans())
@example({"custom_id": "info"}, True)
def test_other_values_at_any_place_are_read_the_same_both_ways(changes: dict[str, Any], ensure_ascii: bool) -> None:
    is_the_same_or_left_to_the_general_way(line_with(changes, ensure_ascii=ensure_ascii))


@settings(deadline=None, max_examples=500)
@given(
    st.integers(0, len(LINE)),
    st.integers(0, 8),
    st.binary(max_size=4) | st.sampled_from([b"e9", b"NaN", b'"', b"\\", b"null", b'"error": {"code": "x"}, ']),
)
def test_a_damaged_line_is_read_the_same_both_ways(start: int, length: int, damage: bytes) -> None:
    line = LINE[:start] + damage + LINE[start + length :]
    try:
        parse_line(line)
    except ValueError:
        assert quick_record(line) is None
    else:
        is_the_same_or_left_to_the_general_way(line)


@pytest.mark.parametrize("name", ["custom_id", "content", "finish_reason", "total_tokens", "choices", "usage", "model"])
@pytest.mark.parametrize("second", [b"null", b'"twice"', b"7", b"[]", b"{}"])
def test_the_last_of_repeated_members_counts_both_ways(name: str, second: bytes) -> None:
    quoted = b'"%b": ' % name.encode()
    is_the_same_or_left_to_the_general_way(LINE.replace(quoted, quoted + second + b", " + quoted))
    after = LINE.replace(quoted, b'"x": 1, ' + quoted)
    is_the_same_or_left_to_the_general_way(after.replace(b'"x": 1', quoted + second))
