"""The answers of the gateway's API, as frozen pydantic models.

Sources: the API reference of Bifrost (``GET /openai/v1/batches/{batch_id}`` and the other routes) and the behavior of a running gateway.
Answers vary, and the models normalize them: null, ``""`` and 0 become None if they mean "unknown", unknown fields are kept, and a field
of the wrong type counts as absent, so that a minor error never hides the status of a paid batch. Only ``id`` and ``status`` are required.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

import pendulum
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

T = TypeVar("T", bound=BaseModel)


def read_json(body: bytes) -> Any:
    """``body`` as JSON types. NaN and Infinity, which JSON does not have, become None; halves of surrogate pairs are replaced.

    :raises ValueError: it is not JSON, or nested too deeply.
    """
    try:
        value = json.loads(body, parse_constant=lambda _: None)
        if b"\\ud" in body or b"\\uD" in body:  # perhaps half a pair: nothing can encode, store or show it
            value = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _word(value: Any) -> str | None:
    """A name that some servers send as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value)


def _count(value: Any) -> int | None:
    if (isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}", value)) or (
        isinstance(value, float) and value.is_integer()
    ):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < 2**63 else None


def _time(value: Any) -> pendulum.DateTime | None:
    """Unix seconds, or ISO 8601 as some servers send it, as an aware time in UTC. 0 means unknown."""
    if isinstance(value, datetime):
        return pendulum.instance(value)
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


def more_pages(value: Any) -> bool | None:
    """``has_more`` of a page. A value that is neither true nor false nor absent counts as true, because a wrong end would hide batches."""
    return value if isinstance(value, bool) or value is None else True


Text = Annotated[str | None, BeforeValidator(_text)]
Word = Annotated[str | None, BeforeValidator(_word)]
Count = Annotated[int | None, BeforeValidator(_count)]
Time = Annotated[
    pendulum.DateTime | None,
    BeforeValidator(_time),
    PlainSerializer(lambda time: time and time.to_iso8601_string(), return_type=str | None, when_used="json"),
]
Mapping = Annotated[dict[str, Any] | None, BeforeValidator(_mapping)]
Flag = Annotated[bool | None, BeforeValidator(_flag)]


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
        known = {name for name in cls.model_fields if _count(value.get(name))}
        return value if known else {name: item for name, item in value.items() if name not in cls.model_fields}


class BatchError(Model):
    """One entry of ``errors.data``: why the provider refused or failed the batch."""

    code: Word = None
    message: Text = None
    param: Text = None
    line: Count = None


def _errors(value: Any) -> tuple[Any, ...]:
    data = value.get("data") if isinstance(value, dict) else value
    if not isinstance(data, list | tuple):
        return ()
    return tuple(item if isinstance(item, dict | BatchError) else {"message": str(item)} for item in data if item)


class Batch(Model):
    """A batch as the gateway describes it. ``status`` is kept as it came; see :meth:`airflow_bifrost.providers.base.Provider.outcome`."""

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
        """When the batch became terminal, from whichever timestamp is present."""
        return self.completed_at or self.failed_at or self.expired_at or self.cancelled_at


class File(Model):
    """An uploaded or produced file.

    ``bytes`` is its size. ``status`` says whether a batch may use it, see :class:`airflow_bifrost.providers.base.FileReadiness`.
    """

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
    """One page of a list.

    :param next_cursor: what to send as ``after``. Batches call it ``next_cursor``, files ``after``.
    :param without_data: whether the answer is a list without ``data``. It looks like an empty page, but proves nothing.
    """

    data: tuple[T, ...]
    without_data: bool = False
    has_more: Annotated[bool | None, BeforeValidator(more_pages)] = None
    next_cursor: Text = None

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

    ``error.error`` and ``extra_fields.raw_response`` quote the provider, keys and prompts included, and are never read.
    """

    message: Text = None
    type: Word = None
    code: Word = None
    from_gateway: bool = False

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
        return cls(
            message=_text(error.get("message")) or value.get("message"),
            type=_word(value.get("type")) or error.get("type"),
            code=error.get("code"),
            from_gateway="is_bifrost_error" in value or "extra_fields" in value,
        )
