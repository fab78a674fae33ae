"""What the gateway answers if the provider's answer is unusable: a refusal, a failure, or nonsense. Pure.

Each provider has its own format of errors. The gateway reads the members that it knows and quotes the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_bifrost.testing.errors import GatewayError, queue_full, refused
from airflow_bifrost.testing.json_text import parsed
from airflow_bifrost.testing.versions import V1_4, V1_5, V2, Version

JsonObject = dict[str, Any]

_UNREADABLE = "failed to unmarshal response from provider API"
_HTML = "HTML response received from provider"
_EMPTY = "empty response received from provider"
_NOT_CARRIED_OUT = "failed to execute HTTP request to provider API"
_NO_CONNECTION = "network error occurred while connecting to provider API (DNS lookup, connection refused, etc.)"
_TIMED_OUT = (
    "request timed out (default is {} seconds). You can increase it by setting the "
    "default_request_timeout_in_seconds in the network_config or in UI - Providers > Provider Name > Network Config."
)
_CLOSED = (
    "the server closed connection before returning the first response byte. "
    "Make sure the server returns 'Connection: close' response header before closing the connection"
)
_FAILURES = {  # message and cause
    "close": (_NOT_CARRIED_OUT, _CLOSED),
    "reset": (_NOT_CARRIED_OUT, _CLOSED),
    "cut": (_NOT_CARRIED_OUT, "unexpected EOF"),
    "garbage": (_NOT_CARRIED_OUT, "error when reading response headers: cannot parse response status code"),
    "refused": (_NO_CONNECTION, "dial tcp 127.0.0.1:443: connect: connection refused"),
    "unknown_host": (_NO_CONNECTION, "dial tcp: lookup provider.invalid: no such host"),
    "timeout": (_TIMED_OUT, "timeout"),
    "queue_full": ("", None),
}


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """What a provider answers to the gateway, or how it fails to answer.

    :param status: HTTP status.
    :param headers: of the answer. Only the content type matters, because the gateway passes on no other header.
    :param body: a JSON value, or text that is sent unchanged; None: empty.
    :param failure: the provider sends no complete answer, and the other arguments are ignored: ``close`` or ``reset`` (the
        connection ends before the answer), ``cut`` (the answer breaks off), ``garbage`` (not HTTP), ``refused`` (the connection is
        refused), ``unknown_host``, ``timeout``, ``queue_full`` (the gateway's queue for the provider is full).
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    failure: str | None = None

    def __post_init__(self) -> None:
        if self.failure is not None and self.failure not in _FAILURES:
            raise ValueError(f"failure is one of {', '.join(_FAILURES)}, not {self.failure!r}")
        if type(self.status) is not int or not 200 <= self.status <= 599:
            raise ValueError(f"status is an HTTP status from 200 to 599, not {self.status!r}")
        if not isinstance(self.headers, Mapping) or not all(isinstance(value, str) for value in self.headers.values()):
            raise ValueError(f"headers are names and texts, not {self.headers!r}")
        try:
            json.dumps(self.body)
        except (TypeError, ValueError) as error:
            raise ValueError(f"body is JSON or text: {error}") from error

    @property
    def text(self) -> str:
        """The body as it comes over the wire."""
        if self.body is None:
            return ""
        return self.body if isinstance(self.body, str) else json.dumps(self.body, ensure_ascii=False)

    @property
    def value(self) -> Any:
        """The body as JSON, or the text if it is not JSON."""
        try:
            return parsed(self.text)
        except ValueError:
            return self.text

    @property
    def content_type(self) -> str:
        """The content type, or an empty string."""
        return next((value for name, value in self.headers.items() if name.lower() == "content-type"), "")


class ProviderAnswered(Exception):
    """The provider has answered a call with something other than what was requested."""

    def __init__(self, answer: ProviderAnswer) -> None:
        super().__init__(answer)
        self.answer = answer


class GatewayEnds(Exception):
    """The real gateway's process ends on this answer."""


class ReadableAnswer(ValueError):
    """The gateway can read the answer, so it is not a fault."""


def received(
    provider: str, request_type: str, answer: ProviderAnswer, version: Version = V1_4
) -> JsonObject | ProviderAnswer:
    """The gateway's own answer.

    :return: the members of a JSON object without content, or, for the content of a file, ``answer`` itself.
    :raises GatewayError: the gateway answers with an error.
    :raises GatewayEnds: the gateway's process ends.
    :raises ReadableAnswer: ``answer`` is not a fault.
    """
    if answer.failure is not None:
        raise failed(provider, answer.failure, version)
    if provider == "gemini" and request_type == "batch_list" and answer.status in (404, 405):
        return dict(_NOTHING_LISTED)
    if answer.status != 200:
        raise passed_on(provider, request_type, answer, version)
    if request_type == "file_content":
        return answer
    if provider not in ("gemini", "bedrock"):  # these two go straight to the parser
        if not answer.text.strip():
            raise GatewayError(_EMPTY, is_bifrost_error=True)
        if _looks_like_html(answer.value):
            raise GatewayError(_HTML, detail={"error": answer.text})
    if answer.value is not None and not isinstance(answer.value, dict):
        raise _unreadable(f"Mismatch type object with value {json.dumps(answer.value)[:40]}")
    return _empty_handed(provider, request_type, answer.value or {}, version)


def failed(provider: str, failure: str, version: Version = V1_4) -> GatewayError:
    """The gateway's error if no complete answer comes."""
    message, cause = _FAILURES[failure]
    if failure == "queue_full":
        return queue_full(version)
    if provider == "bedrock" and cause:  # uses another HTTP client, which reports every failure alike
        return GatewayError(_NOT_CARRIED_OUT, detail={"error": cause}, is_bifrost_error=True)
    if failure == "timeout":
        detail = {"error": cause, "type": "request_timed_out"}
        message = message.format(30 if version < V1_5 else 300)
        return GatewayError(message, status=504, detail=detail, is_bifrost_error=True)
    if version < V1_5:
        return GatewayError(message, detail={"error": cause})
    return GatewayError(message, status=502, detail={"error": cause, "type": "provider_connection_failed"})


# Any status but 200 is a refusal, also one that means success elsewhere.

_MEMBERS = {  # of the provider's error that the gateway reads
    "openai": ("message", "type", "code", "param"),
    "azure": ("message", "type", "code", "param"),
    "anthropic": ("message", "type"),
    "gemini": ("message", "code"),
    "bedrock": ("message", "code"),
    "vertex": ("message",),
}
_EMPTY_REFUSALS = {
    401: "authentication failed: unauthorized (401) - check your API key",
    403: "access forbidden (403) - your API key may not have permission for this operation",
    404: "resource not found (404)",
    429: "rate limit exceeded (429)",
    **{status: f"provider server error ({status})" for status in (500, 502, 503, 504)},
}


_BODILESS = (204, 205, 304)


def passed_on(provider: str, request_type: str, answer: ProviderAnswer, version: Version = V1_4) -> GatewayError:
    """The gateway's error for an answer with any status but 200."""
    if answer.status in _BODILESS and version >= V2:
        answer = replace(answer, status=502)
    if provider == "vertex":
        return _of_vertex(request_type, answer)
    members = _error_members(provider, answer.value)
    detail: JsonObject = {}
    if not answer.text.strip():
        message = _EMPTY_REFUSALS.get(answer.status, f"{_EMPTY} (HTTP {answer.status})")
    elif members is not None:
        message = members.pop("message", "")
        if not message and provider in ("openai", "azure"):
            message = f"provider API error (status {answer.status})"
        detail = members
    elif "text/html" in answer.content_type.lower() or _looks_like_html(answer.text):
        message, detail = _HTML, {"error": answer.text}
    else:
        message = f"provider API error: {answer.text}"
    quoted = (provider != "anthropic" or version >= V1_5) and request_type != "batch_create"
    return GatewayError(message, status=answer.status, detail=detail, raw=answer.value if quoted else None)


def _of_vertex(request_type: str, answer: ProviderAnswer) -> GatewayError:
    """Of Google's error only the message is left."""
    members = _error_members("vertex", answer.value) or {}
    what = request_type.replace("_", " ")
    message = members.get("message") or f"Vertex {what} failed with HTTP {answer.status}"
    return GatewayError(message, status=answer.status)


def _error_members(provider: str, value: Any) -> JsonObject | None:
    """What the gateway reads from the provider's own error; None if it does not have the provider's format."""
    error = value.get("error") if isinstance(value, dict) and provider != "bedrock" else value
    if error is None:
        return {}
    if not isinstance(error, dict):
        return None
    members = {name: error[name] for name in _MEMBERS[provider] if error.get(name) is not None}
    if not all(isinstance(members.get(name, ""), str) for name in ("message", "type")):
        return None
    return members | {"code": str(members["code"])} if "code" in members else members


# The gateway checks the types of the members that it reads from a 200, but not whether they are present.

_NOTHING_LISTED: JsonObject = {"object": "list", "data": []}
_TEXTS = ("id", "object", "endpoint", "input_file_id", "completion_window", "status", "output_file_id", "error_file_id")
_TIMES = (
    "created",
    "in_progress",
    "expires",
    "finalizing",
    "completed",
    "failed",
    "expired",
    "cancelling",
    "cancelled",
)
_OPENAI_BATCH: dict[str, type] = {
    **dict.fromkeys(_TEXTS, str),
    **{f"{time}_at": int for time in _TIMES},
    **dict.fromkeys(("metadata", "request_counts", "errors"), dict),
}
_BATCHES: dict[str, dict[str, type]] = {
    "openai": _OPENAI_BATCH,
    "azure": _OPENAI_BATCH,
    "anthropic": {"id": str, "processing_status": str, "request_counts": dict, "created_at": str, "ended_at": str},
    "vertex": {
        **dict.fromkeys(("name", "displayName", "state", "createTime", "startTime", "endTime"), str),
        **dict.fromkeys(("inputConfig", "outputInfo", "completionStats", "error"), dict),
    },
}
_LISTED_AS = {"vertex": "batchPredictionJobs"}  # others: data


def _empty_handed(provider: str, request_type: str, value: JsonObject, version: Version) -> JsonObject:
    """The gateway's answer to an object without any of the members that it reads."""
    if provider == "gemini":
        _check_gemini_job(request_type, value, version)
    batch = _BATCHES.get(provider)
    if batch is not None and request_type == "batch_list" and not value.get(_LISTED_AS.get(provider, "data")):
        return dict(_NOTHING_LISTED)
    if batch is not None and request_type in ("batch_retrieve", "batch_create", "batch_cancel"):
        given = {name: value[name] for name in batch if value.get(name) is not None}
        if any(type(item) is not batch[name] for name, item in given.items()):
            raise _unreadable("Mismatch type")
        if not all(isinstance(text, str) for text in given.get("metadata", {}).values()):
            raise _unreadable("Mismatch type string")
        if not given:
            hollow = {"id": "", "status": "", "request_counts": {"total": 0, "completed": 0, "failed": 0}}
            if provider == "vertex":
                hollow["object"] = "batch"
            shows_processing = provider == "anthropic" and request_type != "batch_cancel"
            return hollow | {"processing_status": ""} if shows_processing else hollow
    raise ReadableAnswer(
        "this ProviderAnswer can be read by the gateway, so it is not a fault (put a batch into its state with add_batch or "
        f"set_batch): {json.dumps(value)[:200]}"
    )


def _check_gemini_job(request_type: str, value: JsonObject, version: Version) -> None:
    metadata = value.get("metadata")
    if isinstance(metadata, dict) and metadata.get("batchStats") is not None:
        return
    if request_type in ("batch_retrieve", "batch_results") and version < V2:
        raise GatewayEnds
    if request_type in ("batch_retrieve", "batch_results", "batch_create"):
        raise refused(f"gemini batch response missing {'metadata' if metadata is None else 'batch stats'}")


def _unreadable(cause: str) -> GatewayError:
    return GatewayError(_UNREADABLE, detail={"error": cause}, is_bifrost_error=True)


def _looks_like_html(text: Any) -> bool:
    marks = ("<!doctype html", "<html", "<head", "<body", "<title>", "<h1>", "<p>", "<div")
    return isinstance(text, str) and any(mark in text.lower() for mark in marks)
