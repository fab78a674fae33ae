"""The API's objects: every documented field, untidy values folded, unknown ones kept."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime

import pendulum
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from airflow_bifrost.gateway.models import Batch, BatchResults, File, GatewayErrorBody, Page, RequestCounts
from airflow_bifrost.gateway.values import read_json

# The published reference of GET /openai/v1/batches/{batch_id}
DOCUMENTED = [
    "id",
    "object",
    "endpoint",
    "input_file_id",
    "completion_window",
    "status",
    "request_counts",
    "metadata",
    "created_at",
    "expires_at",
    "in_progress_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
    "output_file_id",
    "error_file_id",
    "errors",
    "processing_status",
    "results_url",
    "archived_at",
    "operation_name",
    "done",
    "progress",
    "extra_fields",
]
TIMES = [name for name in DOCUMENTED if name.endswith("_at")]
COUNTS = ["total", "completed", "failed", "succeeded", "expired", "canceled", "pending"]
SECONDS = 1_775_400_000


def batch(**fields):
    return Batch.model_validate({"id": "b", "status": "completed", **fields})


def test_every_documented_field_is_a_field():
    assert set(DOCUMENTED) <= set(Batch.model_fields)
    assert set(COUNTS) == set(RequestCounts.model_fields)


def test_models_are_frozen():
    for value, name in [(batch(), "status"), (batch().request_counts, "total"), (File(id="f"), "id")]:
        with pytest.raises(ValidationError):
            setattr(value, name, "x")


def test_unknown_fields_are_kept_in_every_model():
    value = batch(usage={"a": 1}, request_counts={"total": 1, "new": 2}, errors={"data": [{"code": "c", "new": 3}]})
    assert value.usage == {"a": 1}
    assert value.request_counts.new == 2
    assert value.errors[0].new == 3
    assert File.model_validate({"id": "f", "new": 4}).new == 4
    assert Page[Batch].model_validate({"data": [], "new": 5}).new == 5


@pytest.mark.parametrize("name", TIMES)
def test_unix_seconds_are_aware_pendulum_times_in_utc(name):
    time = getattr(batch(**{name: SECONDS}), name)
    assert isinstance(time, pendulum.DateTime)
    assert time == datetime(2026, 4, 5, 14, 40, tzinfo=UTC)
    assert time.utcoffset().total_seconds() == 0


@pytest.mark.parametrize("value", [str(SECONDS), float(SECONDS), "2026-04-05T14:40:00Z", "2026-04-05T16:40:00+02:00"])
def test_other_spellings_of_a_time_are_read(value):
    time = batch(created_at=value).created_at
    assert time.timestamp() == SECONDS
    assert time.utcoffset().total_seconds() == 0


@pytest.mark.parametrize(
    "value", [0, "0", None, "", -5, True, "soon", [], {}, 1e300, 10**400, SECONDS * 1000, "9" * 5000, "inf", "nan"]
)
def test_an_unreadable_time_is_none(value):
    assert batch(created_at=value).created_at is None


def test_counts_that_were_not_given_are_none():
    assert set(batch().request_counts.model_dump().values()) == {None}
    assert batch(request_counts={"total": 5, "completed": 0}).request_counts == RequestCounts(total=5, completed=0)


@pytest.mark.parametrize(
    "counts",
    [{"total": 0, "completed": 0, "failed": 0}, {"total": 0, "pending": 0}, {}, None, [], "x", 5, {"total": None}],
)
def test_zeros_only_and_no_counts_mean_not_given(counts):
    assert batch(request_counts=counts).request_counts == RequestCounts()


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (7, 7),
        (7.0, 7),
        ("7", 7),
        (2**53 + 1, 2**53 + 1),
        (7.5, None),
        (-1, None),
        (True, None),
        ("x", None),
        ("1_0", None),
        (2**63, None),
        (1e300, None),
        ("9" * 5000, None),
        ([], None),
        (float("inf"), None),
    ],
)
def test_a_count_is_an_integer_or_none_and_never_changed(given, read):
    counts = batch(request_counts={"total": 9, "failed": given}).request_counts
    assert (counts.total, counts.failed) == (9, read)


@pytest.mark.parametrize("name", sorted(set(DOCUMENTED) - {"id", "status"}))
@pytest.mark.parametrize(
    "odd", [None, "", 0, [], {}, [[]], {"a": []}, "text", 5, 1.5, True, [None], [{"code": {}}], {"data": 5}]
)
def test_an_odd_detail_never_hides_the_status(name, odd):
    assert batch(**{name: odd}).status == "completed"


@pytest.mark.parametrize("name", ["output_file_id", "error_file_id", "results_url", "endpoint", "metadata"])
@pytest.mark.parametrize("nothing", ["", None, {}])
def test_unknown_values_are_none(name, nothing):
    assert getattr(batch(**{name: nothing}), name) is None


@pytest.mark.parametrize(
    "missing",
    [
        {"id": "b"},
        {"status": "s"},
        {"id": "", "status": "s"},
        {"id": "b", "status": ""},
        {"id": 5, "status": "s"},
        {"id": "b", "status": None},
    ],
)
def test_an_id_and_a_status_must_be_there(missing):
    with pytest.raises(ValidationError):
        Batch.model_validate(missing)


def test_errors_are_the_providers_own():
    errors = batch(
        errors={"object": "list", "data": [{"code": 42, "message": "m", "param": None, "line": 3}, "words", None]}
    ).errors
    assert [(e.code, e.message, e.param, e.line) for e in errors] == [("42", "m", None, 3), (None, "words", None, None)]


def test_results_without_their_batch_are_none():
    for value in (
        {},
        {"batch_id": "b"},
        {"batch_id": "", "results": []},
        {"batch_id": "b", "results": "x"},
        {"results": []},
    ):
        with pytest.raises(ValidationError):
            BatchResults.model_validate(value)
    assert BatchResults.model_validate({"batch_id": "b", "results": None}).results == ()


def test_a_batch_survives_json_and_pickle():
    value = batch(created_at=SECONDS, request_counts={"total": 2}, errors={"data": [{"code": "c"}]}, new=1)
    assert Batch.model_validate_json(value.model_dump_json()) == value
    assert Batch.model_validate(value.model_dump()) == value
    assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize(
    ("body", "message", "kind", "code"),
    [
        (b'{"type": "t", "error": {"message": "m", "type": "u", "code": "c"}}', "m", "t", "c"),
        (b'{"error": {"message": "m", "type": "u", "code": 429}}', "m", "u", "429"),
        (b'{"type": {}, "error": {"message": ["m"], "type": 5, "code": true}}', None, "5", None),
        (b'{"error": "boom"}', "boom", None, None),
        (b'{"message": "m"}', "m", None, None),
        (b'{"error": null}', None, None, None),
        (b'{"error": {"message": "a \\ud800 b"}}', "a ? b", None, None),
        (b"[]", None, None, None),
        (b"", None, None, None),
        (b"<html>", None, None, None),
        (b"\xff\xfe\x00", None, None, None),
        (b"[" * 100_000, None, None, None),
    ],
)
def test_of_an_error_body_message_type_and_code_are_read(body, message, kind, code):
    read = GatewayErrorBody.parse(body)
    assert (read.message, read.type, read.code) == (message, kind, code)


def test_json_is_read_as_what_can_be_stored():
    assert read_json(b'{"a": [NaN, Infinity, -Infinity], "\\uD83D\\uDE00": "x\\ud800y"}') == {
        "a": [None, None, None],
        "\U0001f600": "x?y",
    }


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_a_value_error(body):
    try:
        json.dumps(read_json(body)).encode()
    except ValueError:
        return
