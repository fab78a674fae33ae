"""Validates the answer of a result row against a type. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, PydanticSerializationError

from airflow_bifrost.gateway.redact import quote
from airflow_bifrost.results.lines import finite
from airflow_bifrost.results.members import JsonObject
from airflow_bifrost.results.rows import MAX_MESSAGE, ResultRow, RowError, RowOutcome

INVALID_OUTPUT = "invalid_output"
ERRORS_SHOWN = 5

_FENCED = re.compile(r"\s*```[^\n`]*\n(.*)```\s*", re.DOTALL)


def validated(row: ResultRow, adapter: TypeAdapter[Any]) -> ResultRow:
    """The row with its answer as ``output``, in JSON types.

    The answer is the input of the first tool call. Without a tool call, it is the text without a Markdown code fence around it. If the answer
    is not JSON or does not match the type, the row becomes ``failed`` and keeps its other members. The error message quotes pydantic and the
    type's own validators, but not the answer's values. A float that JSON cannot hold becomes ``"NaN"``, ``"Infinity"`` or ``"-Infinity"``,
    which the type accepts as input.

    :param row: returned unchanged unless it succeeded.
    :raises Exception: an error of the type's own validators other than ``ValueError`` and ``AssertionError``.
    """
    if row.outcome is not RowOutcome.SUCCEEDED:
        return row
    answer = _tool_input(row.response or {})
    if answer is None:
        answer = row.text
    if answer is None:
        return _invalid(
            row, f"The answer has no text (finish_reason {row.finish_reason}). See `response` for the whole answer."
        )
    if fenced := _FENCED.fullmatch(answer):
        answer = fenced[1]
    try:
        output = adapter.dump_python(adapter.validate_json(answer), mode="json")
    except ValidationError as error:
        return _invalid(row, _message(error))
    except PydanticSerializationError:
        return _invalid(
            row, "The answer matches the type, but the type cannot be written as JSON: give it a serializer."
        )
    return replace(row, output=finite(output))


def _invalid(row: ResultRow, message: str) -> ResultRow:
    if row.finish_reason == "length":
        message = f"The answer was cut off: raise max_tokens, or the provider's parameter for it. {message}"
    error = RowError(INVALID_OUTPUT, quote(message, MAX_MESSAGE - 1))
    return replace(row, outcome=RowOutcome.FAILED, output=None, error=error)


def _message(error: ValidationError) -> str:
    errors = error.errors(include_url=False, include_input=False)
    shown = "; ".join(map(_line, errors[:ERRORS_SHOWN]))
    more = len(errors) - ERRORS_SHOWN
    return f"{shown}; and {more} more" if more > 0 else shown


def _line(error: ErrorDetails) -> str:
    message = error["msg"]
    if error["type"] == "union_tag_invalid":  # pydantic's only message that quotes the input
        message = f"Input tag does not match any of the expected tags: {error['ctx']['expected_tags']}"
    place = ".".join(map(str, error["loc"]))
    return f"{place}: {message}" if place else message


def _tool_input(body: JsonObject) -> str | None:
    """The input of the first tool call, as JSON."""
    return next(_tool_inputs(body), None)


def _tool_inputs(body: JsonObject) -> Iterator[str]:
    match body:
        case {"choices": [{"message": {"tool_calls": [{"function": {"arguments": str() as arguments}}, *_]}}, *_]}:
            yield arguments
        case {"output": [*items]}:  # the Responses API
            for item in items:
                match item:
                    case {"type": "function_call", "arguments": str() as arguments}:
                        yield arguments
        case {"content": [*parts]} | {"output": {"message": {"content": [*parts]}}}:  # Anthropic; Bedrock's Converse
            for part in parts:
                match part:
                    case {"type": "tool_use", "input": given} | {"toolUse": {"input": given}}:
                        yield json.dumps(given)
