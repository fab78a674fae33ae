"""The gateway's error bodies, and the status that each kind of route gives them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self


@dataclass
class GatewayError(Exception):
    """An answer of the gateway that is an error.

    Without a ``status``, it is 500 on the openai routes. On the native routes it is 400, unless the gateway
    blames itself (``is_bifrost_error``), which is 500 everywhere.
    """

    message: str
    status: int | None = None
    kind: str | None = None  # the top-level "type": governance's word
    detail: dict[str, Any] = field(default_factory=dict)  # further members of "error": type, code, param, error
    is_bifrost_error: bool = False
    raw: Any = None  # what the provider said, quoted as extra_fields.raw_response
    context: dict[str, Any] = field(default_factory=dict)  # extra_fields: provider, model_requested, request_type

    def about(self, provider: str, request_type: str, model: str | None = None) -> Self:
        """The same error, naming the call that it answers."""
        asked = {"model_requested": model} if model else {}
        return replace(self, context={"provider": provider, **asked, "request_type": request_type})

    def status_code(self, *, native: bool) -> int:
        """HTTP status on the native or the openai routes."""
        if self.status is not None:
            return self.status
        return 400 if native and not self.is_bifrost_error else 500

    def body(self) -> dict[str, Any]:
        """The JSON body; members that do not apply are absent, never null."""
        body: dict[str, Any] = {} if self.kind is None else {"type": self.kind}
        body["is_bifrost_error"] = self.is_bifrost_error
        if self.status is not None:
            body["status_code"] = self.status
        body["error"] = {**self.detail, "message": self.message}
        body["extra_fields"] = self.context if self.raw is None else {**self.context, "raw_response": self.raw}
        return body


def twice(message: str, **detail: Any) -> GatewayError:
    """An error of the gateway's core, which gives its text both as message and as cause."""
    return GatewayError(message, detail={"error": message, **detail})


def unknown_provider() -> GatewayError:
    """The provider is unknown, misspelled or not configured."""
    return twice("failed to get config for provider: not found")


def unsupported(provider: str, request_type: str) -> GatewayError:
    """The provider has no such call."""
    return GatewayError(
        f"{request_type} is not supported by {provider} provider", detail={"code": "unsupported_operation"}
    )


def no_key(provider: str, request_type: str) -> GatewayError:
    """The provider is configured, but has no key at all."""
    return twice(
        f"no keys found for provider: {provider}{' and model: ' if request_type in ('batch_create', 'file_upload') else ''}"
    )


def no_batch_key(provider: str, request_type: str) -> GatewayError:
    """The provider is configured, but none of its keys may be used for batches."""
    if request_type in ("batch_create", "file_upload"):
        return twice(
            f"no config found for batch APIs. Please enable 'Use for Batch APIs' on at least one key for provider: {provider}"
        )
    return twice(f"no batch-enabled keys found for provider: {provider} and model: ")


def refused(message: str) -> GatewayError:
    """The gateway's own refusal of an argument, before anything is sent to the provider."""
    return GatewayError(message, is_bifrost_error=True)


def bad_request(message: str) -> GatewayError:
    """The native routes' refusal of an incomplete request."""
    return GatewayError(message, status=400)


def invalid_json(cause: str) -> GatewayError:
    """A request body that does not parse, or has a member of the wrong type."""
    return GatewayError("Invalid JSON", detail={"error": cause})


def unparsable_upload(cause: str) -> GatewayError:
    """An upload that is not a complete multipart form."""
    return GatewayError("failed to parse request", detail={"error": cause})
