from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.run_states import HOUR, POLICY, a_part, a_run

from airflow_bifrost.runs.events import Collected
from airflow_bifrost.runs.resend import Resend, Survey, plan_resend
from airflow_bifrost.runs.state import RunState


def collected(*rows: int, **changes: Any) -> RunState:
    """A run whose batches have ended."""
    state = a_run(*rows, **changes)
    parts = [replace(part, batch_id=f"b{part.number}", attempt=1, ended=True) for part in state.parts]
    return replace(state, parts=parts)


def failing(alike: int, others: int = 0, **given: Any) -> Survey:
    codes = {"invalid_output": alike} | ({"503": others} if others else {})
    return Survey({1: "succeeded"}, codes, alike + others, **given)


def probed(rows: int) -> RunState:
    state = collected(rows)
    probe = a_part(9, 20, None, round=2, probe=True, batch_id="b9", attempt=1, ended=True)
    return replace(state, parts=[*state.parts, probe])


def test_rows_that_failed_with_a_transient_error_are_sent_again() -> None:
    assert plan_resend(collected(1000), failing(10), 1.0) == Resend("all", cancelled=False, rounds=1)


def test_nothing_is_sent_again_if_no_row_is_retryable() -> None:
    assert plan_resend(collected(1000), Survey({1: "succeeded"}), 1.0).failed == "none"


@pytest.mark.parametrize(("alike", "expected"), [(500, "all"), (501, "probe"), (1000, "probe")])
def test_a_probe_is_sent_first_if_most_rows_of_a_round_fail_with_one_code(alike: int, expected: str) -> None:
    assert plan_resend(collected(1000), failing(alike), 1.0).failed == expected


def test_the_limit_for_a_probe_is_the_users_choice() -> None:
    policy = replace(POLICY, resend_limit=1.0)
    assert plan_resend(collected(1000, policy=policy), failing(1000), 1.0).failed == "all"


def test_a_small_round_is_sent_again_without_a_probe() -> None:
    assert plan_resend(collected(19), failing(19), 1.0).failed == "all"


def test_failures_of_many_kinds_need_no_probe() -> None:
    assert plan_resend(collected(1000), failing(450, 450), 1.0).failed == "all"


def test_a_probe_without_a_success_is_the_last_round() -> None:
    plan = plan_resend(probed(1000), failing(1000), 1.0)
    assert plan.failed == "none"
    assert "all 20 rows of a probe failed again" in plan.why_not


def test_after_a_successful_probe_all_rows_are_sent_again_and_the_probe_does_not_count_as_an_attempt() -> None:
    plan = plan_resend(probed(1000), failing(999, probe_succeeded=1), 1.0)
    assert (plan.failed, plan.rounds) == ("all", 1)


def test_a_row_is_sent_at_most_max_row_attempts_times() -> None:
    policy = replace(POLICY, max_row_attempts=1)
    assert plan_resend(collected(10, policy=policy), failing(3), 1.0).failed == "none"


def test_no_round_starts_that_cannot_end_within_run_timeout() -> None:
    state = collected(10, policy=replace(POLICY, run_timeout=30 * HOUR))
    assert plan_resend(state, failing(3), 5 * HOUR).failed == "all"
    plan = plan_resend(state, failing(3), 5 * HOUR + 1)
    assert plan.failed == "none"
    assert "run_timeout" in plan.why_not


@pytest.mark.parametrize("stop", ["timeout", "request_changed"])
def test_nothing_is_sent_again_once_the_run_is_stopped(stop: Any) -> None:
    assert plan_resend(collected(10, stop=stop), failing(3), 1.0) == Resend("none", cancelled=False, held_back=True)


def test_rows_cancelled_with_an_earlier_attempt_are_sent_again_and_that_attempt_does_not_count() -> None:
    state = collected(10, attempt=2, policy=replace(POLICY, max_row_attempts=1))
    plan = plan_resend(state, Survey({1: "cancelled"}, {}, 1), 1.0)
    assert plan == Resend("all", cancelled=True, rounds=0)


def test_rows_that_were_cancelled_in_this_attempt_stay_cancelled() -> None:
    assert not plan_resend(collected(10, attempt=1), Survey({1: "cancelled"}), 1.0).cancelled


def test_rows_of_a_batch_that_was_cancelled_are_sent_again_even_if_other_rows_had_a_later_round() -> None:
    state = collected(10, 10, attempt=2)
    state = replace(state, parts=[*state.parts, a_part(3, 4, None, round=2, batch_id="b3", attempt=1, ended=True)])
    survey = Survey({1: "cancelled", 2: "succeeded", 3: "succeeded"})
    assert plan_resend(state, survey, 1.0).cancelled
    again = state.after(Collected(survey.outcomes, [a_part(4, 10, None, round=3)], 1.0, cancelled=[1]))
    assert not plan_resend(again, survey, 1.0).cancelled


def test_rows_that_only_a_stop_or_the_runs_timeout_keeps_from_being_sent_are_held_back() -> None:
    assert plan_resend(collected(10, stop="timeout"), failing(1), 1.0).held_back
    assert plan_resend(collected(10, policy=replace(POLICY, run_timeout=30 * HOUR)), failing(1), 10 * HOUR).held_back
    assert not plan_resend(collected(10, policy=replace(POLICY, max_row_attempts=1)), failing(1), 1.0).held_back
    assert not plan_resend(collected(10, stop="timeout"), Survey({1: "succeeded"}), 1.0).held_back


def test_cancelled_rows_of_a_batch_that_has_other_results_are_sent_again() -> None:
    """On Anthropic, a batch that was cancelled ends as ``ended``, with some results."""
    survey = Survey({1: "partial"}, partly_cancelled=[1])
    assert plan_resend(collected(10, attempt=2), survey, 1.0) == Resend("none", cancelled=True)
    assert not plan_resend(collected(10, attempt=1), survey, 1.0).cancelled
