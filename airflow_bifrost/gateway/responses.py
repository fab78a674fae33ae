"""Reads an answer as a model, or raises a typed error. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from airflow_bifrost import providers
from airflow_bifrost.exceptions import BifrostProtocolError
from airflow_bifrost.gateway import errors
from airflow_bifrost.gateway.exchange import RawResponse, RequestContext
from airflow_bifrost.gateway.models import (
    Batch,
    BatchResults,
    DeletedFile,
    File,
    GatewayErrorBody,
    Page,
    RequestCounts,
)
from airflow_bifrost.gateway.values import MAX_ENTRIES, MAX_VALUES, address, count, more_pages, read_json

COUNTS = tuple(RequestCounts.model_fields)

M = TypeVar("M", bound=BaseModel)

MAX_LISTED = 1_000  # entries of a page of batches; a request asks for a hundred


def check_status(response: RawResponse, context: RequestContext) -> None:
    """Accept a 200 that is not a web page.

    :raises BifrostGatewayError: for anything else.
    """
    if response.status_code != 200:
        raise errors.of_response(response, context)
    if response.content_type == "text/html":
        raise errors.protocol_error(
            "the answer is a web page, so this address is not a route of the gateway's API",
            200,
            context,
            transient=False,
        )


def parse(model: type[M], response: RawResponse, context: RequestContext) -> M:
    """The answer as ``model``.

    :raises BifrostGatewayError: of the class that fits the answer.
    """
    return _validated(model, _json_object(response, context), response, context)


def parse_batch(provider: str, batch_id: str, response: RawResponse, context: RequestContext) -> Batch:
    """The answer as the requested batch.

    :raises BifrostGatewayError: also if the answer is about another batch.
    """
    batch = parse(Batch, response, context)
    _check_same_batch(provider, batch_id, batch.id, context)
    return batch


def parse_raw_batch(provider: str, batch_id: str, response: RawResponse, context: RequestContext) -> dict[str, Any]:
    """The answer as a batch of which only ID and status are checked."""
    value = _json_object(response, context)
    if not (_is_text(value, "id") and _is_text(value, "status")):
        _validated(Batch, value, response, context)  # says what is wrong with it
    _check_same_batch(provider, batch_id, value["id"], context)
    return value


def counts_of(entry: dict[str, Any]) -> tuple[int | None, ...]:
    """The counts of a batch that is not parsed into a model, to compare them with those of another poll."""
    counts = entry.get("request_counts")
    return tuple(count(counts.get(name)) for name in COUNTS) if isinstance(counts, dict) else ()


def read_entry(batch_id: str, entry: dict[str, Any]) -> Batch:
    """A batch of :func:`parse_raw_batch` or :func:`parse_raw_page` as its model.

    :raises BifrostProtocolError: it cannot be read. This is transient, because it says nothing about the batch.
    """
    try:
        return Batch.model_validate(entry)
    except ValidationError as error:
        problem = f"the gateway shows batch {batch_id} in a form that cannot be read: {_what_is_wrong(error)}"
    raise BifrostProtocolError(
        f"{problem[0].upper()}{problem[1:]}. This does not affect the batch: it runs on and is billed.",
        problem=problem,
        status_code=200,
        transient=True,
    )


def parse_results(provider: str, batch_id: str, response: RawResponse, context: RequestContext) -> BatchResults:
    """The answer as the rows of the requested batch."""
    value = _json_object(response, context, max_values=None)  # a row may be an embedding
    results = _validated(BatchResults, value, response, context)
    _check_same_batch(provider, batch_id, results.batch_id, context)
    return results


def parse_file(provider: str, file_id: str, response: RawResponse, context: RequestContext) -> File:
    """The answer as the requested file."""
    file = parse(File, response, context)
    _check_same_file(provider, file_id, file.id, context)
    return file


def parse_deleted_file(provider: str, file_id: str, response: RawResponse, context: RequestContext) -> DeletedFile:
    """The answer as the requested deletion."""
    deleted = parse(DeletedFile, response, context)
    _check_same_file(provider, file_id, deleted.id, context)
    return deleted


def parse_page(model: type[M], response: RawResponse, context: RequestContext) -> Page[M]:
    """The answer as a page of ``model``.

    One unreadable entry makes the page unreadable: without it, a batch would seem not to exist.
    """
    value = _json_object(response, context)
    _check_entries(value.get("data"), MAX_ENTRIES, context)
    return _validated(Page[model], value, response, context)  # type: ignore[valid-type]


@dataclass(frozen=True, slots=True)
class RawPage:
    """A page of a list of batches, hardly parsed: ``entries`` are JSON objects, each with an ID and a status.

    :param has_more: whether the list continues after this page.
    """

    entries: tuple[dict[str, Any], ...]
    next_cursor: str | None
    has_more: bool = False


def parse_raw_page(response: RawResponse, context: RequestContext) -> RawPage:
    """The answer as a page that is hardly parsed, because a hundred models cost ten times as much as the page.

    An entry without ID and status is left out, so the page may show less than there is.
    """
    value = _json_object(response, context)
    data = value.get("data")
    if data is None and value.get("object") == "list":
        data = []
    if not isinstance(data, list):
        raise errors.protocol_error("the answer is not a list", response.status_code, context, transient=False)
    _check_entries(data, MAX_LISTED, context)
    entries = tuple(
        entry for entry in data if isinstance(entry, dict) and _is_text(entry, "id") and _is_text(entry, "status")
    )
    has_more = bool(more_pages(value.get("has_more")))
    return RawPage(entries, address(value.get("next_cursor")) if has_more else None, has_more)


def parse_version(response: RawResponse, context: RequestContext) -> str | None:
    """The answer as a JSON string, if the gateway reports its version."""
    check_status(response, context)
    try:
        value = read_json(response.body, token=context.token)
    except ValueError:
        return None
    return value if isinstance(value, str) else None


def _check_entries(data: Any, most: int, context: RequestContext) -> None:
    if isinstance(data, list) and len(data) > most:
        problem = f"the page has {len(data):,} entries, and at most {most:,} were expected"
        raise errors.protocol_error(problem, 200, context, transient=False)


def _is_text(entry: dict[str, Any], name: str) -> bool:
    return isinstance(entry.get(name), str) and entry[name] != ""


def _check_same_batch(provider: str, asked: str, answered: str, context: RequestContext) -> None:
    if not providers.get(provider).is_same_batch(asked, answered):
        raise _about_another("batch", answered, context)


def _check_same_file(provider: str, asked: str, answered: str, context: RequestContext) -> None:
    """Compared only if the provider's files have the same ID everywhere. For the others, no rule is known."""
    if providers.get(provider).one_file_id and asked != answered:
        raise _about_another("file", answered, context)


def _about_another(what: str, answered: str, context: RequestContext) -> Exception:
    return errors.protocol_error(
        f"the answer is about another {what}, {context.quote(answered)!r}", 200, context, transient=False
    )


def _json_object(
    response: RawResponse, context: RequestContext, *, max_values: int | None = MAX_VALUES
) -> dict[str, Any]:
    check_status(response, context)
    status = response.status_code
    if "json" not in response.content_type:
        kind = context.quote(response.content_type) or "no content type"
        raise errors.protocol_error(f"the answer is not JSON ({kind})", status, context, transient=False)
    try:
        value = read_json(response.body, token=context.token, max_values=max_values)
    except ValueError as error:
        why = "" if isinstance(error, json.JSONDecodeError) else f": {error}"
        raise errors.protocol_error(f"the answer is not valid JSON{why}", status, context, transient=False) from None
    if not isinstance(value, dict):
        raise errors.protocol_error(
            f"the answer is not a JSON object, but {_kind(value)}", status, context, transient=False
        )
    return value


def _validated(model: type[M], value: dict[str, Any], response: RawResponse, context: RequestContext) -> M:
    """With the gateway's marks, JSON in another form is a provider's error: its ``{}`` arrives as 200 with an empty ID."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        wrong = _what_is_wrong(error)
    body = GatewayErrorBody.of(value)
    problem = f"the answer is not what the API promises: {wrong}"
    if body.message:
        problem += f" ({context.quote(body.message)})"
    raise errors.protocol_error(problem, response.status_code, context, transient=body.from_gateway)


def _what_is_wrong(error: ValidationError) -> str:
    """Which fields are wrong, and how. A provider's error arrives as null or as an empty string, which counts as missing."""
    found: dict[str, bool] = {}  # name -> whether it is missing
    for detail in error.errors(include_url=False, include_context=False):
        missing = detail["type"] == "missing" or detail["input"] in (None, "")
        found.setdefault(".".join(map(str, detail["loc"])), missing)
    names = sorted(found)[:3]
    return ", ".join(
        f"{_listed(some)} {'are' if len(some) > 1 else 'is'} {how}"
        for how, some in (
            ("missing", [name for name in names if found[name]]),
            ("of the wrong type", [name for name in names if not found[name]]),
        )
        if some
    )


def _listed(names: list[str]) -> str:
    *first, last = (f"`{name}`" for name in names)
    return f"{', '.join(first)} and {last}" if first else last


def _kind(value: Any) -> str:
    return {list: "a list", str: "a string", bool: "true or false", type(None): "null"}.get(type(value), "a number")
