"""The gateway's error bodies, and the status that each kind of route and each version give them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

from airflow_bifrost.testing.versions import V1_4, V1_5, V2, Version

FOR_A_KEY = ("batch_create", "file_upload")  # calls for which the gateway picks one of its keys


@dataclass
class GatewayError(Exception):
    """An answer of the gateway that is an error.

    Without a ``status``, it is 500 if the gateway blames itself (``is_bifrost_error``). Otherwise it is 400, but 500 on the openai routes
    up to 1.4.
    """

    message: str
    status: int | None = None
    kind: str | None = None  # the top-level "type": governance's word
    detail: dict[str, Any] = field(default_factory=dict)  # further members of "error": type, code, param, error
    is_bifrost_error: bool = False
    raw: Any = None  # what the provider said, quoted as extra_fields.raw_response
    routed: bool = True  # whether the call had been routed to its provider
    context: dict[str, Any] | None = None  # extra_fields: provider, request_type, ...

    def about(self, provider: str, request_type: str, model: str | None = None, version: Version = V1_4) -> Self:
        """The same error, naming the call that it answers."""
        routed = routing(provider, request_type, model) if self.routed else {}
        context = {"provider": provider, **models(model, version), "request_type": request_type}
        return replace(self, context=context if version < V1_5 else {"routing_info": routed} | context)

    def status_code(self, *, native: bool, version: Version = V1_4) -> int:
        """HTTP status on the native or the openai routes."""
        if self.status is not None:
            return self.status
        return 500 if self.is_bifrost_error or (version < V1_5 and not native) else 400

    def body(self, version: Version = V1_4) -> dict[str, Any]:
        """The JSON body; members that do not apply are absent, never null."""
        body: dict[str, Any] = {} if self.kind is None else {"type": self.kind}
        body["is_bifrost_error"] = self.is_bifrost_error
        if self.status is not None:
            body["status_code"] = self.status
        body["error"] = {**self.detail, "message": self.message}
        context = ({} if version < V1_5 else {"routing_info": {}}) if self.context is None else self.context
        if version >= V2:
            context = {**context, "latency": 0, "key_statuses": []}
        body["extra_fields"] = context if self.raw is None else {**context, "raw_response": self.raw}
        return body


def routing(provider: str, request_type: str, model: str | None) -> dict[str, str]:
    """``routing_info``: where a call went."""
    info = {"provider": provider}
    if model:
        info["model"] = model
    return info | {"key": f"{provider}-1"} if request_type in FOR_A_KEY else info


def models(model: str | None, version: Version) -> dict[str, str]:
    """What ``extra_fields`` say about the requested model."""
    if not model:
        return {}
    if version < V1_5:
        return {"model_requested": model}
    return {"original_model_requested": model, "resolved_model_used": model}


def twice(message: str, **detail: Any) -> GatewayError:
    """An error of the gateway's core, which gives its text both as message and as cause."""
    return GatewayError(message, detail={"error": message, **detail})


def unknown_provider(provider: str, version: Version) -> GatewayError:
    """The provider is unknown, misspelled or not configured."""
    name = "" if version < V1_5 else f" {provider}"
    return replace(twice(f"failed to get config for provider{name}: not found"), routed=False)


def unsupported(provider: str, request_type: str) -> GatewayError:
    """The provider has no such call."""
    return GatewayError(
        f"{request_type} is not supported by {provider} provider", detail={"code": "unsupported_operation"}
    )


def no_key(provider: str, request_type: str) -> GatewayError:
    """The provider is configured, but has no key at all."""
    model = " and model: " if request_type in FOR_A_KEY else ""
    return replace(twice(f"no keys found for provider: {provider}{model}"), routed=False)


def no_batch_key(provider: str, request_type: str, version: Version) -> GatewayError:
    """The provider is configured, but none of its keys may be used for batches."""
    if request_type in FOR_A_KEY:
        words = "for batch APIs. Please enable" if version < V1_5 else "for batch apis; enable"
        message = f"no config found {words} 'Use for Batch APIs' on at least one key for provider: {provider}"
    else:
        message = f"no batch-enabled keys found for provider: {provider} and model: "
    return replace(twice(message), routed=False)


def refused(message: str) -> GatewayError:
    """The gateway's own refusal of an argument, before anything is sent to the provider."""
    return GatewayError(message, is_bifrost_error=True)


def bad_request(message: str) -> GatewayError:
    """The native routes' refusal of an incomplete request."""
    return GatewayError(message, status=400)


def invalid_json(cause: str, length: int, version: Version) -> GatewayError:
    """A request body that does not parse, or has a member of the wrong type."""
    if version < V1_5:
        return GatewayError("Invalid JSON", detail={"error": cause})
    cause = f"invalid JSON request body (length {length}): {cause}"
    return GatewayError("Invalid JSON", status=400, detail={"error": cause})


def unparsable_upload(cause: str, version: Version) -> GatewayError:
    """An upload that is not a complete multipart form."""
    return GatewayError("failed to parse request", status=None if version < V1_5 else 400, detail={"error": cause})


def unusable_id(what: str, segment: str) -> GatewayError:
    """An ID that would change the path at the provider. Gateways refuse it since 2.0."""
    return GatewayError(f"invalid {what}: {segment!r} must not be empty or shape a path", status=400, routed=False)


def of_another_key(what: str) -> GatewayError:
    """Since 2.0, what belongs to another virtual key is not found."""
    return GatewayError(f"{what} not found for this virtual key", status=404, kind="access_blocked", routed=False)


def queue_full(version: Version) -> GatewayError:
    """The gateway's queue for the provider is full."""
    return GatewayError("request dropped: queue is full", status=None if version < V2 else 503, routed=False)
