"""A provider, a status and counts decide the outcome of a batch."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_bifrost import providers
from airflow_bifrost.gateway.models import RequestCounts
from airflow_bifrost.providers.statuses import BatchStatus, Outcome

PROVIDERS = [*providers.ALL, "another"]
NONE = RequestCounts()

TERMINAL = {"completed", "partially_completed", "ended", "failed", "expired", "cancelled"}


def counts(total=None, completed=None, failed=None, **others):
    return RequestCounts.model_validate({"total": total, "completed": completed, "failed": failed, **others})


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("status", "given", "outcome"),
    [
        ("completed", NONE, "succeeded"),
        ("completed", counts(0, 0, 0), "succeeded"),
        ("completed", counts(5, 5, 0), "succeeded"),
        ("completed", counts(5, 5), "succeeded"),
        ("completed", counts(5, 0, 5), "failed"),
        ("completed", counts(failed=5), "failed"),
        ("completed", counts(5, 4, 0), "partial"),
        ("completed", counts(5, 0, 0), "partial"),
        ("completed", counts(5, 5, 0, succeeded=4), "partial"),
        ("completed", counts(5, 4, 0, expired=1), "partial"),
        ("completed", counts(5, 4, 0, canceled=1), "partial"),
        ("COMPLETED", NONE, "succeeded"),
        ("ended", counts(5, 5, 0, succeeded=5), "succeeded"),
        ("ended", counts(5, 5, 0), "succeeded"),
        ("ended", counts(5, 3, 2, succeeded=3), "partial"),
        ("ended", counts(5, 3, 0, succeeded=3, expired=2), "partial"),
        ("ended", counts(5, 5, 2, succeeded=5), "partial"),
        ("ended", counts(None, 5, 2), "partial"),
        ("ended", counts(5, 3, 0), "partial"),
        ("ended", counts(5, 0, 5), "failed"),
        ("ended", counts(5, 0, 0, expired=5), "expired"),
        ("ended", counts(5, 0, 0, canceled=5), "cancelled"),
        ("ended", counts(5, 0, 1, canceled=4), "cancelled"),
        ("ended", counts(5, 0, 2, expired=3), "expired"),
        ("ended", NONE, "partial"),
        ("failed", NONE, "failed"),
        ("failed", counts(5, 0, 5), "failed"),
        ("expired", counts(5, 3, 2), "expired"),
        ("expired", NONE, "expired"),
        ("cancelled", counts(5, 5, 0), "cancelled"),
        ("canceled", NONE, "cancelled"),
        ("CANCELED", NONE, "cancelled"),
        ("partially_completed", counts(5, 3, 2), "partial"),
        ("PartiallyCompleted", NONE, "partial"),
        ("JOB_STATE_PARTIALLY_SUCCEEDED", NONE, "partial"),
        ("JOB_STATE_SUCCEEDED", NONE, "succeeded"),
        ("BATCH_STATE_FAILED", NONE, "failed"),
        ("JOB_STATE_CANCELLED", NONE, "cancelled"),
        ("JOB_STATE_EXPIRED", NONE, "expired"),
        ("Stopped", NONE, "cancelled"),
        ("validating", NONE, None),
        ("in_progress", counts(5, 5, 0), None),
        ("finalizing", counts(5, 5, 0), None),
        ("cancelling", counts(5, 1, 0), None),
        ("canceling", NONE, None),
        ("InProgress", NONE, None),
        ("Submitted", NONE, None),
        ("JOB_STATE_PENDING", NONE, None),
        ("JOB_STATE_RUNNING", NONE, None),
        ("Stopping", NONE, None),
        ("paused", counts(5, 5, 0), None),
        ("BATCH_STATE_PAUSED", NONE, None),
        ("BATCH_STATE_UNSPECIFIED", NONE, None),
        ("unknown", counts(5, 5, 0), None),
        ("success!", counts(5, 5, 0), None),
        ("", NONE, None),
        (" ", NONE, None),
    ],
)
def test_the_outcome_of_a_status_on_every_provider(provider, status, given, outcome):
    if provider == "vertex" and status.lower() == "completed" and given == NONE:
        outcome = "partial"  # also what the gateway makes of PARTIALLY_SUCCEEDED
    assert providers.get(provider).outcome(status, given) == outcome


@pytest.mark.parametrize(
    ("provider", "status", "given", "outcome"),
    [
        ("openai", "completed", counts(5, 3, 2), "partial"),
        ("azure", "completed", counts(5, 3, 2), "partial"),
        ("bedrock", "completed", counts(5, 3, 2), "partial"),
        ("gemini", "completed", counts(5, 5, 2, succeeded=3), "partial"),
        ("gemini", "completed", counts(5, 5, 5), "failed"),
        ("gemini", "completed", counts(5, 3, 3), "failed"),
        ("gemini", "completed", counts(None, 3, 3), "failed"),
        ("gemini", "completed", counts(5, 5, 0, succeeded=5), "succeeded"),
        ("bedrock", "failed", counts(5, 3, 2), "partial"),
        ("openai", "failed", counts(5, 3, 2), "failed"),
        ("gemini", "failed", counts(5, 5, 2, succeeded=3), "failed"),
    ],
)
def test_what_the_counts_mean_differs_by_provider(provider, status, given, outcome):
    assert providers.get(provider).outcome(status, given) == outcome


numbers = st.none() | st.integers(0, 5)
any_counts = st.builds(counts, **dict.fromkeys(RequestCounts.model_fields, numbers))
statuses = st.sampled_from([*map(str, BatchStatus), "COMPLETED", "JOB_STATE_SUCCEEDED", "Stopped", "paused"]) | st.text(
    max_size=12
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PROVIDERS), statuses, any_counts)
def test_a_batch_with_failed_rows_never_succeeded(provider, status, given):
    before = given.model_dump()
    outcome = providers.get(provider).outcome(status, given)
    assert (outcome is not None) == (BatchStatus.of(status) in TERMINAL)
    if outcome is Outcome.SUCCEEDED:
        assert BatchStatus.of(status) in (BatchStatus.COMPLETED, BatchStatus.ENDED)
        assert not given.failed
        assert not given.expired
        assert not given.canceled
    assert given.model_dump() == before


@given(st.text())
def test_an_unknown_status_is_not_terminal(status):
    if BatchStatus.of(status) is BatchStatus.UNKNOWN:
        assert providers.get("openai").outcome(status, NONE) is None


@pytest.mark.parametrize(
    ("provider", "given", "rows"),
    [
        ("openai", counts(10, 4, 1), 5),
        ("gemini", counts(10, 4, 1, succeeded=3), 4),
        ("anthropic", counts(10, 4, 1, expired=2, canceled=1), 8),
        ("openai", NONE, None),
        ("openai", counts(10), None),
    ],
)
def test_processed_rows_are_counted_as_the_provider_counts_them(provider, given, rows):
    assert providers.get(provider).processed_rows(given) == rows
