"""One line of any provider's results -> one result row. Pure.

A line tells its provider by its members, so none need be named. Lines are untidy: a member of the wrong type counts as absent, and
no line ever raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from airflow_bifrost.gateway.redact import quote

JsonObject = dict[str, Any]

MAX_MESSAGE = 500  # characters of an error's message, the ellipsis included
MAX_CODE = 100
MAX_TOKENS = 2**53  # more is no count: JSON readers cannot keep it exactly


class RowOutcome(StrEnum):
    """What became of a row. ``MISSING``: its batch has ended and has nothing for it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class RowError:
    """Why a row has not succeeded. ``code`` is the provider's word, else the HTTP status, else the outcome."""

    code: str
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. Cached input counts as input, and reasoning as output; None where the provider gave nothing."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ResultRow:
    """The contract's result row: its members in their order.

    :param text: the assistant's text, of the first choice where there are several; None where there is none (embeddings, refusals).
    :param finish_reason: in OpenAI's words (``stop``, ``length``, ``content_filter``, ``tool_calls``); others as they came.
    :param output: the validated object, where one was asked for.
    :param response: the provider's own body, also of an error.
    :param error: None for success, and for nothing else.
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


def result_row(line: Any) -> ResultRow | None:
    """The row that a line tells of.

    :param line: one line of an output or error file, or one entry of the gateway's native results, as JSON types.
    :return: None: it is about no row (no object, no id, or the gateway's own invention).
    """
    if not isinstance(line, dict) or is_invented(line):
        return None
    custom_id = next((line[name] for name in _IDS if isinstance(line.get(name), str) and line[name]), None)
    if custom_id is None:
        return None
    outcome, body, error = _of_anthropic(line["result"], line) if "result" in line else _of_response(line)
    text, finish_reason = _said(body or {})
    return ResultRow(
        custom_id, outcome, text, finish_reason, response=body, error=error, usage=_usage(body) if body else None
    )


def transient(line: Any, row: ResultRow) -> bool:
    """Whether the same request may fare better another time: it has expired, or met a limit or a fault of the provider."""
    if row.outcome is RowOutcome.EXPIRED:
        return True
    if row.outcome is not RowOutcome.FAILED or row.error is None:
        return False
    code = row.error.code
    if row.finish_reason == "length":
        return False  # it would be cut off again
    status = _number(_object(_object(line).get("response")).get("status_code")) or int(code if code.isdecimal() else 0)
    return status in _PASSING_STATUS or 500 <= status <= 599 or code.lower() in _PASSING_CODES


def missing_row(custom_id: str) -> ResultRow:
    """The row of a request that no line tells of."""
    return ResultRow(custom_id, RowOutcome.MISSING, error=_MISSING)


def is_invented(line: Any) -> bool:
    """Whether the gateway made this line up: where it finds no results of a Gemini batch, it answers with one row that says so."""
    match line:
        case {"custom_id": "info", "response": {"body": {"message": str() as message}}}:
            return "No results available" in message
    return False


def model_of(row: ResultRow) -> str | None:
    """The model that answered, in the provider's spelling."""
    body = row.response or {}
    return _text(body.get("model")) or _text(body.get("modelVersion"))


_IDS = ("custom_id", "recordId", "key")  # the gateway's and OpenAI's; Bedrock's; Google's
_MISSING = RowError("missing", "The batch has ended and has no result for this row.")

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

_PASSING_STATUS = frozenset(
    {408, 429, 8, 13, 14}
)  # the last three are google.rpc.Code: RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE
_PASSING_CODES = frozenset(  # where there is no status: OpenAI's and Anthropic's types of error, AWS's exceptions
    {
        "rate_limit_exceeded",
        "rate_limit_error",
        "server_error",
        "overloaded_error",
        "api_error",
        "timeout_error",
        "invalid_output",
        "throttlingexception",
        "internalserverexception",
        "serviceunavailableexception",
        "modeltimeoutexception",
    }
)

_Reading = tuple[RowOutcome, JsonObject | None, RowError | None]


def _of_anthropic(result: Any, line: JsonObject) -> _Reading:
    result = _object(result)
    kind = _text(result.get("type"))
    outcome = _TYPES.get(kind or "", RowOutcome.FAILED)
    if outcome is RowOutcome.SUCCEEDED:
        return outcome, _object(result.get("message")) or None, None
    error = _object(result.get("error"))  # the gateway keeps a bare code of it, and that outside of the result
    return outcome, None, _error([error.get("error"), error, line.get("error")], kind or outcome)


def _of_response(line: JsonObject) -> _Reading:
    response = _object(line.get("response"))
    status = _number(response.get("status_code"))
    if "modelOutput" in line:  # Bedrock's own files
        body = _object(line["modelOutput"])
    elif "body" in response or "status_code" in response:
        body = _object(response.get("body"))
    else:  # Google's own files
        body = response
    complaint = line.get("error")
    well = bool(body) and not complaint if status is None else 200 <= status < 300 and bool(body or not complaint)
    if well and not body.get("error"):  # the Responses API answers 200 to what has failed
        return RowOutcome.SUCCEEDED, body or None, None
    code = RowOutcome.FAILED.value if well or status is None else str(status)
    error = _error([body.get("error"), complaint, body], code)
    return _CODES.get(error.code, RowOutcome.FAILED), body or None, error


def _error(told: list[Any], code: str) -> RowError:
    """The first of ``told`` that says anything.

    :param code: where it has none.
    """
    for error in told:
        error = _object(error) or {"message": error}
        said = next(filter(None, (_word(error.get(name)) for name in ("code", "type", "errorCode"))), None)
        message = _text(error.get("message")) or _text(error.get("errorMessage"))
        if said or message:
            return RowError(quote(said or code, MAX_CODE - 1), message and quote(message, MAX_MESSAGE - 1))
    return RowError(code)


def _said(body: JsonObject) -> tuple[str | None, str | None]:
    """The assistant's text, and why it ended. A body tells its API by its members."""
    match body:
        case {"choices": [{"message": dict() as message} as choice, *_]}:  # chat completions
            text = None if message.get("refusal") else _joined(message.get("content"))
            return text, _finish(choice.get("finish_reason"))
        case {"choices": [dict() as choice, *_]}:  # completions
            return _text(choice.get("text")), _finish(choice.get("finish_reason") or choice.get("stop_reason"))
        case {"output": [*items]}:  # the Responses API
            return _joined([part for item in items for part in _list(_object(item).get("content"))]), _ended(
                body, items
            )
        case {"output": {"message": dict() as message}}:  # Bedrock's Converse, and Nova
            return _joined(message.get("content")), _finish(body.get("stopReason"))
        case {"candidates": [dict() as candidate, *_]}:  # Gemini
            parts = _object(candidate.get("content")).get("parts")
            return _joined(parts), _finish(candidate.get("finishReason"))
        case {"promptFeedback": {"blockReason": str()}}:  # Gemini refused the prompt
            return None, "content_filter"
        case {"content": [*parts]}:  # Anthropic, and Claude at Bedrock
            return _joined(parts), _finish(body.get("stop_reason"))
        case {"generation": str() as text}:  # Llama at Bedrock
            return text, _finish(body.get("stop_reason"))
        case {"results": [{"outputText": str() as text} as result, *_]}:  # Titan at Bedrock
            return text, _finish(result.get("completionReason"))
        case {"outputs": [{"text": str() as text} as output, *_]}:  # Mistral at Bedrock
            return text, _finish(output.get("stop_reason"))
        case {"text": str() as text}:  # what the gateway leaves of Gemini's answer
            return text, _finish(body.get("finish_reason"))
    return None, _finish(body.get("finish_reason") or body.get("stop_reason"))


def _joined(content: Any) -> str | None:
    """The text of a string or of parts; those that hold reasoning, refusals or calls of tools are none."""
    if isinstance(content, str):
        return content
    parts = [part for part in _list(content) if isinstance(part, dict) and isinstance(part.get("text"), str)]
    texts = [
        part["text"]
        for part in parts
        if part.get("type", "text") in ("text", "output_text") and not part.get("thought")
    ]
    return "".join(texts) if texts else None


def _ended(body: JsonObject, items: list[Any]) -> str | None:
    """Why an answer of the Responses API ended, which says so in three places."""
    if body.get("status") == "incomplete":
        return _finish(_object(body.get("incomplete_details")).get("reason") or "incomplete")
    if any(_object(item).get("type") in ("function_call", "custom_tool_call") for item in items):
        return "tool_calls"
    return _finish(body.get("status"))


_FINISH = {
    word: meaning
    for meaning, words in {
        "stop": "stop end_turn stop_sequence completed complete finish",
        "length": "length max_tokens max_output_tokens model_context_window_exceeded",
        "content_filter": "content_filter content_filtered refusal guardrail_intervened"
        " safety image_safety recitation blocklist prohibited_content spii",
        "tool_calls": "tool_calls tool_use",
    }.items()
    for word in words.split()
}


def _finish(word: Any) -> str | None:
    said = _text(word)
    return said and _FINISH.get(said.lower(), said)


# What providers call a count, and what is to be added to it. Anthropic's input_tokens are only those that no cache had to do with, and
# Gemini's candidates have no thoughts; both are billed, and in everyone else's numbers.
_INPUT: Mapping[str, tuple[str, ...]] = {
    "prompt_tokens": (),
    "input_tokens": ("cache_creation_input_tokens", "cache_read_input_tokens"),
    "promptTokenCount": ("toolUsePromptTokenCount",),
    "inputTokens": (),
    "prompt_token_count": (),
    "inputTextTokenCount": (),
}
_OUTPUT: Mapping[str, tuple[str, ...]] = {
    "completion_tokens": (),
    "output_tokens": (),
    "candidatesTokenCount": ("thoughtsTokenCount",),
    "thoughtsTokenCount": (),  # cut off before the first word
    "outputTokens": (),
    "generation_token_count": (),
    "tokenCount": (),
}
_TOTAL: Mapping[str, tuple[str, ...]] = {"total_tokens": (), "totalTokenCount": (), "totalTokens": ()}


def _usage(body: JsonObject) -> Usage | None:
    match body:
        case {"usage": dict() as counts} | {"usageMetadata": dict() as counts}:
            pass
        case {"results": [{"tokenCount": count}, *_]}:  # Titan
            counts = {**body, "tokenCount": count}
        case _:  # Llama
            counts = body
    given, written, total = (_tokens(counts, names) for names in (_INPUT, _OUTPUT, _TOTAL))
    if given is None and written is None and total is None:
        return None
    return Usage(given, written, (given or 0) + (written or 0) if total is None else total)


def _tokens(counts: JsonObject, names: Mapping[str, tuple[str, ...]]) -> int | None:
    for name, more in names.items():
        number = _number(counts.get(name))
        if number is not None:
            return number + sum(_number(counts.get(other)) or 0 for other in more)
    return None


def _object(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None


def _word(value: Any) -> str | None:
    """A code that some send as a number."""
    return str(value) if _number(value) is not None else _text(value)
