"""Damaged answers become a typed error or a model. They never show a success that did not happen, or a count that nobody gave.

800 examples of each property, the same in each run, or 100,000 others with ``--hypothesis-profile=nightly``.
"""

from __future__ import annotations

import copy
import json
import re
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_bifrost import providers
from airflow_bifrost.exceptions import BifrostGatewayError
from airflow_bifrost.gateway import calls, responses
from airflow_bifrost.gateway.exchange import RawResponse, RequestContext
from airflow_bifrost.gateway.models import Batch, BatchResults, DeletedFile, File, Health, Page, RequestCounts
from airflow_bifrost.gateway.summary import BatchSummary
from airflow_bifrost.providers.statuses import Outcome

from .recordings import RECORDINGS

PARSERS = {
    "get_batch": partial(responses.parse, Batch),
    "create_batch": partial(responses.parse, Batch),
    "cancel_batch": partial(responses.parse, Batch),
    "list_page": partial(responses.parse_page, Batch),
    "batch_results": partial(responses.parse, BatchResults),
    "upload_file": partial(responses.parse, File),
    "get_file": partial(responses.parse, File),
    "list_files_page": partial(responses.parse_page, File),
    "delete_file": partial(responses.parse, DeletedFile),
    "health": partial(responses.parse, Health),
}
ASKED = RequestContext(calls.get_batch("b", "openai").request, "my_conn", 1_775_400_000.0, "sk-bf-conformance")
# Words by which a provider says that a batch has run to its end; anything else is no success.
SUCCESS = re.compile(r"(batch_state_|job_state_)?(completed|succeeded)|ended")

ANSWERED = [r for r in RECORDINGS if r.answer is not None and r.call in PARSERS]
WITH_JSON = [r for r in ANSWERED if isinstance(r.answer["body"], dict)]
READABLE = [r for r in WITH_JSON if "fields" in r.expected]
BATCHES = [r for r in READABLE if r.call in ("get_batch", "create_batch", "cancel_batch", "list_page")]
WORDS = sorted(
    {r.provider_said for r in RECORDINGS if r.provider_said}
    | {r.expected["fields"].get("status") or "" for r in READABLE}
)
TOKEN = "sk-bf-conformance"
ODD: list[Any] = [
    f"no such key: {TOKEN}",
    None,
    "",
    0,
    -1,
    1.5,
    7.0,
    "7",
    "٣",
    10**30,
    True,
    [],
    {},
    [None],
    {"a": [1]},
    "text",
    "\ud800",
    "\0",
    "x" * 9000,
]
KINDS = [
    "application/json",
    "application/json; charset=utf-8",
    "text/html",
    "text/plain",
    "application/problem+json",
    "",
    "\x7f",
]
STATUSES = [200, 200, 200, 201, 204, 301, 302, 400, 401, 402, 403, 404, 409, 429, 500, 502, 503, 504, 529, 999]

NIGHTLY = settings.default.max_examples > 800
many = settings(deadline=None, max_examples=settings.default.max_examples if NIGHTLY else 800, derandomize=not NIGHTLY)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every member of ``value``."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, member in members for place in [(*path, key), *places(member, (*path, key))]]


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


PLACES = {r.title: places(r.answer["body"]) for r in WITH_JSON}
DONORS = [at(r.answer["body"], path) for r in WITH_JSON for path in PLACES[r.title]]
NAMES = ["future", "status", "request_counts", "succeeded", "completed", "errors", "is_bifrost_error"]


def one_of(draw: st.DrawFn, among: list[Any]) -> Any:
    """One of many, by its number: hypothesis would print them all."""
    return among[draw(st.integers(0, len(among) - 1))]


@st.composite
def damaged_bodies(draw: st.DrawFn, among: list[Any]) -> tuple[Any, Any]:
    """A recording, and its JSON with one to three members taken away, added or replaced."""
    recording = one_of(draw, among)
    body = json.loads(json.dumps(recording.answer["body"]))
    for _ in range(draw(st.integers(1, 3))):
        *way, last = one_of(draw, PLACES[recording.title])
        kind = draw(st.sampled_from(["delete", "odd", "word", "donor", "add"]))
        source = {"word": WORDS, "donor": DONORS}.get(kind, ODD)
        new = copy.deepcopy(one_of(draw, source))
        try:
            member = at(body, tuple(way))
            if kind == "delete":
                del member[last]
            elif kind == "add" and isinstance(member, dict):
                member[one_of(draw, NAMES)] = new
            else:
                member[last] = new
        except (LookupError, TypeError):  # an earlier damage took the place away
            continue
    return recording, body


@st.composite
def damaged_answers(draw: st.DrawFn) -> tuple[Any, RawResponse]:
    """A recording, and its answer with other members, another status, another type, or bytes that are lost, put in or turned."""
    recording, body = draw(damaged_bodies(WITH_JSON))
    raw = bytearray(json.dumps(body, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass"))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(raw)))
        match draw(st.sampled_from(["cut", "insert", "turn"])):
            case "cut":
                del raw[place:]
            case "insert":
                raw[place:place] = draw(st.binary(max_size=4))
            case "turn" if place < len(raw):
                raw[place] ^= 1 << draw(st.integers(0, 7))
    headers = (
        {"content-type": draw(st.sampled_from(KINDS))} if draw(st.integers(0, 3)) == 0 else recording.answer["headers"]
    )
    if draw(st.integers(0, 9)) == 0:
        headers = {
            **headers,
            "retry-after": draw(
                st.sampled_from(["1", "-1", "nan", "inf", "soon", "9" * 400, "Sun, 05 Apr 2026 14:41:00 GMT"])
            ),
        }
    status = draw(st.sampled_from(STATUSES)) if draw(st.integers(0, 3)) == 0 else recording.answer["status"]
    return recording, RawResponse(status, headers, bytes(raw))


def read(call: str, body: Any) -> Any:
    """The model that a 200 with this JSON is; None if it is none."""
    try:
        return PARSERS[call](RawResponse(200, {"content-type": "application/json"}, json.dumps(body).encode()), ASKED)
    except BifrostGatewayError:
        return None


def batches_in(value: Any, body: Any) -> list[tuple[Batch, dict[str, Any]]]:
    """Each batch of an answer, with the JSON that it was read from."""
    if isinstance(value, Page):
        return list(zip(value.data, body.get("data") or [], strict=True))
    return [(value, body)] if value is not None else []


def same_number(number: int, given_: Any) -> bool:
    return not isinstance(given_, bool) and str(given_).removesuffix(".0") == str(number)


@many
@given(damaged_answers())
def test_a_damaged_answer_is_a_model_or_a_typed_error(damaged):
    recording, response = damaged
    try:
        value = PARSERS[recording.call](response, ASKED)
    except BifrostGatewayError as error:
        raised = error
    else:
        assert response.status_code == 200
        assert value.model_dump(mode="json")
        return
    assert ASKED.token not in str(raised)
    assert len(str(raised)) < 2000
    assert raised.retry_after is None or 0 <= raised.retry_after <= 3600


@many
@given(damaged_bodies(BATCHES))
def test_nothing_succeeds_without_a_word_of_success_from_the_provider(damaged):
    recording, body = damaged
    for batch, source in batches_in(read(recording.call, body), body):
        if providers.get(recording.provider).outcome(batch.status, batch.request_counts) is Outcome.SUCCEEDED:
            assert SUCCESS.fullmatch(source["status"].strip().lower().replace("-", "_").replace(" ", "_"))


@many
@given(damaged_bodies(BATCHES))
def test_no_success_hides_a_row_that_the_counts_miss(damaged):
    recording, body = damaged
    for batch, _ in batches_in(read(recording.call, body), body):
        counts = batch.request_counts
        if providers.get(recording.provider).outcome(batch.status, batch.request_counts) is Outcome.SUCCEEDED:
            assert (counts.failed or 0, counts.expired or 0, counts.canceled or 0) == (0, 0, 0)
            done = [number for number in (counts.completed, counts.succeeded) if number is not None]
            assert counts.total is None or all(number >= counts.total for number in done)


@many
@given(damaged_bodies(BATCHES))
def test_no_count_is_invented(damaged):
    recording, body = damaged
    for batch, source in batches_in(read(recording.call, body), body):
        given_counts = source.get("request_counts")
        counts = {name: number for name, number in batch.request_counts if name in RequestCounts.model_fields}
        for name, number in counts.items():
            assert number is None or same_number(number, given_counts[name])
        summary = BatchSummary.of(batch, batch_id="b", provider=recording.provider).to_xcom()
        assert summary["request_counts"] == counts
        assert json.loads(json.dumps(summary, allow_nan=False)) == summary
        if batch.request_counts.completed is None:
            assert providers.get(recording.provider).processed_rows(batch.request_counts) is None


@many
@given(st.sampled_from(WITH_JSON), st.floats(0, 1, exclude_max=True))
def test_an_answer_cut_short_is_a_typed_error(recording, share):
    text = json.dumps(recording.answer["body"])
    cut = RawResponse(recording.answer["status"], recording.answer["headers"], text[: int(len(text) * share)].encode())
    with pytest.raises(BifrostGatewayError):
        PARSERS[recording.call](cut, ASKED)
