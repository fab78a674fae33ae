"""One result -> what is kept of it until the rows are written: the row as JSON, and what the counts and the join need. Pure.

Two ways lead there. :func:`record_of` reads everything. :func:`quick_record` reads the line that nearly all results are, a chat completion of
OpenAI's files that succeeded, several times faster: the answer is not made into objects and back, but goes into the row in the bytes in
which it came. What is in any way unusual it leaves to the former, which says the same of these lines.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from pydantic import TypeAdapter

from airflow_bifrost.gateway.models import read_json
from airflow_bifrost.results.rows import (
    MAX_TOKENS,
    ResultRow,
    RowError,
    RowOutcome,
    Usage,
    may_pass,
    model_of,
    result_row,
)
from airflow_bifrost.results.validation import validated


class Record(NamedTuple):
    """:param row: as JSON."""

    custom_id: str
    outcome: str
    may_pass: bool
    cut_off: bool
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    row: bytes


def record_of(value: Any, adapter: TypeAdapter[Any] | None) -> Record | None:
    """The record of a line of any upstream; None: it is about no row.

    :param value: the line as JSON types.
    :param adapter: of the type that the answer is to be of, see :func:`airflow_bifrost.results.validation.validated`.
    """
    row = result_row(value)
    if row is None:
        return None
    try:
        encoded = encode(row)
    except UnicodeEncodeError:
        row = result_row(mended(value)) or row
        encoded = encode(row)
    if adapter is not None:
        row = validated(row, adapter)
        encoded = encode(row)
    return _record(row, encoded, passing=may_pass(value, row))


def quick_record(line: bytes) -> Record | None:
    """The record of the usual line; None: it is another, or perhaps another, or no JSON."""
    try:
        line.isascii() or line.decode()  # msgspec does not look at what it passes over
        said = _decode_line(line)
        body = _decode_body(said.response.body)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # the first is no ValueError before msgspec 0.22
        return None
    choice, usage = body.choices[0], body.usage
    text, reason = choice.message.content, choice.finish_reason
    tokens = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
    row = _Row(said.custom_id, _SUCCEEDED, text, reason, None, said.response.body, None, _RowUsage(*tokens))
    return Record(said.custom_id, _SUCCEEDED, False, reason == "length", body.model, *tokens, encode(row))


def absent_record(custom_id: str, outcome: RowOutcome, error: RowError) -> Record:
    """The record of a row for which nothing came."""
    row = ResultRow(mended(custom_id), outcome, error=error)
    return _record(row, encode(row), passing=may_pass(None, row))


def mended(value: Any) -> Any:
    """JSON types with halves of surrogate pairs replaced, as :func:`read_json` does: nothing can encode them."""
    if isinstance(value, str) and value.isascii():
        return value
    return read_json(json.dumps(value).encode())


encode = msgspec.json.Encoder().encode


def _record(row: ResultRow, encoded: bytes, *, passing: bool) -> Record:
    usage = row.usage or Usage()
    return Record(
        row.custom_id,
        row.outcome.value,
        passing,
        row.finish_reason == "length",
        model_of(row),
        usage.input_tokens,
        usage.output_tokens,
        usage.total_tokens,
        encoded,
    )


# The usual line. A member that is not as it stands here makes it another.

_SUCCEEDED = RowOutcome.SUCCEEDED.value
_Name = Annotated[str, msgspec.Meta(min_length=1)]
_Tokens = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]


class _Message(msgspec.Struct):
    content: str | None
    refusal: None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: Literal["stop", "length", "content_filter", "tool_calls"]


class _Usage(msgspec.Struct):
    prompt_tokens: _Tokens
    completion_tokens: _Tokens
    total_tokens: _Tokens


class _Body(msgspec.Struct):
    model: _Name
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]
    usage: _Usage
    error: None = None
    message: None = None  # the gateway's invented row has one


class _Response(msgspec.Struct):
    status_code: Annotated[int, msgspec.Meta(ge=200, lt=300)]
    body: msgspec.Raw


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    custom_id: _Name
    response: _Response
    id: msgspec.Raw = msgspec.Raw(b"null")
    error: None = None


# What is written: as ResultRow and Usage, which are slower to make.


class _RowUsage(msgspec.Struct):
    input_tokens: int
    output_tokens: int
    total_tokens: int


class _Row(msgspec.Struct):
    custom_id: str
    outcome: str
    text: str | None
    finish_reason: str | None
    output: None
    response: msgspec.Raw
    error: None
    usage: _RowUsage


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_body = msgspec.json.Decoder(_Body).decode
