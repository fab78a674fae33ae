"""Which row errors are transient, so that a run sends the rows again. Pure."""

from __future__ import annotations

from typing import Any

from airflow_bifrost.results.members import number_of, object_of
from airflow_bifrost.results.rows import ResultRow, RowOutcome

EMPTY_RESPONSE = "empty_response"

# The last three are google.rpc.Code: RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE.
TRANSIENT_STATUS = frozenset({408, 429, 8, 13, 14})
# Without a status: OpenAI's and Anthropic's error types, AWS's exceptions, and this package's own codes.
TRANSIENT_CODES = frozenset(
    {
        "rate_limit_exceeded",
        "rate_limit_error",
        "server_error",
        "overloaded_error",
        "api_error",
        "timeout_error",
        "throttlingexception",
        "internalserverexception",
        "serviceunavailableexception",
        "modeltimeoutexception",
        "invalid_output",
        EMPTY_RESPONSE,
    }
)


def is_transient(line: Any, row: ResultRow) -> bool:
    """Whether the same request may succeed later: it expired, or failed because of a limit or an error of the provider."""
    if row.outcome is RowOutcome.EXPIRED:
        return True
    if row.outcome is not RowOutcome.FAILED or row.error is None:
        return False
    code = row.error.code
    if row.finish_reason == "length":
        return False  # it would be cut off again
    status = number_of(object_of(object_of(line).get("response")).get("status_code"))
    status = status or int(code if code.isdecimal() else 0)
    return status in TRANSIENT_STATUS or 500 <= status <= 599 or code.lower() in TRANSIENT_CODES
