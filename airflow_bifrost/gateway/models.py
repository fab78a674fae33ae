"""The answers of the gateway's API, as frozen pydantic models.

Sources: the API reference of Bifrost (``GET /openai/v1/batches/{batch_id}`` and the other routes) and the behavior of a running gateway.
Answers vary, and the models normalize them: null, ``""`` and 0 become None if they mean "unknown", unknown fields are kept, and a field
of the wrong type counts as absent, so that a minor error never hides the status of a paid batch. Only ``id`` and ``status`` are required.
The server is not trusted: texts are printable and bounded, and anything like a key in them is masked.
"""

from __future__ import annotations

import json
from itertools import islice
from typing import Annotated, Any, Generic, TypeVar

import pendulum
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from airflow_bifrost.gateway.values import (
    MAX_ERRORS,
    MAX_MEMBERS,
    Count,
    Flag,
    GivenId,
    GivenName,
    Id,
    Mapping,
    Message,
    Metadata,
    Name,
    Time,
    Url,
    Word,
    Words,
    count,
    more_pages,
    read_json,
    word,
)

T = TypeVar("T", bound=BaseModel)


class Model(BaseModel):
    """Frozen. Keeps unknown fields."""

    model_config = ConfigDict(frozen=True, extra="allow", arbitrary_types_allowed=True)


class RequestCounts(Model):
    """Numbers of rows by state. A number is None if the gateway did not send it.

    The meaning differs by provider: Gemini's ``completed`` includes failed rows, Anthropic's does not.
    """

    total: Count = None
    completed: Count = None
    failed: Count = None
    succeeded: Count = None
    expired: Count = None
    canceled: Count = None
    pending: Count = None

    @model_validator(mode="before")
    @classmethod
    def _three_zeros_mean_not_given(cls, value: Any) -> Any:
        """The gateway always sends total, completed and failed: 0/0/0 if the provider sent nothing."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict):
            return {}
        known = {name for name in cls.model_fields if count(value.get(name))}
        return value if known else {name: item for name, item in value.items() if name not in cls.model_fields}


class BatchError(Model):
    """One entry of ``errors.data``: why the provider refused or failed the batch."""

    code: Word = None
    message: Message = None
    param: Name = None
    line: Count = None


def _errors(value: Any) -> tuple[Any, ...]:
    data = value.get("data") if isinstance(value, dict) else value
    return tuple(_error(item) for item in data[:MAX_ERRORS] if item) if isinstance(data, list | tuple) else ()


def _error(item: Any) -> Any:
    """A batch may have an error for each row, and an error may have any number of members, so both are cut before they become models."""
    if isinstance(item, BatchError):
        return item
    if isinstance(item, dict):
        return dict(islice(item.items(), MAX_MEMBERS))
    return {"message": item if isinstance(item, str) else json.dumps(item) if not isinstance(item, list) else "…"}


class Batch(Model):
    """A batch as the gateway describes it. ``status`` is the provider's own word; see :meth:`airflow_bifrost.providers.base.Provider.outcome`."""

    id: GivenId
    status: GivenName
    object: Name = None
    endpoint: Name = None
    input_file_id: Id = None
    completion_window: Name = None
    request_counts: Annotated[RequestCounts, BeforeValidator(lambda value: value or {})] = RequestCounts()
    metadata: Metadata = None
    created_at: Time = None
    expires_at: Time = None
    in_progress_at: Time = None
    finalizing_at: Time = None
    completed_at: Time = None
    failed_at: Time = None
    expired_at: Time = None
    cancelling_at: Time = None
    cancelled_at: Time = None
    archived_at: Time = None
    output_file_id: Id = None
    error_file_id: Id = None
    errors: Annotated[tuple[BatchError, ...], BeforeValidator(_errors)] = ()
    processing_status: Name = None
    results_url: Url = None
    operation_name: Id = None
    done: Flag = None
    progress: Count = None
    display_name: Name = None
    input_blob: Url = None
    output_blob: Url = None
    error_blob: Url = None
    extra_fields: Mapping = None

    @property
    def ended_at(self) -> pendulum.DateTime | None:
        """When the batch became terminal, from whichever timestamp is present."""
        return self.completed_at or self.failed_at or self.expired_at or self.cancelled_at


class File(Model):
    """An uploaded or produced file.

    ``bytes`` is its size. ``status`` says whether a batch may use it, see :class:`airflow_bifrost.providers.base.FileReadiness`.
    """

    id: GivenId
    object: Name = None
    bytes: Count = None
    created_at: Time = None
    expires_at: Time = None
    filename: Name = None
    purpose: Name = None
    status: Name = None
    status_details: Message = None
    storage_backend: Name = None
    storage_uri: Id = None
    extra_fields: Mapping = None


class DeletedFile(Model):
    """The answer to the deletion of a file."""

    id: GivenId
    deleted: Flag = None


class Page(Model, Generic[T]):
    """One page of a list.

    :param next_cursor: what to send as ``after``. Batches call it ``next_cursor``, files ``after``.
    :param without_data: whether the answer is a list without ``data``. It looks like an empty page, but proves nothing.
    """

    data: tuple[T, ...]
    without_data: bool = False
    has_more: Annotated[bool | None, BeforeValidator(more_pages)] = None
    next_cursor: Id = None

    @model_validator(mode="before")
    @classmethod
    def _fold(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if not value.get("next_cursor") and value.get("after"):
            value = {**value, "next_cursor": value["after"]}
        without_data = value.get("data") is None and value.get("object") == "list"
        return {**value, "data": [], "without_data": True} if without_data else {**value, "without_data": False}


class BatchResults(Model):
    """Rows of the native results route, in the provider's form.

    The route is incomplete for some providers: for OpenAI and Azure it omits the error file, for Gemini it may invent a row.
    """

    batch_id: Annotated[str, Field(min_length=1)]
    results: Annotated[tuple[dict[str, Any], ...], BeforeValidator(lambda value: () if value is None else value)]
    extra_fields: Mapping = None


class Health(Model):
    """The gateway's own health. ``components`` lists what it checked."""

    status: Annotated[str, Field(min_length=1)]
    components: Mapping = None


class GatewayErrorBody(Model):
    """The part of an error body that may be shown: ``message``, ``type`` and ``code``.

    ``without_status`` is True for an error of the gateway's own: it repeats the HTTP status only of an answer that it got from the provider,
    and of its own refusals that have one. Since version 2, the gateway may say how many milliseconds to wait (``retry_after_ms``).

    ``error.error`` and ``extra_fields.raw_response`` quote the provider, keys and prompts included, and are never read.
    """

    message: Words = None
    type: Word = None
    code: Word = None
    from_gateway: bool = False
    without_status: bool = False
    retry_after_ms: Count = None

    @classmethod
    def parse(cls, body: bytes) -> GatewayErrorBody:
        """Read an error body of any kind. An unreadable body gives an empty one."""
        try:
            return cls.of(read_json(body))
        except ValueError:
            return cls()

    @classmethod
    def of(cls, value: Any) -> GatewayErrorBody:
        """The same from parsed JSON. ``from_gateway`` is True if the body has the gateway's marks."""
        if not isinstance(value, dict):
            return cls()
        error = value.get("error")
        if not isinstance(error, dict):
            error = {"message": error}
        extra = value.get("extra_fields")
        from_gateway = "is_bifrost_error" in value or "extra_fields" in value
        pauses = [count(place.get("retry_after_ms")) for place in (value, error, extra) if isinstance(place, dict)]
        return cls(
            message=error.get("message") or value.get("message"),
            type=word(value.get("type")) or error.get("type"),
            code=error.get("code"),
            from_gateway=from_gateway,
            without_status=from_gateway and "status_code" not in value,
            retry_after_ms=max((pause for pause in pauses if pause is not None), default=None),
        )
