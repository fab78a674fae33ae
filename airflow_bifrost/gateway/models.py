"""What the gateway's API returns, as frozen pydantic models.

Sources: the API reference of Bifrost (``GET /openai/v1/batches/{batch_id}`` and its neighbours) and the behaviour of a
running gateway. Answers are untidy, and the models fold that in one place: null, ``""`` and 0 where nothing is known
become None, unknown fields are kept, and a field of the wrong type counts as absent, so that an odd detail never hides the status
of a batch that was paid for. Only ``id`` and ``status`` must be there.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

import pendulum
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, field_validator, model_validator

T = TypeVar("T", bound=BaseModel)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return int(number) if number.is_integer() and number >= 0 else None


def _time(value: Any) -> pendulum.DateTime | None:
    """Unix seconds, or ISO 8601 as the native routes of other servers send it, as an aware time in UTC; 0 means unknown."""
    if isinstance(value, pendulum.DateTime):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not value:
        return None
    try:
        seconds = float(value)
        return pendulum.from_timestamp(seconds) if seconds > 0 else None
    except (OverflowError, OSError):
        return None
    except ValueError:
        return _iso_time(str(value))


def _iso_time(text: str) -> pendulum.DateTime | None:
    try:
        return pendulum.instance(datetime.fromisoformat(text)).in_timezone("UTC")
    except (ValueError, OverflowError):
        return None


def _mapping(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) and value else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


Text = Annotated[str | None, BeforeValidator(_text)]
Count = Annotated[int | None, BeforeValidator(_count)]
Time = Annotated[
    pendulum.DateTime | None,
    BeforeValidator(_time),
    PlainSerializer(lambda time: time and time.to_iso8601_string(), return_type=str | None, when_used="json"),
]
Mapping = Annotated[dict[str, Any] | None, BeforeValidator(_mapping)]
Flag = Annotated[bool | None, BeforeValidator(_flag)]


class Model(BaseModel):
    """Frozen; keeps fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="allow", arbitrary_types_allowed=True)


class RequestCounts(Model):
    """How many rows of the batch are where. Each is None where the gateway gave nothing.

    What the numbers mean differs by upstream: Gemini's ``completed`` includes the rows that failed, Anthropic's does not.
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
        """The gateway always sends total, completed and failed, as 0/0/0 where the upstream told it nothing."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict):
            return {}
        known = {name for name in cls.model_fields if _count(value.get(name))}
        return value if known else {name: item for name, item in value.items() if name not in cls.model_fields}


class BatchError(Model):
    """One entry of ``errors.data``: why the upstream refused or failed the batch."""

    code: Text = None
    message: Text = None
    param: Text = None
    line: Count = None

    @field_validator("code", mode="before")
    @classmethod
    def _number_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _errors(value: Any) -> tuple[Any, ...]:
    data = value.get("data") if isinstance(value, dict) else value
    if not isinstance(data, list):
        return ()
    return tuple(item if isinstance(item, dict) else {"message": str(item)} for item in data if item)


class Batch(Model):
    """A batch as the gateway describes it. ``status`` is kept as it came; see :mod:`airflow_bifrost.gateway.outcome`."""

    id: Annotated[str, Field(min_length=1)]
    status: Annotated[str, Field(min_length=1)]
    object: Text = None
    endpoint: Text = None
    input_file_id: Text = None
    completion_window: Text = None
    request_counts: Annotated[RequestCounts, BeforeValidator(lambda value: value or {})] = RequestCounts()
    metadata: Mapping = None
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
    output_file_id: Text = None
    error_file_id: Text = None
    errors: Annotated[tuple[BatchError, ...], BeforeValidator(_errors)] = ()
    processing_status: Text = None
    results_url: Text = None
    operation_name: Text = None
    done: Flag = None
    progress: Count = None
    display_name: Text = None
    input_blob: Text = None
    output_blob: Text = None
    error_blob: Text = None
    extra_fields: Mapping = None

    @property
    def ended_at(self) -> pendulum.DateTime | None:
        """When the batch became terminal, by whichever of the API's timestamps says so."""
        return self.completed_at or self.failed_at or self.expired_at or self.cancelled_at


class File(Model):
    """An uploaded or produced file. ``bytes`` is its size."""

    id: Annotated[str, Field(min_length=1)]
    object: Text = None
    bytes: Count = None
    created_at: Time = None
    expires_at: Time = None
    filename: Text = None
    purpose: Text = None
    status: Text = None
    status_details: Text = None
    storage_backend: Text = None
    storage_uri: Text = None
    extra_fields: Mapping = None


class DeletedFile(Model):
    """The answer to the deletion of a file."""

    id: Annotated[str, Field(min_length=1)]
    deleted: Flag = None


class Page(Model, Generic[T]):
    """One page of a list. ``next_cursor`` is what to send as ``after``: batches call it ``next_cursor``, files ``after``."""

    data: tuple[T, ...] = ()
    has_more: Flag = None
    next_cursor: Text = None

    @model_validator(mode="before")
    @classmethod
    def _one_name_for_the_cursor(cls, value: Any) -> Any:
        if isinstance(value, dict) and not value.get("next_cursor") and value.get("after"):
            return {**value, "next_cursor": value["after"]}
        return value


class BatchResults(Model):
    """Rows of the native results route, in the upstream's shapes.

    Not every upstream is served truthfully by it: OpenAI and Azure leave out the error file, Gemini may invent a row.
    """

    batch_id: Text = None
    results: tuple[dict[str, Any], ...] = ()
    extra_fields: Mapping = None


class Health(Model):
    """The gateway's own health. ``components`` says what it checked."""

    status: Annotated[str, Field(min_length=1)]
    components: Mapping = None


class GatewayErrorBody(Model):
    """The part of an error body that may be shown: ``message``, ``type`` and ``code``.

    ``error.error`` and ``extra_fields.raw_response`` quote the upstream, keys and prompts included, and are never read.
    """

    message: Text = None
    type: Text = None
    code: Text = None
    from_gateway: bool = False

    @classmethod
    def parse(cls, body: bytes) -> GatewayErrorBody:
        """Read an error body of any kind; what cannot be read gives an empty one."""
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return cls()
        if not isinstance(value, dict):
            return cls()
        error = value.get("error")
        if isinstance(error, str):
            error = {"message": error}
        error = error if isinstance(error, dict) else {}
        code = error.get("code")
        return cls(
            message=error.get("message") or value.get("message"),
            type=value.get("type") or error.get("type"),
            code=str(code) if isinstance(code, int) else code,
            from_gateway="is_bifrost_error" in value or "extra_fields" in value,
        )
