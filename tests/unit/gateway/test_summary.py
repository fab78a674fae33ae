"""The batch summary: always all keys, JSON types only, small."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.gateway.summary import BatchSummary

KEYS = [
    "batch_id",
    "provider",
    "status",
    "outcome",
    "output_file_id",
    "error_file_id",
    "results_url",
    "request_counts",
    "errors",
    "created_at",
    "completed_at",
    "duration_seconds",
    "metadata",
]
COUNTS = ["total", "completed", "failed", "succeeded", "expired", "canceled", "pending"]


def summary(**fields):
    batch = Batch.model_validate({"id": "as-the-gateway-spells-it", "status": "completed", **fields})
    return BatchSummary.of(batch, batch_id="b1", provider="openai").to_xcom()


def test_all_keys_are_there_where_the_gateway_gave_nothing():
    shown = summary()
    assert list(shown) == KEYS
    assert shown == {
        "batch_id": "b1",
        "provider": "openai",
        "status": "completed",
        "outcome": "succeeded",
        "request_counts": dict.fromkeys(COUNTS),
        "errors": [],
    } | dict.fromkeys(set(KEYS) - {"batch_id", "provider", "status", "outcome", "request_counts", "errors"})


def test_times_are_iso_8601_in_utc_and_the_duration_is_in_seconds():
    shown = summary(created_at=1_775_400_000, completed_at=1_775_400_600)
    assert shown["created_at"] == "2026-04-05T14:40:00+00:00"
    assert shown["completed_at"] == "2026-04-05T14:50:00+00:00"
    assert shown["duration_seconds"] == 600


@pytest.mark.parametrize("end", ["failed_at", "expired_at", "cancelled_at"])
def test_the_duration_ends_with_whatever_ended_the_batch(end):
    shown = summary(status=end.removesuffix("_at"), created_at=1_775_400_000, **{end: 1_775_400_060})
    assert shown["duration_seconds"] == 60
    assert shown["completed_at"] is None


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "in_progress", "created_at": 5, "completed_at": 9},
        {"created_at": 5},
        {"completed_at": 9},
        {"created_at": 9, "completed_at": 5},
    ],
)
def test_there_is_no_duration_that_the_gateway_does_not_give(fields):
    assert summary(**fields)["duration_seconds"] is None


def test_errors_are_the_providers_without_keys():
    shown = summary(
        errors={"data": [{"code": "c", "message": "bad key sk-proj-abcdef123456 in line", "line": 3, "new": 1}]}
    )
    assert shown["errors"] == [{"code": "c", "message": "bad key *** in line", "param": None, "line": 3}]


def test_a_summary_is_small_whatever_the_gateway_sends():
    long = "long words " * 100_000
    shown = summary(
        status=long,
        output_file_id=long,
        results_url=long,
        errors={"data": [{"code": long, "message": long, "param": long}] * 1000},
        metadata={f"{number}{long}": long for number in range(50)},
    )
    assert len(json.dumps(shown)) < 40_000
    assert len(shown["errors"]) == 20
    assert {len(error["message"]) for error in shown["errors"]} == {500}
    assert len(shown["metadata"]) == 16


def test_an_id_is_whole_or_not_there():
    assert summary(output_file_id="s3://bucket/" + "k" * 1024)["output_file_id"] == "s3://bucket/" + "k" * 1024
    assert summary(output_file_id="x" * 5000)["output_file_id"] is None


def test_metadata_is_text_to_text():
    shown = summary(metadata={"a": "b", "n": 5, "f": False, "l": [[1]], "nul": "x\0y"})["metadata"]
    assert shown == {"a": "b", "n": "5", "f": "false", "l": "…", "nul": "x y"}


odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=80)
@given(st.dictionaries(st.sampled_from(sorted(set(Batch.model_fields) - {"id"})), odd), st.text(min_size=1, max_size=9))
def test_any_batch_has_a_summary_of_json_types(fields, status):
    shown = summary(**fields | {"status": status})
    assert list(shown) == KEYS
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert "\\u0000" not in json.dumps(shown)
    assert list(shown["request_counts"]) == COUNTS
