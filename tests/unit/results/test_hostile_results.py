"""Hostile results: a line or a value without end, and any number of models and error codes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import chain
from typing import Any

import pytest

from airflow_bifrost.exceptions import BifrostProtocolError
from airflow_bifrost.results.completeness import Promise
from airflow_bifrost.results.ids import CustomIds
from airflow_bifrost.results.lines import MAX_LINE, TooLong, lines_of
from airflow_bifrost.results.native import MAX_DIGITS, MAX_VALUE, entries
from airflow_bifrost.results.raw import RawLines
from airflow_bifrost.results.reasons import MAX_NAMES, OTHER
from airflow_bifrost.results.source import Source
from airflow_bifrost.results.writer import ResultsWriter

CHUNK = 2**18
TOKEN = "sk-bf-0123456789abcdef"


class Endless:
    """Chunks of an answer that does not end, and how many of them were read."""

    def __init__(self, begin: bytes, filling: bytes) -> None:
        self.begin = begin
        self.filling = (filling * CHUNK)[:CHUNK]
        self.read = 0

    def __iter__(self) -> Iterator[bytes]:
        yield self.begin
        while True:
            self.read += 1
            assert self.read <= 2 * MAX_LINE // CHUNK, "read on without end"
            yield self.filling


def read(chunks: Any, sink: Any, *, native: bool = False) -> Any:
    source = Source("the output file f1", lambda: nullcontext(iter(chunks)), lambda _: Promise(), native=native)
    return source.read(sink, lambda _: None)


SINKS: list[Callable[[], Any]] = [ResultsWriter, RawLines, CustomIds]


@pytest.mark.parametrize("sink", SINKS)
def test_a_line_without_end_is_an_error_that_names_its_row_and_is_not_repeated(sink: Callable[[], Any]) -> None:
    chunks = Endless(b'{"custom_id": "row-7", "response": "', b"x")
    with pytest.raises(BifrostProtocolError, match=r"line of row 'row-7' has more than 134,217,728 bytes") as caught:
        read(chunks, sink())
    assert caught.value.transient is False
    assert "paid for" in str(caught.value)
    assert chunks.read == MAX_LINE // CHUNK


def test_a_line_that_is_as_long_as_allowed_is_read() -> None:
    assert list(lines_of([b"ab", b"cd\nef", b"gh"], 4)) == [b"abcd", b"efgh"]
    with pytest.raises(TooLong):
        list(lines_of([b"ab\nc", b"defg"], 4))


def test_a_native_value_without_end_is_an_error_that_names_its_row() -> None:
    chunks = Endless(b'{"results": [{"custom_id": "row-7", "result": "', b"x")
    with pytest.raises(
        BifrostProtocolError, match="value of row 'row-7' has more than 67,108,864 characters"
    ) as caught:
        read(chunks, CustomIds(), native=True)
    assert caught.value.transient is False
    assert chunks.read <= MAX_VALUE // CHUNK + 2


@pytest.mark.parametrize(
    "begin",
    [
        b'{"results": [ oops ',
        b'{"results": [{"custom_id": "1"}, {"custom_id": }',
        b'{"results": [{"custom_id" "1"}',
        b'{"results": [[1 2',
        b'{"batch_id": nope',
        b'{"results": [{"a": "\x01"}',
        b'{"results": [{"a": "\\q"}',
        b"{oops",
    ],
)
def test_a_syntax_error_ends_the_reading_at_once(begin: bytes) -> None:
    chunks = Endless(begin, b" ")
    with pytest.raises(ValueError, match=r"not JSON|not a JSON object"):
        list(entries(chunks))
    assert chunks.read <= 1


@pytest.mark.parametrize("begin", [b'{"results": [1', b'{"results": [{"a": [1', b'{"a": -1', b'{"results": [0.'])
def test_a_number_without_end_is_an_error_before_it_is_read_again_and_again(begin: bytes) -> None:
    chunks = Endless(begin, b"1")
    with pytest.raises(ValueError, match=r"digits|integer string conversion|more than"):
        list(entries(chunks))
    assert chunks.read <= MAX_VALUE // CHUNK + 2


def test_a_number_as_long_as_allowed_is_read_from_any_chunks() -> None:
    digits = "1" * MAX_DIGITS
    body = f'{{"results": [{digits}]}}'.encode()
    assert [str(value) for value in entries(body[at : at + 64] for at in range(0, len(body), 64))] == [digits]


# Models and codes


def chat(custom_id: str, model: str, **choice: Any) -> bytes:
    body = {
        "model": model,
        "choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop", **choice}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
    return json.dumps({"custom_id": custom_id, "response": {"status_code": 200, "body": body}, "error": None}).encode()


def failed(custom_id: str, code: str) -> bytes:
    line = {"custom_id": custom_id, "response": None, "error": {"code": code, "message": f"about {code}"}}
    return json.dumps(line).encode()


def written(lines: Iterator[bytes] | list[bytes], path: Any) -> Any:
    with ResultsWriter(token=TOKEN) as results:
        results.add_lines(line + b"\n" for line in lines)
        return results.write(results.custom_ids(), path)


def test_models_are_bounded_in_number_and_length_and_the_rest_is_counted_as_other(tmp_path: Any) -> None:
    honest = [chat("0", "gpt-a"), chat("1", "gpt-b")]
    invented = (chat(str(number), f"invented-{number}-" + "x" * 5000) for number in range(2, 2000))
    tally = written(chain(honest, invented, [chat("last", "gpt-a")]), tmp_path / "out.jsonl")
    assert len(tally.usage_by_model) == MAX_NAMES + 1
    assert all(len(model) <= 100 for model in tally.usage_by_model)
    assert tally.usage_by_model["gpt-a"].total_tokens == 6
    assert sum(usage.total_tokens for usage in tally.usage_by_model.values()) == tally.usage.total_tokens == 3 * 2001
    assert tally.usage_by_model[OTHER].total_tokens == 3 * (2001 - 1 - MAX_NAMES)


@pytest.mark.parametrize(
    "text", [TOKEN, f"a {TOKEN}", "a\n\x1b[31mforged", TOKEN.encode().hex(), "sk-ant-api03-abcdef"]
)
def test_neither_the_token_nor_a_forged_line_gets_into_models_and_error_codes(text: str, tmp_path: Any) -> None:
    path = tmp_path / "out.jsonl"
    tally = written([chat("0", text), failed("1", text)], path)
    _, row = map(json.loads, path.read_text().splitlines())
    shown = [*tally.usage_by_model, row["error"]["code"], row["error"]["message"]]
    assert all(line.isprintable() for line in shown)
    assert not any(secret in line for line in shown for secret in (TOKEN, TOKEN.encode().hex(), "sk-ant-api03"))
