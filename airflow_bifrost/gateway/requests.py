"""What to send for each call of the API. Pure: builds requests, sends nothing.

Where ``provider`` goes differs by call, and the gateway ignores it in any other place: the query for what reads, the JSON body
for a create, a form field for an upload.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

MAX_ID_LENGTH = 1024

# Providers that pick a model themselves, silently, or refuse, unless the create names one. For the others a model would only let
# the gateway's governance rewrite it to that of another provider.
NEED_MODEL = frozenset({"gemini", "bedrock", "vertex"})

# Providers of whose lists only the first page can be had: the gateway passes no cursor on to them, and answers with page one again.
ONE_PAGE = frozenset({"anthropic", "gemini", "bedrock"})

# The gateway passes `x-bf-eh-<name>` on to the provider as `<name>`; a plain Idempotency-Key it drops.
IDEMPOTENCY_HEADER = "x-bf-eh-idempotency-key"

_CREATE_FIELDS = frozenset(
    {"input_file_id", "requests", "endpoint", "completion_window", "metadata", "model", "provider"}
)

_RUNS_ON = "The batch is not touched by this: if it was submitted, it runs on and is billed as usual."
_NOTHING_BILLED = "Nothing is billed for this."
_MAYBE_CREATED = "A batch may exist and be billed: look for it before submitting again."
_NOT_CREATED = "Nothing was submitted, and nothing is billed."
_NOTHING_BILLED_FOR_UPLOAD = "Nothing is billed for this. If the connection broke, the file may be over the gateway's `max_request_body_size_mb` (100)."
_MAYBE_RUNNING = "The batch may still be running, and be billed."


@dataclass(frozen=True, slots=True)
class GatewayRequest:
    """One request, not yet bound to a gateway.

    :param doing: what it does, for messages: ``retrieving batch 'b1' of 'openai'``.
    :param fate: what its failure means for the money, for messages.
    :param fate_if_refused: the same for a clear refusal, where that differs.
    :param path: below the gateway's root, exactly as it goes over the wire.
    :param prefixed: whether ``path`` is below the connection's ``path_prefix``.
    :param repeatable: whether it may be sent again after a fault.
    :param authenticated: whether the token goes along.
    """

    doing: str
    fate: str
    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    json: Mapping[str, Any] | None = field(default=None, repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)
    prefixed: bool = True
    repeatable: bool = True
    authenticated: bool = True
    fate_if_refused: str | None = None

    def target(self, path_prefix: str) -> str:
        """Path and query below the gateway's root."""
        path = f"{path_prefix}{self.path}" if self.prefixed else self.path
        return f"{path}?{urlencode(self.query)}" if self.query else path


def checked_id(value: str, what: str = "batch_id") -> str:
    """``value`` if it is an id that reaches the gateway as one path segment.

    The gateway decodes the segment, and some providers' paths are built from it again: a slash or ``..`` would ask the provider
    for something else with the gateway's own key, and ``%ff`` ends the gateway's process.

    :raises ValueError: says what is wrong with it.
    """
    if not isinstance(value, str):
        raise ValueError(f"{what} must be a string, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{what} is empty; did the task that makes it push one?")
    if len(value) > MAX_ID_LENGTH:
        raise ValueError(f"{what} has {len(value)} characters; at most {MAX_ID_LENGTH} are an id")
    if wrong := re.search(r"[^\x21-\x7e]|[/\\?#%]|\.\.|^\.$", value):
        hint = ""
        if value.startswith("arn:"):
            hint = "; for Bedrock use the id that the gateway returned (base64 of the ARN)"
        elif value.startswith("s3://"):
            hint = "; an s3:// address is no file id: read it from S3"
        raise ValueError(f"{what} {value[:80]!r} has {wrong.group()!r}, which no id on the gateway may have{hint}")
    return value


def get_batch(batch_id: str, provider: str) -> GatewayRequest:
    checked_id(batch_id)
    return GatewayRequest(
        f"retrieving batch {batch_id!r} of {provider!r}",
        _RUNS_ON,
        "GET",
        f"/v1/batches/{batch_id}",
        (("provider", provider),),
    )


def list_batches(provider: str, *, limit: int | None = None, after: str | None = None) -> GatewayRequest:
    return GatewayRequest(
        f"listing batches of {provider!r}", _NOTHING_BILLED, "GET", "/v1/batches", _page_query(provider, limit, after)
    )


def create_batch(
    provider: str,
    *,
    idempotency_key: str,
    input_file_id: str | None = None,
    requests: Sequence[Mapping[str, Any]] | None = None,
    endpoint: str | None = None,
    completion_window: str | None = None,
    metadata: Mapping[str, str] | None = None,
    model: str | None = None,
    extra_body: Mapping[str, Any] | None = None,
    rows_follow: bool = False,
) -> GatewayRequest:
    """
    :param rows_follow: the client adds the member ``requests``, which it streams.
    :raises ValueError: what the gateway would refuse, or silently read otherwise, is refused before it costs anything.
    """
    if (input_file_id is not None) + (requests is not None) + rows_follow != 1:
        raise ValueError("give either input_file_id or requests: of both, the gateway would silently drop the requests")
    if requests is not None and not requests:
        raise ValueError("requests is empty: there is nothing to submit")
    if provider in NEED_MODEL and not model:
        raise ValueError(f"{provider} needs a model: without one the provider refuses, or silently takes a default")
    if taken := sorted(set(extra_body or ()) & _CREATE_FIELDS):
        raise ValueError(f"extra_body must not hold {', '.join(taken)}: there is an argument for it")
    for key, value in (metadata or {}).items():
        if not isinstance(value, str):
            raise ValueError(
                f"metadata[{key!r}] must be a string, not {type(value).__name__}: the gateway takes no other"
            )
    body: dict[str, Any] = {
        "input_file_id": input_file_id,
        "requests": list(requests) if requests is not None else None,
        "endpoint": endpoint,
        "completion_window": completion_window,
        "metadata": dict(metadata) if metadata else None,
        "model": model if provider in NEED_MODEL else None,
        **(extra_body or {}),
        "provider": provider,
    }
    return GatewayRequest(
        f"creating a batch of {provider!r}",
        _MAYBE_CREATED,
        "POST",
        "/v1/batches",
        headers=_idempotency(idempotency_key),
        json={key: value for key, value in body.items() if value is not None},
        repeatable=False,
        fate_if_refused=_NOT_CREATED,
    )


def cancel_batch(batch_id: str, provider: str) -> GatewayRequest:
    checked_id(batch_id)
    return GatewayRequest(
        f"cancelling batch {batch_id!r} of {provider!r}",
        _MAYBE_RUNNING,
        "POST",
        f"/v1/batches/{batch_id}/cancel",
        (("provider", provider),),
    )


def native_id(batch_id: str, provider: str) -> str:
    """The provider's own id, of the one that the OpenAI-compatible routes gave out: native routes pass on what they are given.

    Gemini knows a batch by its id without ``batches-`` before it. Of a Bedrock job, only its id, the end of its ARN, reaches AWS
    unharmed.
    """
    if provider == "gemini":
        return batch_id.removeprefix("batches-")
    if provider == "bedrock":
        with contextlib.suppress(ValueError):  # it is no base64, or that of something else
            arn = base64.b64decode(batch_id, validate=True).decode()
            if arn.startswith("arn:"):
                return arn.rpartition("/")[2]
    return batch_id


def batch_results(batch_id: str, provider: str) -> GatewayRequest:
    """The native route: the OpenAI-compatible routes have no results."""
    checked_id(batch_id)
    return GatewayRequest(
        f"reading the results of batch {batch_id!r} of {provider!r}",
        _RUNS_ON,
        "GET",
        f"/v1/batches/{native_id(batch_id, provider)}/results",
        (("provider", provider),),
        prefixed=False,
    )


def upload_file(
    provider: str, *, purpose: str, idempotency_key: str, extra_form: Mapping[str, str] | None = None
) -> GatewayRequest:
    """The file itself is added by the client, which streams it."""
    return GatewayRequest(
        f"uploading a file to {provider!r}",
        _NOTHING_BILLED_FOR_UPLOAD,
        "POST",
        "/v1/files",
        headers=_idempotency(idempotency_key),
        form={**(extra_form or {}), "purpose": purpose, "provider": provider},
        repeatable=False,
    )


def list_files(provider: str, *, limit: int | None = None, after: str | None = None) -> GatewayRequest:
    return GatewayRequest(
        f"listing files of {provider!r}", _NOTHING_BILLED, "GET", "/v1/files", _page_query(provider, limit, after)
    )


def get_file(file_id: str, provider: str) -> GatewayRequest:
    return _file(file_id, provider, "retrieving", "GET")


def delete_file(file_id: str, provider: str) -> GatewayRequest:
    return _file(file_id, provider, "deleting", "DELETE")


def file_content(file_id: str, provider: str) -> GatewayRequest:
    return _file(file_id, provider, "downloading", "GET", "/content")


def health() -> GatewayRequest:
    return GatewayRequest(
        "asking for the gateway's health", _NOTHING_BILLED, "GET", "/health", prefixed=False, authenticated=False
    )


def version() -> GatewayRequest:
    """A route of the gateway's web UI, which a deployment may hide or guard by a login of its own."""
    return GatewayRequest(
        "asking for the gateway's version", _NOTHING_BILLED, "GET", "/api/version", prefixed=False, authenticated=False
    )


def _file(file_id: str, provider: str, doing: str, method: str, tail: str = "") -> GatewayRequest:
    checked_id(file_id, "file_id")
    return GatewayRequest(
        f"{doing} file {file_id!r} of {provider!r}",
        _NOTHING_BILLED,
        method,
        f"/v1/files/{file_id}{tail}",
        (("provider", provider),),
    )


def _idempotency(key: str) -> tuple[tuple[str, str], ...]:
    if not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
        raise ValueError(
            "idempotency_key must have 1 to 255 characters, ASCII and without white space: it is an HTTP header"
        )
    return ((IDEMPOTENCY_HEADER, key),)


def _page_query(provider: str, limit: int | None, after: str | None) -> tuple[tuple[str, str], ...]:
    pairs = {"provider": provider, "limit": limit, "after": after}
    return tuple((name, str(value)) for name, value in pairs.items() if value is not None)
