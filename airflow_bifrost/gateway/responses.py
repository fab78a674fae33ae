"""What came back -> a model, or a typed error that says what happened, what it means for the money, and what to do. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
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
from airflow_bifrost.gateway.models import GatewayErrorBody, Page
from airflow_bifrost.gateway.requests import GatewayRequest
from airflow_bifrost.gateway.retry import parse_retry_after

M = TypeVar("M", bound=BaseModel)

MAX_QUOTE = 300  # characters of the gateway's message that an error repeats


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
class Asked:
    """What an answer answers: the request, and the gateway's name for messages.

    :param now: unix seconds, to read a ``Retry-After`` date by.
    """

    request: GatewayRequest
    gateway: str
    now: float


# Faults of configuration or of the request that the gateway reports as a 500 (400 on its native routes and in later versions).
_NEVER_ACCEPTED = re.compile(
    r"failed to get config for provider|provider not found for|no batch-enabled keys found|no config found for batch APIs"
    r"|no keys found (?:for provider|that support model)|\bis required\b|invalid json|invalid pagination cursor"
    r"|failed to parse request|doesn't support direct content download|batch results not available",
    re.IGNORECASE,
)

_ADVICE_BY_TYPE = {
    "virtual_key_required": "The gateway wants a virtual key it knows: put one (sk-bf-...) into the connection's password.",
    "virtual_key_not_found": "The gateway does not know this virtual key: correct the connection's password.",
    "access_not_found": "The gateway does not know this virtual key: correct the connection's password.",
    "virtual_key_blocked": "The virtual key is inactive: have it activated, or use another.",
    "access_blocked": "The virtual key is inactive: have it activated, or use another.",
    "provider_blocked": "The virtual key may not use this upstream: allow it in the gateway, or change `provider`.",
    "model_blocked": "The virtual key may not use this model: allow it in the gateway.",
}

_ADVICE = {
    BifrostAuthError: "Check the connection's password, and the upstream's key in the gateway.",
    BifrostBudgetExceeded: "Raise or reset the budget of the virtual key in the gateway; until then it refuses reading too.",
    BifrostRateLimited: "Ask less often, or raise the limit of the virtual key in the gateway.",
    BatchNotFound: "Check the id, and that `provider` is the upstream that it belongs to.",
    BifrostRequestError: "Check the arguments, `provider`, and that a key of this upstream has `use_for_batch_api` in the gateway.",
    BifrostUnavailable: "It can be asked again later.",
    BifrostProtocolError: "Check the connection's host, schema, port and `path_prefix`.",
}

_SECRETS = re.compile(
    r"(?i:bearer|basic)\s+[^\s\"',;]+"
    r"|(?i:api[-_ ]?key|token|secret|password|authorization|signature|x-goog-api-key|key)[\"']?\s*[=:]\s*[\"']?[^\s\"',;&]+"
    r"|\b(?:sk|pk|rk|gsk|xai|hf|ghp|r8|key)[-_][A-Za-z0-9_\-.*]{6,}"
    r"|\b(?:AKIA|ASIA|AIza|ya29\.|eyJ)[A-Za-z0-9_\-./+=]{8,}",
)


def parse(model: type[M], response: RawResponse, asked: Asked) -> M:
    """The answer as ``model``.

    :raises BifrostGatewayError: of the class that fits the answer.
    """
    value = _json_object(response, asked)
    try:
        return model.model_validate(value)
    except (ValidationError, RecursionError):
        raise _not_the_promised(value, response, asked) from None


def parse_page(model: type[M], response: RawResponse, asked: Asked) -> Page[M]:
    """The answer as a page of ``model``; entries without an id are left out, for a list proves nothing about what it lacks."""
    value = _json_object(response, asked)
    data = value.get("data")
    if value.get("object") != "list" and not isinstance(data, list):
        raise _not_the_promised(value, response, asked)
    items = []
    for entry in data if isinstance(data, list) else ():
        try:
            items.append(model.model_validate(entry))
        except (ValidationError, RecursionError):
            continue
    try:
        return Page[M].model_validate({**value, "data": tuple(items)})
    except ValidationError:
        raise _not_the_promised(value, response, asked) from None


def check_status(response: RawResponse, asked: Asked) -> None:
    """Pass a 200 that is not a web page.

    :raises BifrostGatewayError: for anything else.
    """
    if response.status_code != 200:
        raise _error(response, asked)
    if response.content_type == "text/html":
        raise _protocol_error(
            "the answer is a web page: this address is no route of the gateway's API", response, asked, may_pass=False
        )


def unavailable(problem: str, asked: Asked, *, may_pass: bool = True) -> BifrostUnavailable:
    """There was no answer.

    :param problem: what the network said; anything like a key in it is struck out.
    :param may_pass: False for what looks like a wrong address or certificate.
    """
    return BifrostUnavailable(
        _message(asked, f"no answer ({quote(problem)})", _ADVICE[BifrostUnavailable]), may_pass=may_pass
    )


def too_large(limit: int, asked: Asked) -> BifrostProtocolError:
    """The answer is larger than any that the API promises."""
    return BifrostProtocolError(
        _message(asked, f"the answer has more than {limit} bytes", _ADVICE[BifrostProtocolError]), status_code=200
    )


def quote(text: str) -> str:
    """``text`` on one line, shortened, with anything like a key struck out."""
    return _shorten(_SECRETS.sub("***", " ".join(text.split())))


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_QUOTE else text[:MAX_QUOTE] + "…"


def _json_object(response: RawResponse, asked: Asked) -> dict[str, Any]:
    check_status(response, asked)
    if "json" not in response.content_type:
        kind = response.content_type or "nothing said about its type"
        raise _protocol_error(f"the answer is not JSON ({kind})", response, asked, may_pass=False)
    try:
        value = json.loads(response.body)
    except (ValueError, RecursionError):
        raise _protocol_error("the answer calls itself JSON and is not", response, asked, may_pass=False) from None
    if not isinstance(value, dict):
        raise _protocol_error(f"the answer is JSON, but {_kind(value)}", response, asked, may_pass=False)
    return value


def _not_the_promised(value: Mapping[str, Any], response: RawResponse, asked: Asked) -> BifrostProtocolError:
    """JSON of another shape. With the gateway's marks on it, the upstream slipped (its ``{}`` arrives as 200 with an empty id)."""
    from_gateway = "extra_fields" in value or "is_bifrost_error" in value
    problem = "the answer lacks an id or a status" if from_gateway else "the answer is JSON of another API"
    if message := GatewayErrorBody.parse(response.body).message:
        problem += f" ({quote(message)})"
    return _protocol_error(problem, response, asked, may_pass=from_gateway)


def _error(response: RawResponse, asked: Asked) -> BifrostGatewayError:
    body = GatewayErrorBody.parse(response.body)
    status = response.status_code
    said = f"the gateway answered {status}"
    if body.message:
        said += f": {quote(body.message)}"
    elif response.body:
        said += f", with a body of type {response.content_type or 'unknown'}"
    if status < 400:
        where = " and a Location, which is not followed" if "location" in response.headers else ""
        return _protocol_error(said + where, response, asked, may_pass=body.from_gateway or status == 204)
    if status == 404 and response.content_type == "text/html":
        return _protocol_error(said, response, asked, may_pass=False)
    kind = _class_of(status, body)
    advice = _ADVICE_BY_TYPE.get(body.type or "", _ADVICE[kind])
    return kind(
        _message(asked, said, advice),
        status_code=status,
        error_type=body.type,
        error_code=body.code,
        retry_after=parse_retry_after(response.headers.get("retry-after"), asked.now),
    )


def _class_of(status: int, body: GatewayErrorBody) -> type[BifrostGatewayError]:
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
        case _ if status < 500:
            return BifrostRequestError
        case _ if body.code == "unsupported_operation" or (body.message and _NEVER_ACCEPTED.search(body.message)):
            return BifrostRequestError
    return BifrostUnavailable


def _protocol_error(problem: str, response: RawResponse, asked: Asked, *, may_pass: bool) -> BifrostProtocolError:
    advice = _ADVICE[BifrostUnavailable] if may_pass else _ADVICE[BifrostProtocolError]
    return BifrostProtocolError(_message(asked, problem, advice), status_code=response.status_code, may_pass=may_pass)


def _message(asked: Asked, problem: str, advice: str) -> str:
    doing = asked.request.doing
    return (
        f"{doing[0].upper()}{doing[1:]} through connection {asked.gateway!r} failed: {problem.rstrip('.')}."
        f" {asked.request.fate} {advice}"
    )


def _kind(value: Any) -> str:
    return {list: "a list", str: "a string", bool: "true or false", type(None): "null"}.get(type(value), "a number")
