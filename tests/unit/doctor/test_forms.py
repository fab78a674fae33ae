"""What in an answer is not known, and what of it may be shown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conformance.recordings import RECORDINGS, Recording, differing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_bifrost.doctor.forms import Form, masked, unknown_forms
from airflow_bifrost.gateway import calls
from airflow_bifrost.gateway.exchange import GatewayRequest, RawResponse
from airflow_bifrost.gateway.versions import names_of
from airflow_bifrost.providers.statuses import BatchStatus

TOKEN = "sk-bf-0123456789abcdef"
LIST = calls.list_page("openai", limit=1).request
ONE = calls.get_batch("batch_0123456789abcdef", "openai").request
REQUESTS = {"get_batch": ONE, "list_page": LIST, "health": calls.health().request}
BATCH = {"id": "batch_1", "object": "batch", "status": "in_progress", "extra_fields": {"provider": "openai"}}
PAGE = {"object": "list", "data": [BATCH], "extra_fields": {"latency": 3}}
ERROR = {"is_bifrost_error": False, "error": {"message": "no"}, "extra_fields": {}}


def forms(request: GatewayRequest, body: Any, status: int = 200, content_type: str = "application/json") -> list[Form]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = RawResponse(status, {"content-type": content_type}, content)
    return unknown_forms([(request, answer)], path_prefix="/openai", token=TOKEN)


def unknown(*args: Any, **kwargs: Any) -> list[tuple[str, ...]]:
    return [form.unknown for form in forms(*args, **kwargs)]


@pytest.mark.parametrize(("request_", "body"), [(LIST, PAGE), (ONE, BATCH), (LIST, {"object": "list", "data": None})])
def test_known_forms_are_not_reported(request_: GatewayRequest, body: Any) -> None:
    assert unknown(request_, body) == []


def test_every_field_of_the_api_is_known() -> None:
    counts = {"total": 3, "completed": 2, "failed": 1, "succeeded": 1, "expired": 1, "canceled": 1, "pending": 1}
    errors = {"object": "list", "data": [{"code": "c", "message": "m", "param": "p", "line": 1}]}
    times = {f"{moment}_at": 1700000000 for moment in ("created", "in_progress", "completed", "archived", "expires")}
    more = {"metadata": {"team": "a"}, "done": False, "error_file_id": "", "progress": 5, "display_name": "n"}
    assert unknown(ONE, {**BATCH, "request_counts": counts, "errors": errors, **times, **more}) == []


def test_every_field_of_every_version_of_the_gateway_is_known_and_none_of_their_values_is_shown() -> None:
    extra = {name: {"x-request-id": "secret-1"} for name in names_of("extra_fields")}
    batch = {**BATCH, "extra_fields": extra, **dict.fromkeys(names_of("batch"), "nightly")}
    error = {
        **ERROR,
        "extra_fields": extra,
        "retry_after_ms": 1500,
        "latency": 3,
        "key_statuses": [{"key": "secret-1"}],
    }
    assert unknown(ONE, batch) == []
    assert unknown(LIST, {**PAGE, "data": [batch], "extra_fields": extra}) == []
    assert unknown(ONE, error, status=429) == []
    [form] = forms(ONE, {**batch, "priority": 1})
    assert "secret-1" not in json.dumps(form.to_json())


def test_no_counts_are_known_too() -> None:
    assert unknown(ONE, {**BATCH, "request_counts": {"total": 0, "completed": 0, "failed": 0}}) == []


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({**BATCH, "priority": "high"}, "priority"),
        ({**BATCH, "request_counts": {"total": 1, "paused": 1}}, "request_counts.paused"),
        ({**BATCH, "errors": {"data": [{"code": "c", "hint": "h"}]}}, "errors[].hint"),
        ({**BATCH, "extra_fields": {"region": "eu"}}, "extra_fields.region"),
        ({**BATCH, "status": "napping"}, "status (napping)"),
        ({**BATCH, "status": "batch_0123456789"}, "status (string)"),
        ({**BATCH, "status": "paused by Ann Smith"}, "status (string)"),
        ({**BATCH, "customer ann smith": 1}, "<name of 18>"),
        ({**BATCH, "created_at": "yesterday"}, "created_at (string)"),
        ({**BATCH, "request_counts": [1]}, "request_counts (list)"),
        ({**BATCH, "request_counts": {"total": "many"}}, "request_counts.total (string)"),
        ({**BATCH, "errors": "all of them"}, "errors (string)"),
        ({**BATCH, "errors": {"data": ["text"]}}, "errors[] (string)"),
        ({**BATCH, "metadata": ["a"]}, "metadata (list)"),
        ({**BATCH, "extra_fields": "none"}, "extra_fields (string)"),
    ],
)
def test_unknown_members_of_a_batch_are_named(body: Any, where: str) -> None:
    assert unknown(ONE, body) == [(where,)]
    assert unknown(LIST, {**PAGE, "data": [BATCH, body]}) == [(f"data[].{where}",)]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({**PAGE, "total_count": 5}, "total_count"),
        ({**PAGE, "has_more": "yes"}, "has_more (string)"),
        ({**PAGE, "extra_fields": {"shard": 1}}, "extra_fields.shard"),
    ],
)
def test_unknown_members_of_a_page_are_named(body: Any, where: str) -> None:
    assert unknown(LIST, body) == [(where,)]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({**ERROR, "trace": "t"}, "trace"),
        ({**ERROR, "type": "solar_flare"}, "type (solar_flare)"),
        ({**ERROR, "type": ["solar", "flare"]}, "type (list)"),
        ({**ERROR, "error": {"message": "no", "hint": "h"}}, "error.hint"),
        ({**ERROR, "error": "no"}, "error (string)"),
        ({**ERROR, "extra_fields": {"shard": 1}}, "extra_fields.shard"),
    ],
)
def test_unknown_members_of_an_error_are_named_and_harmless(body: Any, where: str) -> None:
    [form] = forms(ONE, body, status=403)
    assert (form.unknown, form.harmless) == ((where,), True)


def test_known_errors_are_not_reported() -> None:
    assert unknown(ONE, {**ERROR, "type": "provider_blocked", "status_code": 403}, status=403) == []
    assert unknown(ONE, {**ERROR, "error": {"type": "any_of_a_provider", "code": 7, "message": "no"}}, status=400) == []


@pytest.mark.parametrize(
    ("body", "status", "content_type", "harmless"),
    [
        (b"<html>", 200, "text/html", False),
        (b"", 204, "", False),
        (b"[]", 200, "application/json", False),
        (b"{", 200, "application/json", False),
        ({"id": "", "status": ""}, 200, "application/json", False),
        (ERROR, 201, "application/json", False),
        (b"<html>Bad Gateway</html>", 502, "text/html", True),
    ],
)
def test_an_unreadable_answer_is_reported(body: Any, status: int, content_type: str, *, harmless: bool) -> None:
    [form] = forms(ONE, body, status, content_type)
    assert form.unknown[0].startswith("the whole answer")
    assert form.harmless is harmless


READ = [
    recording
    for recording in RECORDINGS
    if recording.call in REQUESTS and recording.request["method"] == "GET" and recording.answer
]


def test_everything_that_a_real_gateway_said_is_known_except_what_no_client_can_know() -> None:
    def compare(recording: Recording) -> tuple[Any, Any]:
        answer, expected = recording.answer, recording.expected
        body = answer["body"].encode() if isinstance(answer["body"], str) else answer["body"] or b""
        told = unknown(REQUESTS[recording.call], body, answer["status"], answer["headers"].get("content-type", ""))
        status = expected.get("fields", {}).get("status")
        if recording.call == "get_batch" and status and BatchStatus.of(status) is BatchStatus.UNKNOWN:
            return told, [(f"status ({status})",)]
        if expected.get("error") == "BifrostProtocolError":
            return told[0][0].partition(" (")[0], "the whole answer"
        return told, []

    assert differing(READ, compare) == {}


def test_an_unknown_field_is_harmless_and_an_unknown_status_is_not() -> None:
    assert [form.harmless for form in forms(ONE, {**BATCH, "priority": 1})] == [True]
    assert [form.harmless for form in forms(ONE, {**BATCH, "status": "napping"})] == [False]


def test_the_same_unknown_form_is_reported_once() -> None:
    answer = RawResponse(200, {"content-type": "application/json"}, json.dumps({**BATCH, "priority": 1}).encode())
    assert len(unknown_forms([(ONE, answer)] * 20, path_prefix="/openai", token=None)) == 1


def test_a_list_is_shown_with_the_entry_that_it_is_about() -> None:
    [form] = forms(LIST, {**PAGE, "data": [BATCH, {**BATCH, "priority": 1}, BATCH]})
    assert [sorted(entry) for entry in form.answer["data"]] == [["extra_fields", "id", "object", "priority", "status"]]


def test_the_request_is_shown_without_ids_and_cursors() -> None:
    [of_one] = forms(ONE, b"[]")
    [of_many] = forms(calls.list_page("openai", limit=20, after="eyJ2IjoxLCJpIjowfQ").request, b"[]")
    assert of_one.asked == "GET /openai/v1/batches/<id>?provider=openai"
    assert of_many.asked == "GET /openai/v1/batches?provider=openai&limit=20&after=..."


def test_what_may_not_be_shown_of_an_answer_is_replaced_by_its_kind() -> None:
    secret = {
        "id": "batch_0123456789",
        "input_file_id": "file-abc",
        "results_url": "https://api.example/v1/results",
        "metadata": {"customer": "Ann", "status": ["rich"], "in": {"type": "private"}},
        "errors": {"data": [{"code": "invalid_request", "message": "Row of Ann", "param": "ann"}]},
        "filename": "ann.jsonl",
        "account": 123456789,
        "extra_fields": {"raw_response": {"object": "Ann", "created_at": 5}},
    }
    assert masked(secret) == {
        "id": "<string of 16>",
        "input_file_id": "<string of 8>",
        "results_url": "<string of 30>",
        "metadata": {
            "<name of 8>": "<string of 3>",
            "<name of 6>": ["<string of 4>"],
            "<name of 2>": {"<name of 4>": "<string of 7>"},
        },
        "errors": {"data": [{"code": "invalid_request", "message": "<string of 10>", "param": "<string of 3>"}]},
        "filename": "<string of 9>",
        "account": "<number>",
        "extra_fields": {"raw_response": {"object": "<string of 3>", "created_at": "<number>"}},
    }


def test_names_types_times_counts_and_the_apis_words_are_shown() -> None:
    readable = {
        "object": "batch",
        "status": "BATCH_STATE_PAUSED",
        "endpoint": "/v1/chat/completions",
        "created_at": 1700000000,
        "request_counts": {"total": 5},
        "done": False,
        "error_file_id": "",
        "errors": None,
    }
    assert masked(readable) == readable


@pytest.mark.parametrize(
    "name",
    ["batch_0123456789abcdef", "Ann Other's field", "customer ann smith", "a/b", "a:b", "sk-abcdefghijkl", "x" * 60],
)
def test_a_name_that_may_be_an_id_is_masked_too(name: str) -> None:
    assert list(masked({name: 1})) == [f"<name of {len(name)}>"]


@pytest.mark.parametrize("status", [TOKEN, f"not {TOKEN}", "sk-proj-abcdefghijkl", "a word of 12345678", "x" * 60])
def test_a_word_that_may_be_a_secret_is_masked_even_as_a_status(status: str) -> None:
    assert masked({"status": status}, TOKEN) == {"status": f"<string of {len(status)}>"}


@pytest.mark.parametrize("name", ["status", "code", "type", "object", "provider"])
@pytest.mark.parametrize(
    "value", ["paused by Ann Smith", "acct ACME", "acme:paused", "acme/paused", "https://acme.example", "/v1/batches"]
)
def test_prose_addresses_and_paths_are_no_words_of_the_api(name: str, value: str) -> None:
    assert masked({name: value}) == {name: f"<string of {len(value)}>"}


@pytest.mark.parametrize("word", ["paused", "JOB_STATE_PAUSED", "token-limit", "batch.paused", "429"])
def test_a_word_of_the_api_is_one_word(word: str) -> None:
    assert masked({"status": word, "code": word}) == {"status": word, "code": word}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/audio/transcriptions"])
def test_an_endpoint_is_shown_if_it_is_a_path_of_the_api(path: str) -> None:
    assert masked({"endpoint": path}) == {"endpoint": path}


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://res.openai.azure.com/deployments/acme",
        "/v1/https://res.example/acme",
        "/v1/../acme",
        "/v1/Ann Smith",
        "/v1/" + "x" * 60,
        "/deployments/acme",
        "acme",
    ],
)
def test_any_other_endpoint_is_masked(endpoint: str) -> None:
    assert masked({"endpoint": endpoint}) == {"endpoint": f"<string of {len(endpoint)}>"}


@pytest.mark.parametrize("where", ["metadata", "raw_request"])
def test_the_users_names_in_metadata_are_masked_anywhere(where: str) -> None:
    metadata = {"customer": "Ann", "ann_smith": {"status": "rich"}}
    inside = metadata if where == "metadata" else {"metadata": metadata}
    shown = json.dumps(masked({"extra_fields": {where: inside}, where: inside}))
    assert not [word for word in ("customer", "ann_smith", "status", "rich") if word in shown]


def test_everything_in_an_unknown_field_is_masked_whatever_its_name() -> None:
    assert masked({"owner": {"type": "ann", "total": 5}, "data": [{"status": "paused"}]}) == {
        "owner": {"type": "<string of 3>", "total": "<number>"},
        "data": [{"status": "paused"}],
    }


def test_a_token_that_looks_like_a_word_is_masked_too() -> None:
    shown = masked({"status": "sesame", "code": "open sesame", "sesame": True}, "sesame")
    assert shown == {"status": "<string of 6>", "code": "<string of 11>", "<name of 6>": True}


def test_what_is_long_or_deep_is_cut() -> None:
    assert masked({"data": [{"a": True}, {}, {}]}) == {"data": [{"a": True}, "<2 more>"]}
    assert len(masked({f"field_{number}": True for number in range(500)})) == 51
    deep: Any = True
    for _ in range(500):
        deep = {"in": [deep]}
    assert "<object>" in json.dumps(masked(deep))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
FIELDS = st.dictionaries(
    st.sampled_from(
        ["id", "status", "request_counts", "errors", "metadata", "extra_fields", "created_at", "data", "x"]
    ),
    JSON | st.just(f"it is {TOKEN}") | st.dictionaries(st.just(TOKEN), st.just(TOKEN)),
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(body=FIELDS, entries=st.lists(FIELDS, max_size=2), status=st.sampled_from([200, 201, 401, 500]))
def test_any_answer_is_tolerated_and_shows_no_token(body: Any, entries: Any, status: int) -> None:
    for request in (LIST, ONE, calls.health().request):
        for answer in (body, {**body, "data": [{**BATCH, **entry} for entry in entries]}, {**ERROR, **body}):
            shown = json.dumps([form.to_json() for form in forms(request, answer, status)])
            assert TOKEN not in shown
