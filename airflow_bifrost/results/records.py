"""Turns a result into the record that is kept until the rows are written: the row as JSON, and the values for counts and join. Pure.

:func:`record_of` reads every line. :func:`quick_record` reads only the most common line, a succeeded chat completion in OpenAI's form. It
is several times faster, because it copies the response's bytes into the row instead of decoding and encoding them. It leaves all other
lines to :func:`record_of`. For lines that both can read, both return the same record.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from pydantic import TypeAdapter

from airflow_bifrost.gateway.redact import without_token
from airflow_bifrost.results.answers import model_of
from airflow_bifrost.results.lines import well_formed
from airflow_bifrost.results.members import MAX_NUMBER
from airflow_bifrost.results.parse import result_row
from airflow_bifrost.results.rows import ResultRow, RowError, RowOutcome, Usage
from airflow_bifrost.results.transient import EMPTY_RESPONSE, is_transient
from airflow_bifrost.results.validation import INVALID_OUTPUT, validated


class ResultRecord(NamedTuple):
    """The record of a result.

    :param flags: the index of the outcome in :data:`OUTCOMES`, combined with any of ``TRANSIENT``, ``CUT_OFF`` and ``INVALID``.
    :param tokens: input, output and total tokens; None for a count that the provider did not send.
    :param row: the row as JSON.
    """

    custom_id: str
    flags: int
    model: str | None
    tokens: tuple[int | None, int | None, int | None]
    row: bytes


OUTCOMES = tuple(RowOutcome)  # ``succeeded`` is the first
OUTCOME = 0b111  # the bits of the flags that hold the index of the outcome
TRANSIENT = 1 << 3  # the row may succeed if it is sent again: see airflow_bifrost.results.transient.is_transient
CUT_OFF = 1 << 4  # finish_reason is ``length``
INVALID = 1 << 5  # the provider reports a success, but the answer is missing or fails validation


def record_of(value: Any, adapter: TypeAdapter[Any] | None, token: str | None = None) -> ResultRecord | None:
    """The record of a line of any provider; None if the line has no row's result.

    :param value: the line as JSON types.
    :param adapter: adapter of the type that each answer must have, see :func:`airflow_bifrost.results.validation.validated`.
    :param token: the connection's token, masked in the error.
    """
    row = _row_of(value, token)
    if row is None:
        return None
    try:
        encoded = encode(row)
    except UnicodeEncodeError:
        row = _row_of(well_formed(value), token) or row
        encoded = encode(row)
    if adapter is not None:
        try:
            row = validated(row, adapter)
        except Exception as error:
            error.add_note(
                f"This happened with the answer of row {row.custom_id!r}. To reject an answer, a validator must raise ValueError."
            )
            raise
        encoded = encode(row)
    return _record(row, encoded, may_succeed=is_transient(value, row))


def _row_of(value: Any, token: str | None) -> ResultRow | None:
    row = result_row(value)
    if row is None or row.error is None or token is None:
        return row
    error = row.error
    message = error.message and without_token(error.message, token)
    return replace(row, error=RowError(without_token(error.code, token), message))


def quick_record(line: bytes) -> ResultRecord | None:
    """The record of the most common kind of line; None if the line is, or may be, of another kind."""
    try:
        line.isascii() or line.decode()  # msgspec does not validate the encoding of members that it skips
        said = _decode_line(line)
        body = _decode_body(said.response.body)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # the first is no ValueError before msgspec 0.22
        return None
    choice, usage = body.choices[0], body.usage
    text, reason = choice.message.content, choice.finish_reason
    if text is None:
        return None  # the other members decide whether this is an answer
    tokens = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
    row = _Row(said.custom_id, _SUCCEEDED, text, reason, None, said.response.body, None, _RowUsage(*tokens))
    return ResultRecord(said.custom_id, CUT_OFF if reason == "length" else 0, body.model, tokens, encode(row))


def absent_record(custom_id: str, outcome: RowOutcome, error: RowError) -> ResultRecord:
    """The record of a row without a result."""
    row = ResultRow(well_formed(custom_id), outcome, error=error)
    return _record(row, encode(row), may_succeed=is_transient(None, row))


encode = msgspec.json.Encoder().encode


def _record(row: ResultRow, encoded: bytes, *, may_succeed: bool) -> ResultRecord:
    usage = row.usage or Usage()
    flags = OUTCOMES.index(row.outcome)
    flags |= TRANSIENT if may_succeed else 0
    flags |= CUT_OFF if row.finish_reason == "length" else 0
    flags |= INVALID if row.error is not None and row.error.code in (INVALID_OUTPUT, EMPTY_RESPONSE) else 0
    tokens = usage.input_tokens, usage.output_tokens, usage.total_tokens
    return ResultRecord(row.custom_id, flags, model_of(row.response or {}), tokens, encoded)


# The most common kind of line. record_of handles a line with a member of any other form.

_SUCCEEDED = RowOutcome.SUCCEEDED.value
_Name = Annotated[str, msgspec.Meta(min_length=1)]
_Tokens = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]


class _Message(msgspec.Struct, gc=False):
    content: str | None
    refusal: None = None


class _Choice(msgspec.Struct, gc=False):
    message: _Message
    finish_reason: Literal["stop", "length", "content_filter", "tool_calls"]


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: _Tokens
    completion_tokens: _Tokens
    total_tokens: _Tokens


class _Body(msgspec.Struct, gc=False):
    model: _Name
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]
    usage: _Usage
    error: None = None
    message: None = None  # the gateway's invented row has one


class _Response(msgspec.Struct, gc=False):
    status_code: Annotated[int, msgspec.Meta(ge=200, lt=300)]
    body: msgspec.Raw


class _Line(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    custom_id: _Name
    response: _Response
    id: msgspec.Raw = msgspec.Raw(b"null")
    error: None = None


# The written row. It has the members of ResultRow and Usage, but is faster to create.


class _RowUsage(msgspec.Struct, gc=False):
    input_tokens: int
    output_tokens: int
    total_tokens: int


class _Row(msgspec.Struct, gc=False):
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
