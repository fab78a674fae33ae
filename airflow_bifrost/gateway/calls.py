"""Defines every call of the API once: what to send, how to read the answer, how large the answer may be, and when to retry.

Both clients use these definitions. The place of ``provider`` differs by call, and the gateway ignores it in any other place: the query
for reads, the JSON body for a create, a form field for an upload.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, Generic, TypeVar

from airflow_bifrost import providers
from airflow_bifrost.gateway import responses
from airflow_bifrost.gateway.exchange import Fate, GatewayRequest, RawResponse, RequestContext
from airflow_bifrost.gateway.ids import checked_id
from airflow_bifrost.gateway.models import Batch, BatchResults, DeletedFile, File, Health, Page
from airflow_bifrost.gateway.responses import RawPage
from airflow_bifrost.gateway.retry import Repeat

R = TypeVar("R")

SMALL_ANSWER = 8 * 2**20  # bytes; any answer except files and results
LIST_ANSWER = 2 * 2**20  # bytes; twenty times a page of a hundred batches
RESULTS_ANSWER = 128 * 2**20  # bytes; the native results route has no pages, and `results_content` has no maximum

# The gateway passes `x-bf-eh-<name>` on to the provider as `<name>`. It drops a plain Idempotency-Key.
IDEMPOTENCY_HEADER = "x-bf-eh-idempotency-key"

_CREATE_FIELDS = frozenset(
    {"input_file_id", "requests", "endpoint", "completion_window", "metadata", "model", "provider"}
)

_READS = Fate("This does not affect the batch: if it was submitted, it runs on and is billed.")
_BILLS_NOTHING = Fate("Nothing is billed for this call.")
_CREATES = Fate(
    "A batch may exist and be billed.",
    refused=(
        "The provider refused this request. But the gateway repeats a request whose connection breaks, and the provider may have accepted"
        " an earlier one, so a batch may exist and be billed."
    ),
    not_sent="Nothing was submitted, and nothing is billed.",
)
_CANCELS = Fate(
    "The batch may still be running, and be billed.",
    not_sent="The batch was not cancelled: if it is running, it runs on and is billed.",
)
_UPLOADS = Fate(
    "Nothing is billed for an upload.",
    broken="If the file is larger than the gateway's `max_request_body_size_mb` (default 100), the connection breaks each time.",
)


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """One call of the API.

    :param parse: reads the answer, or raises the error that the answer means.
    :param max_bytes: a larger answer is an error.
    :param content: streamed into the request: the file of an upload, or the rows of a create. It is rewound for each attempt.
    :param filename: name of an uploaded file.
    :param on_repeat: called before each retry.
    """

    request: GatewayRequest
    parse: Callable[[RawResponse, RequestContext], R]
    max_bytes: int = SMALL_ANSWER
    content: IO[bytes] | None = None
    filename: str | None = None
    on_repeat: Callable[[], None] | None = None


# Batches


def get_batch(batch_id: str, provider: str) -> Call[Batch]:
    return Call(_get_batch(batch_id, provider), partial(responses.parse_batch, provider, batch_id))


def get_raw(batch_id: str, provider: str) -> Call[dict[str, Any]]:
    return Call(_get_batch(batch_id, provider), partial(responses.parse_raw_batch, provider, batch_id))


def list_page(provider: str, *, limit: int | None = None, after: str | None = None) -> Call[Page[Batch]]:
    return Call(_list_batches(provider, limit, after), partial(responses.parse_page, Batch))


def list_raw(provider: str, *, limit: int | None = None, after: str | None = None) -> Call[RawPage]:
    return Call(_list_batches(provider, limit, after), responses.parse_raw_page, LIST_ANSWER)


def create_batch(
    provider: str,
    *,
    idempotency_key: str,
    input_file_id: str | None = None,
    requests: Sequence[Mapping[str, Any]] | None = None,
    rows: IO[bytes] | None = None,
    endpoint: str | None = None,
    completion_window: str | None = None,
    metadata: Mapping[str, str] | None = None,
    model: str | None = None,
    extra_body: Mapping[str, Any] | None = None,
) -> Call[Batch]:
    """Costs money, so it is sent again only if the first one certainly did not reach the provider.

    :param requests: the rows; instead of ``input_file_id``.
    :param rows: the rows as an open JSONL file, streamed; instead of ``requests``.
    :raises ValueError: the gateway would refuse an argument, or silently misread it.
    """
    if (input_file_id is not None) + (requests is not None) + (rows is not None) != 1:
        raise ValueError(
            "Give either input_file_id or requests. With both, the gateway would silently drop the requests."
        )
    if requests is not None and not requests:
        raise ValueError("requests is empty: there is nothing to submit")
    needs_model = providers.get(provider).needs_model
    if needs_model and not model:
        raise ValueError(f"{provider} needs a model: without one the provider refuses, or silently takes a default")
    if taken := sorted(set(extra_body or ()) & _CREATE_FIELDS):
        raise ValueError(f"extra_body must not contain {', '.join(taken)}: there is an argument for it")
    for key, value in (metadata or {}).items():
        if not isinstance(value, str):
            raise ValueError(
                f"metadata[{key!r}] must be a string, not {type(value).__name__}: the gateway accepts no other type"
            )
    body: dict[str, Any] = {
        "input_file_id": input_file_id,
        "requests": list(requests) if requests is not None else None,
        "endpoint": endpoint,
        "completion_window": completion_window,
        "metadata": dict(metadata) if metadata else None,
        "model": model if needs_model else None,
        **(extra_body or {}),
        "provider": provider,
    }
    request = GatewayRequest(
        f"creating a batch of {provider!r}",
        _CREATES,
        "POST",
        "/v1/batches",
        headers=_idempotency(idempotency_key),
        json={key: value for key, value in body.items() if value is not None},
        repeat=Repeat.IF_NOT_SENT,
        if_refused=providers.get(provider).refused_create,
    )
    return Call(request, partial(responses.parse, Batch), content=rows)


def cancel_batch(batch_id: str, provider: str) -> Call[Batch]:
    checked_id(batch_id)
    request = GatewayRequest(
        f"cancelling batch {batch_id!r} of {provider!r}",
        _CANCELS,
        "POST",
        f"/v1/batches/{batch_id}/cancel",
        (("provider", provider),),
    )
    return Call(request, partial(responses.parse_batch, provider, batch_id))


def batch_results(batch_id: str, provider: str) -> Call[BatchResults]:
    """The native route, because the OpenAI-compatible routes have no results. It passes on the provider's own ID."""
    native_id = checked_id(providers.get(provider).native_id(checked_id(batch_id)))
    request = GatewayRequest(
        f"reading the results of batch {batch_id!r} of {provider!r}",
        _READS,
        "GET",
        f"/v1/batches/{native_id}/results",
        (("provider", provider),),
        prefixed=False,
    )
    return Call(request, partial(responses.parse_results, provider, batch_id), RESULTS_ANSWER)


# Files


def upload_file(
    provider: str,
    file: IO[bytes],
    *,
    purpose: str,
    idempotency_key: str,
    filename: str | None = None,
    extra_form: Mapping[str, str] | None = None,
    on_repeat: Callable[[], None] | None = None,
) -> Call[File]:
    request = GatewayRequest(
        f"uploading a file to {provider!r}",
        _UPLOADS,
        "POST",
        "/v1/files",
        headers=_idempotency(idempotency_key),
        form={**(extra_form or {}), "purpose": purpose, "provider": provider},
        repeat=Repeat.UPLOAD,
    )
    return Call(
        request, partial(responses.parse, File), content=file, filename=filename or "batch.jsonl", on_repeat=on_repeat
    )


def list_files_page(provider: str, *, limit: int | None = None, after: str | None = None) -> Call[Page[File]]:
    request = GatewayRequest(
        f"listing files of {provider!r}", _BILLS_NOTHING, "GET", "/v1/files", _page_query(provider, limit, after)
    )
    return Call(request, partial(responses.parse_page, File))


def get_file(file_id: str, provider: str) -> Call[File]:
    request = _file_request(file_id, provider, "retrieving", "GET")
    return Call(request, partial(responses.parse_file, provider, file_id))


def delete_file(file_id: str, provider: str) -> Call[DeletedFile]:
    request = _file_request(file_id, provider, "deleting", "DELETE")
    return Call(request, partial(responses.parse_deleted_file, provider, file_id))


def file_content(file_id: str, provider: str) -> GatewayRequest:
    """The answer is streamed, so there is nothing to parse."""
    return _file_request(file_id, provider, "downloading", "GET", "/content")


# The gateway itself


def health() -> Call[Health]:
    request = GatewayRequest(
        "reading the gateway's health", _BILLS_NOTHING, "GET", "/health", prefixed=False, authenticated=False
    )
    return Call(request, partial(responses.parse, Health))


def version() -> Call[str | None]:
    """A route of the gateway's web UI, which a deployment may hide, or put behind another login."""
    request = GatewayRequest(
        "reading the gateway's version", _BILLS_NOTHING, "GET", "/api/version", prefixed=False, authenticated=False
    )
    return Call(request, responses.parse_version)


def _get_batch(batch_id: str, provider: str) -> GatewayRequest:
    checked_id(batch_id)
    return GatewayRequest(
        f"retrieving batch {batch_id!r} of {provider!r}",
        _READS,
        "GET",
        f"/v1/batches/{batch_id}",
        (("provider", provider),),
    )


def _list_batches(provider: str, limit: int | None, after: str | None) -> GatewayRequest:
    return GatewayRequest(
        f"listing batches of {provider!r}", _BILLS_NOTHING, "GET", "/v1/batches", _page_query(provider, limit, after)
    )


def _file_request(file_id: str, provider: str, doing: str, method: str, tail: str = "") -> GatewayRequest:
    checked_id(file_id, "file_id")
    return GatewayRequest(
        f"{doing} file {file_id!r} of {provider!r}",
        _BILLS_NOTHING,
        method,
        f"/v1/files/{file_id}{tail}",
        (("provider", provider),),
    )


def _idempotency(key: str) -> tuple[tuple[str, str], ...]:
    if not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
        raise ValueError("idempotency_key must have 1 to 255 ASCII characters without whitespace: it is an HTTP header")
    return ((IDEMPOTENCY_HEADER, key),)


def _page_query(provider: str, limit: int | None, after: str | None) -> tuple[tuple[str, str], ...]:
    pairs = {"provider": provider, "limit": limit, "after": after}
    return tuple((name, str(value)) for name, value in pairs.items() if value is not None)
