"""The result row that users get for each row of the input. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from airflow_bifrost.results.members import JsonObject

MAX_MESSAGE = 500  # characters of an error's message, the ellipsis included
MAX_CODE = 100


class RowOutcome(StrEnum):
    """The outcome of a row. ``MISSING``: the batch has ended without a result for the row."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class RowError:
    """Why a row did not succeed. ``code`` is the provider's error code; without one, the HTTP status; without that, the outcome."""

    code: str
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. Cached input counts as input, and reasoning as output. None if the provider did not send the count."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ResultRow:
    """A result row. Its members have the order in which they are written. With ``keep``, the member ``source`` follows them.

    :param text: the assistant's text, of the first choice if there are several; None if the answer has no text (embeddings, refusals).
    :param finish_reason: in OpenAI's words (``stop``, ``length``, ``content_filter``, ``tool_calls``); other reasons are unchanged.
    :param output: the validated object, if the task has an ``output_type``.
    :param response: the provider's response body, which may describe an error.
    :param error: None if and only if the row succeeded.
    """

    custom_id: str
    outcome: RowOutcome
    text: str | None = None
    finish_reason: str | None = None
    output: Any = None
    response: JsonObject | None = None
    error: RowError | None = None
    usage: Usage | None = None


COLUMNS = tuple(field.name for field in fields(ResultRow))

_MISSING = RowError("missing", "The batch has ended and has no result for this row.")


def missing_row(custom_id: str) -> ResultRow:
    """The row of a request without a result."""
    return ResultRow(custom_id, RowOutcome.MISSING, error=_MISSING)
