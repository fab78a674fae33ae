"""What came back -> a model, or a typed error that says what happened, what it means for the money, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from airflow_bifrost.exceptions import (
    BatchNotFound,
    BifrostAuthError,
    BifrostBudgetExceeded,
    BifrostGatewayError,
    BifrostProtocolError,
    BifrostRateLimited,
    BifrostRequestError,
    BifrostUnavailable,
)
from airflow_bifrost.gateway.models import Batch, GatewayErrorBody, Page, read_json
from airflow_bifrost.gateway.redact import quote
from airflow_bifrost.gateway.requests import GatewayRequest
from airflow_bifrost.gateway.retry import parse_retry_after
from airflow_bifrost.gateway.versions import Fault, fault_of

M = TypeVar("M", bound=BaseModel)
E = TypeVar("E", bound=BifrostGatewayError)


@dataclass(frozen=True, slots=True)
class RawResponse:
    """An answer, read whole. Header names are in lower case."""

    status_code: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").split(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What an answer answers: the request, and the gateway's name for messages.

    :param now: unix seconds, to read a ``Retry-After`` date by.
    :param token: the connection's, so that no message repeats it.
    """

    request: GatewayRequest
    gateway: str
    now: float
    token: str | None = field(default=None, repr=False)

    def quote(self, text: str) -> str:
        return quote(text, token=self.token)


_ADVICE = {
    BifrostAuthError: "Check the connection's password, and the provider's key in the gateway.",
    BifrostBudgetExceeded: "Raise or reset the budget of the virtual key in the gateway; until then it refuses reading too.",
    BifrostRateLimited: "Ask less often, or raise the limit of the virtual key in the gateway.",
    BatchNotFound: "Check the id, and that `provider` is the provider that it belongs to.",
    BifrostRequestError: "Check the arguments, `provider`, and that a key of this provider has `use_for_batch_api` in the gateway.",
    BifrostProtocolError: "Check the connection's host, schema, port and `path_prefix`.",
}
_TRY_LATER = "This can pass: try again later."
_LOOK = "To look, use `list_batches`: it has the newest first."
_ADVICE_NO_ANSWER_YET = "If it goes on, check the connection's host, schema and port."
_ADVICE_NO_ANSWER = "Check the connection's host, schema, port and `verify`."

# Kinds that prove that a request had no effect. A 429 is not among them: the gateway itself repeats a POST, so that an earlier try may
# have been accepted.
_REFUSALS = (BifrostAuthError, BifrostBudgetExceeded, BatchNotFound, BifrostRequestError)


def parse(model: type[M], response: RawResponse, asked: RequestContext) -> M:
    """The answer as ``model``.

    :raises BifrostGatewayError: of the class that fits the answer.
    """
    return _validated(model, _json_object(response, asked), response, asked)


def parse_page(model: type[M], response: RawResponse, asked: RequestContext) -> Page[M]:
    """The answer as a page of ``model``.

    An entry that cannot be read makes the page unreadable: left out, it would pass for a batch that does not exist.
    """
    value = _json_object(response, asked)
    if value.get("data") is None and value.get("object") == "list":
        value = {**value, "data": []}
    return _validated(Page[model], value, response, asked)  # type: ignore[valid-type]


@dataclass(frozen=True, slots=True)
class RawPage:
    """A page of a list of batches, hardly read: ``entries`` are JSON objects, each with an id and a status."""

    entries: tuple[dict[str, Any], ...]
    next_cursor: str | None


MOST_ERRORS = 100  # of a batch with an error for each row; reading all of them would hold an event loop


def get_raw(response: RawResponse, asked: RequestContext) -> dict[str, Any]:
    """The answer as a batch of which nothing is read but that it has an id and a status."""
    value = _json_object(response, asked)
    if not (_is_text(value, "id") and _is_text(value, "status")):
        _validated(Batch, value, response, asked)  # says what is wrong with it
    errors = value.get("errors")
    if isinstance(errors, dict) and isinstance(errors.get("data"), list):
        del errors["data"][MOST_ERRORS:]
    return value


def list_raw(response: RawResponse, asked: RequestContext) -> RawPage:
    """The answer as a page of which most is nobody's business: a hundred models cost ten times what the page does.

    An entry without id and status is passed over, so that the page may well show less than there is.
    """
    value = _json_object(response, asked)
    data = value.get("data")
    if data is None and value.get("object") == "list":
        data = []
    if not isinstance(data, list):
        raise _protocol_error("the answer is no list", response.status_code, asked, transient=False)
    entries = tuple(
        entry for entry in data if isinstance(entry, dict) and _is_text(entry, "id") and _is_text(entry, "status")
    )
    cursor = value.get("next_cursor")
    return RawPage(entries, cursor if value.get("has_more") is True and isinstance(cursor, str) and cursor else None)


def _is_text(entry: dict[str, Any], name: str) -> bool:
    return isinstance(entry.get(name), str) and entry[name] != ""


def check_status(response: RawResponse, asked: RequestContext) -> None:
    """Pass a 200 that is not a web page.

    :raises BifrostGatewayError: for anything else.
    """
    if response.status_code != 200:
        raise _error(response, asked)
    if response.content_type == "text/html":
        raise _protocol_error(
            "the answer is a web page: this address is no route of the gateway's API", 200, asked, transient=False
        )


def unavailable(problem: str, asked: RequestContext, *, transient: bool = True) -> BifrostUnavailable:
    """There was no answer.

    :param problem: what the network said; anything like a key in it is struck out.
    :param transient: False for what looks like a wrong address or certificate.
    """
    advice = f"{_try_later(asked)} {_ADVICE_NO_ANSWER_YET}".lstrip() if transient else _ADVICE_NO_ANSWER
    error = _told(BifrostUnavailable, asked, f"no answer ({asked.quote(problem)})", advice, transient=transient)
    error.problem = asked.quote(problem)
    return error


def too_large(limit: int, asked: RequestContext) -> BifrostProtocolError:
    """A 200 that is larger than any that the API promises."""
    return _protocol_error(f"the answer has more than {limit} bytes", 200, asked, transient=False)


def _json_object(response: RawResponse, asked: RequestContext) -> dict[str, Any]:
    check_status(response, asked)
    if "json" not in response.content_type:
        kind = asked.quote(response.content_type) or "nothing said about its type"
        raise _protocol_error(f"the answer is not JSON ({kind})", response.status_code, asked, transient=False)
    try:
        value = read_json(response.body)
    except ValueError:
        raise _protocol_error(
            "the answer calls itself JSON and is not", response.status_code, asked, transient=False
        ) from None
    if not isinstance(value, dict):
        raise _protocol_error(f"the answer is JSON, but {_kind(value)}", response.status_code, asked, transient=False)
    return value


def _validated(model: type[M], value: dict[str, Any], response: RawResponse, asked: RequestContext) -> M:
    """With the gateway's marks on it, JSON of another shape is a provider's slip: its ``{}`` arrives as 200 with an empty id."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        wrong = _what_is_wrong(error)
    body = GatewayErrorBody.of(value)
    problem = f"the answer is not what the API promises: {wrong}"
    if body.message:
        problem += f" ({asked.quote(body.message)})"
    raise _protocol_error(problem, response.status_code, asked, transient=body.from_gateway)


def _what_is_wrong(error: ValidationError) -> str:
    """Which fields, and how. A provider's slip arrives as null or as an empty text, which is as good as missing."""
    found: dict[str, bool] = {}  # name -> whether it is missing
    for detail in error.errors(include_url=False, include_context=False):
        missing = detail["type"] == "missing" or detail["input"] in (None, "")
        found.setdefault(".".join(map(str, detail["loc"])), missing)
    names = sorted(found)[:3]
    return ", ".join(
        f"{_listed(some)} {'are' if len(some) > 1 else 'is'} {how}"
        for how, some in (
            ("missing", [name for name in names if found[name]]),
            ("of the wrong kind", [name for name in names if not found[name]]),
        )
        if some
    )


def _listed(names: list[str]) -> str:
    *first, last = (f"`{name}`" for name in names)
    return f"{', '.join(first)} and {last}" if first else last


def _error(response: RawResponse, asked: RequestContext) -> BifrostGatewayError:
    body = GatewayErrorBody.parse(response.body)
    status = response.status_code
    words = asked.quote(body.message or body.type or body.code or "")
    answered = said = f"the gateway answered {status}"
    if words:
        said += f": {words}"
    elif response.body:
        said += f", with a body of type {asked.quote(response.content_type) or 'unknown'}"
    if status < 400:
        where = " and a Location, which is not followed" if "location" in response.headers else ""
        return _protocol_error(said + where, status, asked, transient=body.from_gateway or status == 204)
    if status == 404 and response.content_type == "text/html":
        return _protocol_error(said, status, asked, transient=False)
    fault = fault_of(status, type=body.type, code=body.code, message=body.message)
    kind = fault.kind if fault else _class_of(status)
    # The gateway asks for its own header then, also of those who sent a token in another; nobody can set it in a connection.
    misleads = fault is not None and fault.type == "virtual_key_required"
    return _told(
        kind,
        asked,
        answered if misleads else said,
        _advice(kind, fault, asked),
        f'The gateway says: "{words}"' if misleads else "",
        status_code=status,
        error_type=body.type and asked.quote(body.type),
        error_code=body.code and asked.quote(body.code),
        fault=fault.what if fault else None,
        retry_after=parse_retry_after(response.headers.get("retry-after"), asked.now),
    )


def _advice(kind: type[BifrostGatewayError], fault: Fault | None, asked: RequestContext) -> str:
    if fault and fault.type == "virtual_key_required" and asked.token:  # said of unknown keys too
        return "A token was sent, but the gateway knows no such virtual key (sk-bf-...): correct the connection's password."
    return (fault and fault.advice) or _ADVICE.get(kind) or _try_later(asked)


def _try_later(asked: RequestContext) -> str:
    """Nothing for a call that may have had an effect: it is not to be repeated before somebody has looked."""
    return _TRY_LATER if asked.request.repeatable else ""


def _class_of(status: int) -> type[BifrostGatewayError]:
    """What a status says by itself."""
    match status:
        case 401 | 403:
            return BifrostAuthError
        case 402:
            return BifrostBudgetExceeded
        case 404:
            return BatchNotFound
        case 429:
            return BifrostRateLimited
        case 408 | 425:
            return BifrostUnavailable
    return BifrostUnavailable if status >= 500 else BifrostRequestError


def _protocol_error(problem: str, status: int, asked: RequestContext, *, transient: bool) -> BifrostProtocolError:
    advice = _try_later(asked) if transient else _ADVICE[BifrostProtocolError]
    return _told(BifrostProtocolError, asked, problem, advice, status_code=status, transient=transient)


def _told(kind: type[E], asked: RequestContext, problem: str, advice: str, says: str = "", **attributes: Any) -> E:
    """The error, with its message made of all that is to be told.

    :param says: the gateway's own words, where they are no good as the problem.
    """
    request = asked.request
    refused = request.fate_if_refused if issubclass(kind, _REFUSALS) else None
    if not refused and (request.method, request.path) == ("POST", "/v1/batches"):
        advice = f"{_LOOK} {advice}".rstrip()
    happened = f"{request.doing[0].upper()}{request.doing[1:]} through connection {asked.gateway!r} failed: {problem.rstrip('.')}."
    message = " ".join(filter(None, (happened, refused or request.fate, advice, says)))
    return kind(message, problem=problem, advice=advice or None, **attributes)


def _kind(value: Any) -> str:
    return {list: "a list", str: "a string", bool: "true or false", type(None): "null"}.get(type(value), "a number")
