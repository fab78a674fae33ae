"""Turns one line of any provider's results into a result row. Pure.

The members of a line show which provider it comes from, so callers need not say. Lines may be malformed: a member of the wrong type counts
as absent, and no line raises an error.
"""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from typing import Any

from airflow_bifrost.gateway.redact import quote
from airflow_bifrost.results.answers import has_answer, text_and_finish_reason
from airflow_bifrost.results.lines import parse_line
from airflow_bifrost.results.members import JsonObject, number_of, object_of, text_of, word_of
from airflow_bifrost.results.rows import MAX_CODE, MAX_MESSAGE, ResultRow, RowError, RowOutcome
from airflow_bifrost.results.transient import EMPTY_RESPONSE
from airflow_bifrost.results.usage import usage_of


def result_row(line: Any) -> ResultRow | None:
    """The result row of a line.

    :param line: one line of an output or error file, or one entry of the gateway's native results, as JSON types.
    :return: None if the line has no row's result: it is not an object, has no ID, or was invented by the gateway.
    """
    if not isinstance(line, dict) or is_placeholder(line):
        return None
    custom_id = _id_of(line)
    if custom_id is None:
        return None
    outcome, body, error = _of_anthropic(line["result"], line) if "result" in line else _of_response(line)
    text, finish_reason = text_and_finish_reason(body or {})
    usage = usage_of(body) if body else None
    return ResultRow(custom_id, outcome, text, finish_reason, response=body, error=error, usage=usage)


def is_placeholder(line: Any) -> bool:
    """Whether the gateway invented this line. If it finds no results of a Gemini batch, it returns one row that says so."""
    match line:
        case {"custom_id": "info", "response": {"body": {"message": str() as message}}}:
            return "No results available" in message
    return False


_IDS = ("custom_id", "recordId", "key")  # of the gateway and OpenAI; of Bedrock; of Google

_TYPES = {  # Anthropic's
    "succeeded": RowOutcome.SUCCEEDED,
    "errored": RowOutcome.FAILED,
    "expired": RowOutcome.EXPIRED,
    "canceled": RowOutcome.CANCELLED,
    "cancelled": RowOutcome.CANCELLED,
}
_CODES = {
    "batch_expired": RowOutcome.EXPIRED,
    "batch_cancelled": RowOutcome.CANCELLED,
    "batch_canceled": RowOutcome.CANCELLED,
    "1": RowOutcome.CANCELLED,  # Gemini's are google.rpc.Code: CANCELLED
    "4": RowOutcome.EXPIRED,  # DEADLINE_EXCEEDED
}

_NO_ANSWER = RowError(EMPTY_RESPONSE, "The provider reports success, but its response has no answer.")

_Reading = tuple[RowOutcome, JsonObject | None, RowError | None]


def _id_of(line: JsonObject) -> str | None:
    for name in _IDS:
        if custom_id := text_of(line.get(name)):
            return custom_id
    # In Vertex's own files, the gateway has labeled each request of an input that it wrote.
    return text_of(object_of(object_of(line.get("request")).get("labels")).get("bifrost_custom_id"))


def _of_anthropic(result: Any, line: JsonObject) -> _Reading:
    result = object_of(result)
    kind = text_of(result.get("type"))
    outcome = _TYPES.get(kind or "", RowOutcome.FAILED)
    if outcome is RowOutcome.SUCCEEDED:
        return _success(_parsed_object(result.get("message")))
    error = object_of(result.get("error"))  # the gateway keeps only its code, outside of the result
    return outcome, None, _error([error.get("error"), error, line.get("error")], kind or outcome)


def _of_response(line: JsonObject) -> _Reading:
    response = _parsed_object(line.get("response"))
    status = number_of(response.get("status_code"))
    if "modelOutput" in line:  # Bedrock's own files
        body = _parsed_object(line["modelOutput"])
    elif "body" in response or "status_code" in response:
        body = _parsed_object(response.get("body"))
    else:  # Google's own files
        body = response
    complaint = _complaint(line)
    succeeded = bool(body) and not complaint if status is None else 200 <= status < 300 and bool(body or not complaint)
    if succeeded and not body.get("error"):  # the Responses API answers 200 for a request that failed
        return _success(body)
    code = RowOutcome.FAILED.value if succeeded or status is None else str(status)
    error = _error([body.get("error"), complaint, body], code)
    return _CODES.get(error.code, RowOutcome.FAILED), body or None, error


_PHRASES = {status.phrase.lower(): status.value for status in HTTPStatus if status >= 400}


def _complaint(line: JsonObject) -> Any:
    """What the line says about an error. Vertex says it in a text: ``Bad Request: {"error": {"code": 400, ...}}``."""
    complaint = line.get("error") or text_of(line.get("status"))
    text = complaint["message"] if isinstance(complaint, dict) and complaint.keys() == {"message"} else complaint
    if not isinstance(text, str):
        return complaint
    phrase, _, detail = text.partition(":")
    error = object_of(_parsed_object(detail.strip()).get("error"))
    code = word_of(error.get("code")) or _PHRASES.get(phrase.strip().lower())
    return {"code": code, "message": text_of(error.get("message")) or text}


def _success(body: JsonObject) -> _Reading:
    """A row that the provider reports as a success. It is one only if it has an answer."""
    if has_answer(body):
        return RowOutcome.SUCCEEDED, body, None
    return RowOutcome.FAILED, body or None, _NO_ANSWER


def _parsed_object(value: Any) -> JsonObject:
    """The value if it is an object. Some servers (OGX) send the object as a JSON string; it is parsed."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        with suppress(ValueError):
            value = parse_line(value.encode(errors="surrogatepass"))
    return object_of(value)


def _error(errors: list[Any], code: str) -> RowError:
    """The first error in ``errors`` that has a code or a message.

    :param code: the code to use if it has none.
    """
    for error in errors:
        error = object_of(error) or {"message": error}
        said = next(filter(None, (word_of(error.get(name)) for name in ("code", "type", "errorCode"))), None)
        message = text_of(error.get("message")) or text_of(error.get("errorMessage"))
        if said or message:
            return RowError(quote(said or code, MAX_CODE - 1), message and quote(message, MAX_MESSAGE - 1))
    return RowError(code)
