"""When a trigger may fire, and who has ended a task."""

from __future__ import annotations

import pytest

from airflow_bifrost.triggers.airflow_channel import is_users_stop
from airflow_bifrost.triggers.batch import FIRST_EVENT_AFTER, seconds_until_event

NOW = 1_775_400_000.0


@pytest.mark.parametrize(
    ("deferred_at", "seconds"),
    [(NOW, FIRST_EVENT_AFTER), (NOW - 2, FIRST_EVENT_AFTER - 2), (NOW - 60, 0.0), (NOW + 3600, FIRST_EVENT_AFTER)],
    ids=["just deferred", "deferred before", "deferred long ago", "by a worker whose clock is ahead"],
)
def test_an_event_waits_until_five_seconds_after_the_deferral_and_never_longer(
    deferred_at: float, seconds: float
) -> None:
    assert seconds_until_event(deferred_at, now=NOW) == seconds


@pytest.mark.parametrize("run_state", ["running", "failed", "success", None])
@pytest.mark.parametrize("state", ["failed", "success", "skipped", "removed", "deferred", "scheduled", None])
def test_a_task_that_airflow_skips_with_its_failed_dag_run_was_not_ended_by_a_user(
    state: str | None, run_state: str | None
) -> None:
    ended = state in ("failed", "success", "skipped", "removed")
    assert is_users_stop(state, run_state) == (ended and (state, run_state) != ("skipped", "failed"))
