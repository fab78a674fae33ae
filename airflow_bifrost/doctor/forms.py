"""What an answer contains that this package does not know, and the answer with its secrets masked, for a public bug report. Pure.

It shows names, types, counts, times and the API's own words. It replaces everything else by its type, because an unknown field may contain
anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from airflow_bifrost.exceptions import BifrostGatewayError
from airflow_bifrost.gateway import responses
from airflow_bifrost.gateway.exchange import GatewayRequest, RawResponse, RequestContext
from airflow_bifrost.gateway.faults import FAULTS
from airflow_bifrost.gateway.models import Batch, BatchError, Health, Page, RequestCounts
from airflow_bifrost.gateway.redact import quote
from airflow_bifrost.gateway.values import read_json
from airflow_bifrost.gateway.versions import names_of
from airflow_bifrost.providers.statuses import BatchStatus

UNREADABLE = "the whole answer"

_PAGE_FIELDS = frozenset({"object", "after", "first_id", "last_id", "extra_fields"})  # in addition to the model's
_EXTRA_FIELDS = names_of("extra_fields")
_ERROR_FIELDS = names_of("error") | {"type", "event_id", "is_bifrost_error", "status_code", "error", "extra_fields"}
_CAUSE_FIELDS = frozenset({"type", "event_id", "code", "message", "param", "error"})
_ERROR_TYPES = frozenset(fault.type for fault in FAULTS if fault.type)

_WORDS = frozenset(
    {
        "code",
        "completion_window",
        "endpoint",
        "object",
        "processing_status",
        "provider",
        "request_type",
        "status",
        "type",
    }
)
_NUMBERS = frozenset(
    {*RequestCounts.model_fields, "chunk_index", "latency", "line", "progress", "retry_after_ms", "status_code"}
)
_KNOWN = frozenset(
    {
        *(name for model in (Batch, BatchError, Health, Page) for name in model.model_fields),
        *_WORDS,
        *_NUMBERS,
        *_PAGE_FIELDS,
        *_ERROR_FIELDS,
        *_CAUSE_FIELDS,
        *_EXTRA_FIELDS,
    }
)
# No value in these members is shown.
_OPAQUE = frozenset(
    {"metadata", "components", "raw_request", "raw_response", "provider_response_headers", "key_statuses"}
)
_USERS_NAMES = frozenset({"metadata"})  # their names are the user's, not the API's
_MAX_DEPTH, _MAX_MEMBERS, _MAX_DIGITS = 8, 50, 4
_WORD = re.compile(r"\w[\w.-]{0,47}", re.ASCII)
_ENDPOINT = re.compile(r"/v1(?=.{1,45}$)(?:/[a-z_]+)+")


@dataclass(frozen=True, slots=True)
class Form:
    """An answer that contains something unknown.

    :param asked: the request, without IDs.
    :param unknown: where in the answer: ``data[].priority``.
    :param harmless: whether everything else could be read.
    :param answer: masked; of a list, only the entry that contains it.
    """

    asked: str
    status_code: int
    unknown: tuple[str, ...]
    harmless: bool
    answer: Any

    def to_json(self) -> dict[str, Any]:
        return {
            "asked": self.asked,
            "status_code": self.status_code,
            "unknown": list(self.unknown),
            "answer": self.answer,
        }


def unknown_forms(
    answers: Iterable[tuple[GatewayRequest, RawResponse]], *, path_prefix: str, token: str | None
) -> list[Form]:
    """One example of each unknown form among the answers about health and batches."""
    found: dict[tuple[str, ...], Form] = {}
    for request, raw in answers:
        if request.prefixed or (request.path == "/health" and raw.status_code == 200):
            for unknown, harmless, value in _strange(request, raw):
                asked, shown = _asked(request, path_prefix, token), masked(value, token) if value else _outside(raw)
                found.setdefault(unknown, Form(asked, raw.status_code, unknown, harmless, shown))
    return list(found.values())


def _strange(request: GatewayRequest, raw: RawResponse) -> Iterator[tuple[tuple[str, ...], bool, dict[str, Any]]]:
    """What is unknown, whether that is harmless, and the part of the answer that shows it; empty if the answer is not a JSON object."""
    try:
        value = read_json(raw.body) if "json" in raw.content_type else None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        yield (f"{UNREADABLE} ({raw.status_code}, no JSON object)",), raw.status_code >= 400, {}
        return
    if raw.status_code != 200:
        unknown = tuple(_of_error(value))
        if raw.status_code < 400:
            yield (UNREADABLE, *unknown), False, value
        elif unknown:
            yield unknown, True, value
        return
    try:
        model = _parsed(request, raw)
    except BifrostGatewayError:
        yield (UNREADABLE, *(_name(name) for name in value if name not in _KNOWN)), False, value
        return
    if isinstance(model, Page):
        entries = value.get("data") or []
        for batch, entry in zip(model.data, entries, strict=True):
            if unknown := tuple(_of_model(batch, entry, "data[].")):
                yield unknown, not _is_unknown_status(batch), {**value, "data": [entry]}
        value = {**value, "data": []}
        model = model.model_copy(update={"data": ()})
    if unknown := tuple(_of_model(model, value)):
        yield unknown, not _is_unknown_status(model), value


def _parsed(request: GatewayRequest, raw: RawResponse) -> BaseModel:
    asked = RequestContext(request, "", 0.0)
    if request.path == "/health":
        return responses.parse(Health, raw, asked)
    if request.path == "/v1/batches":
        return responses.parse_page(Batch, raw, asked)
    return responses.parse(Batch, raw, asked)


def _is_unknown_status(model: BaseModel) -> bool:
    return isinstance(model, Batch) and BatchStatus.of(model.status) is BatchStatus.UNKNOWN


def _of_model(model: BaseModel, value: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """Fields that the model does not have, and values that it ignored because they have the wrong type."""
    known = set(type(model).model_fields) | (_PAGE_FIELDS if isinstance(model, Page) else set())
    for name, item in value.items():
        if name == "extra_fields":
            yield from _of_extra_fields(item, where)
        elif name not in known:
            yield f"{where}{_name(name)}"
        elif name == "status" and _is_unknown_status(model):
            yield f"{where}status ({_word(item)})"
        else:
            yield from _of_field(getattr(model, name, item), item, f"{where}{name}")


def _of_field(read: Any, item: Any, where: str) -> Iterator[str]:
    if isinstance(read, BaseModel):
        if isinstance(item, Mapping):
            yield from _of_model(read, item, f"{where}.")
        elif item:
            yield f"{where} ({_kind(item)})"
    elif isinstance(read, tuple) and read:
        entries = (item.get("data") if isinstance(item, Mapping) else item) or ()
        for model, entry in zip(read, filter(None, entries), strict=False):
            if isinstance(entry, Mapping):
                yield from _of_model(model, entry, f"{where}[].")
            else:
                yield f"{where}[] ({_kind(entry)})"
    elif (item and not read and read is not item) or (isinstance(read, bool) and not isinstance(item, bool)):
        yield f"{where} ({_kind(item)})"


def _of_extra_fields(item: Any, where: str) -> Iterator[str]:
    if isinstance(item, Mapping):
        yield from (f"{where}extra_fields.{_name(name)}" for name in item if name not in _EXTRA_FIELDS)
    else:
        yield f"{where}extra_fields ({_kind(item)})"


def _of_error(value: Mapping[str, Any]) -> Iterator[str]:
    yield from (_name(name) for name in value if name not in _ERROR_FIELDS)
    if (word := value.get("type")) and (not isinstance(word, str) or word not in _ERROR_TYPES):
        yield f"type ({_word(word)})"
    if isinstance(error := value.get("error"), Mapping):
        yield from (f"error.{_name(name)}" for name in error if name not in _CAUSE_FIELDS)
    else:
        yield f"error ({_kind(error)})"
    if "extra_fields" in value:
        yield from _of_extra_fields(value["extra_fields"], "")


def masked(value: Any, token: str | None = None) -> Any:
    """JSON with its names and types, and only those values that identify nobody."""
    return _masked(value, "", token, shown=True, named=True, depth=0)


def _masked(value: Any, name: str, token: str | None, *, shown: bool, named: bool, depth: int) -> Any:
    """Mask one value.

    :param shown: whether values may be shown. Those in an unknown field may not.
    :param named: whether names may be shown.
    """
    if isinstance(value, Mapping):
        if depth >= _MAX_DEPTH:
            return "<object>"
        shown = shown and (depth == 0 or name in _KNOWN) and name not in _OPAQUE
        named = named and name not in _USERS_NAMES
        inside = {
            _name(key, token) if named else _no_name(key): _masked(
                item, key, token, shown=shown, named=named, depth=depth + 1
            )
            for key, item in list(value.items())[:_MAX_MEMBERS]
        }
        more = len(value) - _MAX_MEMBERS
        return {**inside, f"<{more} more>": "..."} if more > 0 else inside
    if isinstance(value, list):
        if depth >= _MAX_DEPTH:
            return "<list>"
        first = [_masked(item, name, token, shown=shown, named=named, depth=depth + 1) for item in value[:1]]
        return [*first, f"<{len(value) - 1} more>"] if len(value) > 1 else first
    if value is None or isinstance(value, bool) or value == "":
        return value
    if isinstance(value, str):
        form = _ENDPOINT if name == "endpoint" else _WORD
        is_shown = shown and name in _WORDS and _identifies_nobody(value, token, form)
        return value if is_shown else f"<string of {len(value)}>"
    return value if shown and (name in _NUMBERS or name.endswith("_at")) else "<number>"


def _name(name: str, token: str | None = None) -> str:
    """A field's name, unless it looks like an ID."""
    return name if name in _KNOWN or _identifies_nobody(name, token) else _no_name(name)


def _no_name(name: str) -> str:
    return f"<name of {len(name)}>"


def _word(value: Any) -> str:
    return value if isinstance(value, str) and _identifies_nobody(value, None) else _kind(value)


def _identifies_nobody(text: str, token: str | None, form: re.Pattern[str] = _WORD) -> bool:
    """Whether it is one word without many digits. Prose, addresses and paths may identify somebody."""
    digits = sum(char.isdigit() for char in text)
    is_a_word = form.fullmatch(text) is not None and digits <= _MAX_DIGITS
    return is_a_word and quote(text) == text and not (token and token in text)


def _asked(request: GatewayRequest, path_prefix: str, token: str | None) -> str:
    path = re.sub(r"(/batches/)[^/]+", r"\1<id>", request.path)
    shown = {
        name: value if _identifies_nobody(value, token) else "..." for name, value in request.query if name != "after"
    }
    query = "&".join(f"{name}={shown.get(name, '...')}" for name, _ in request.query)
    return f"{request.method} {path_prefix if request.prefixed else ''}{path}{'?' if query else ''}{query}"


def _outside(raw: RawResponse) -> str:
    """What is shown of an answer that is not a JSON object."""
    kind = raw.content_type if re.fullmatch(r"[a-z]+/[a-z.+-]+", raw.content_type) else "no known type"
    return f"<{kind}, {len(raw.body)} bytes>"


def _kind(value: Any) -> str:
    return {dict: "object", list: "list", str: "string", bool: "true or false", type(None): "null"}.get(
        type(value), "number"
    )
