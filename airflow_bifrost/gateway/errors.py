"""Turns a failure into a typed error that says what happened, what it means for the money, and what to do. Pure."""

from __future__ import annotations

from typing import Any, TypeVar

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
from airflow_bifrost.gateway.exchange import RawResponse, RequestContext
from airflow_bifrost.gateway.faults import Fault, fault_of
from airflow_bifrost.gateway.models import GatewayErrorBody
from airflow_bifrost.gateway.retry import Repeat, retry_after

E = TypeVar("E", bound=BifrostGatewayError)

_ADVICE = {
    BifrostAuthError: "Check the connection's password, and the provider's key in the gateway.",
    BifrostBudgetExceeded: "Raise or reset the budget of the virtual key in the gateway. Until then, the gateway also refuses reads.",
    BifrostRateLimited: "Send fewer requests, or raise the limit of the virtual key in the gateway.",
    BatchNotFound: "Check the ID, and check that `provider` is the provider that it belongs to.",
    BifrostRequestError: (
        "Check the arguments, `provider`, and that the gateway has a key with `use_for_batch_api` for this provider."
    ),
    BifrostProtocolError: "Check the connection's host, schema, port and `path_prefix`.",
}
_RETRY_LATER = "The error may be temporary: try again later."
_LOOK_FIRST = "Before you submit again, look for it with `list_batches`, which shows the newest first."
_ADVICE_NO_ANSWER_YET = "If it persists, check the connection's host, schema and port."
_ADVICE_NO_ANSWER = "Check the connection's host, schema, port and `verify`."
_ADVICE_UNKNOWN_KEY = (
    "A token was sent, but the gateway knows no such virtual key (sk-bf-...): fix the connection's password."
)

# What the provider refused has no effect. A 429 is not among them: the gateway itself repeats a POST, so that an earlier one may
# have been accepted.
_REFUSALS = (BifrostAuthError, BifrostBudgetExceeded, BatchNotFound, BifrostRequestError)


def of_response(response: RawResponse, context: RequestContext) -> BifrostGatewayError:
    """The error for an answer with a status other than 200."""
    body = GatewayErrorBody.parse(response.body)
    status = response.status_code
    words = context.quote(body.message or body.type or body.code or "")
    answered = problem = f"the gateway answered {status}"
    if words:
        problem += f": {words}"
    elif response.body:
        problem += f", with a body of type {context.quote(response.content_type) or 'unknown'}"
    if status < 400:
        where = ", with a Location that is not followed" if "location" in response.headers else ""
        return protocol_error(problem + where, status, context, transient=body.from_gateway or status == 204)
    if status == 404 and response.content_type == "text/html":
        return protocol_error(problem, status, context, transient=False)
    fault = fault_of(status, type=body.type, code=body.code, message=body.message)
    kind = fault.kind if fault else _class_of(status)
    if fault is None and status == 400 and body.without_status and context.request.repeat is Repeat.IF_NOT_SENT:
        kind = BifrostUnavailable  # 500 in 1.4: whether the provider was asked before it failed is unknown
    # Here the gateway asks for its own header, also if a token came in another one. Nobody can set that header in a connection.
    misleads = fault is not None and fault.type == "virtual_key_required"
    return _build(
        kind,
        context,
        answered if misleads else problem,
        _advice(kind, fault, context),
        f'The gateway says: "{words}"' if misleads else "",
        sent=not (fault and fault.before_provider),
        status_code=status,
        error_type=body.type and context.quote(body.type),
        error_code=body.code and context.quote(body.code),
        fault=fault.what if fault else None,
        retry_after=retry_after(response.headers.get("retry-after"), body.retry_after_ms, context.now),
    )


def unavailable(
    problem: str, context: RequestContext, *, transient: bool = True, sent: bool = True
) -> BifrostUnavailable:
    """There was no answer.

    :param problem: what the network said; anything like a key in it is masked.
    :param transient: False if the address or the certificate seems to be wrong.
    :param sent: False if no connection was made.
    """
    advice = _ADVICE_NO_ANSWER
    if transient:
        advice = f"{_retry_later(context, sent=sent)} {_ADVICE_NO_ANSWER_YET}".lstrip()
    problem = context.quote(problem)
    error = _build(
        BifrostUnavailable, context, f"no answer ({problem})", advice, broke=sent, transient=transient, sent=sent
    )
    error.problem = problem
    return error


def protocol_error(problem: str, status: int, context: RequestContext, *, transient: bool) -> BifrostProtocolError:
    """The answer is not what the API promises.

    :param transient: True for a provider's error that the gateway passed on; False for a wrong address.
    """
    advice = _retry_later(context) if transient else _ADVICE[BifrostProtocolError]
    return _build(BifrostProtocolError, context, problem, advice, status_code=status, transient=transient)


def too_large(limit: int, context: RequestContext) -> BifrostProtocolError:
    """A 200 whose body is larger than any answer of the API."""
    return protocol_error(f"the answer has more than {limit} bytes", 200, context, transient=False)


def _advice(kind: type[BifrostGatewayError], fault: Fault | None, context: RequestContext) -> str:
    if fault and fault.type == "virtual_key_required" and context.token:  # the gateway also says so about unknown keys
        return _ADVICE_UNKNOWN_KEY
    if kind is BifrostRequestError and fault is None and context.request.if_refused:
        return context.request.if_refused
    return (fault and fault.advice) or _ADVICE.get(kind) or _retry_later(context)


def _retry_later(context: RequestContext, *, sent: bool = True) -> str:
    """Empty for a create that may have had an effect, because a person has to check first."""
    return "" if sent and context.request.repeat is Repeat.IF_NOT_SENT else _RETRY_LATER


def _class_of(status: int) -> type[BifrostGatewayError]:
    """The meaning of a status alone."""
    match status:
        case 401 | 403:
            return BifrostAuthError
        case 402:
            return BifrostBudgetExceeded
        case 404:
            return BatchNotFound
        case 429:
            return BifrostRateLimited
        case 408 | 425 | 499:
            return BifrostUnavailable
    return BifrostUnavailable if status >= 500 else BifrostRequestError


def _build(
    kind: type[E],
    context: RequestContext,
    problem: str,
    advice: str,
    quoted: str = "",
    *,
    broke: bool = False,
    sent: bool = True,
    **attributes: Any,
) -> E:
    """The error with its complete message.

    :param quoted: the gateway's own words, if they do not explain the problem.
    :param broke: whether the connection broke while the request was on its way.
    :param sent: whether the request may have reached the provider. What it means for the money depends on it.
    """
    request, fate = context.request, context.request.fate
    if not sent:
        meaning = fate.not_sent or fate.unknown
    elif issubclass(kind, _REFUSALS):
        meaning = fate.refused or fate.unknown
    else:
        meaning = fate.unknown
        if broke and fate.broken:
            meaning += f" {fate.broken}"
    if sent and request.repeat is Repeat.IF_NOT_SENT:
        meaning = f"{meaning} {_LOOK_FIRST}"
    doing = f"{request.doing[0].upper()}{request.doing[1:]}"
    happened = f"{doing} through connection {context.gateway!r} failed: {problem.rstrip('.')}."
    message = " ".join(filter(None, (happened, meaning, advice, quoted)))
    return kind(message, problem=problem, advice=advice or None, sent=sent, meaning=meaning, **attributes)
