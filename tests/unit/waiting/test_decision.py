"""Whether to go on waiting: tables and properties of the pure decision."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_bifrost.exceptions import (
    BatchNotFound,
    BifrostAuthError,
    BifrostBudgetExceeded,
    BifrostConfigurationError,
    BifrostError,
    BifrostProtocolError,
    BifrostRateLimited,
    BifrostRequestError,
    BifrostUnavailable,
)
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.waiting.decision import (
    Finished,
    GiveUp,
    KeepWaiting,
    LookUpConnection,
    TimedOut,
    WaitState,
    in_words,
    on_batch,
    on_fault,
    resumed,
)
from airflow_bifrost.waiting.policy import WaitPolicy

NOW = 1_775_400_000.0
POLICY = WaitPolicy(poll_interval=60.0, deadline=NOW + 3600, not_found_grace=300.0)
NEW = WaitState("b1")
SEEN = WaitState("b1", worked=True, status="in_progress")


def batch(status: str = "in_progress", **fields: Any) -> Batch:
    return Batch(id="b1", status=status, **{"output_file_id": "file_out", **fields})


def fileless(status: str = "completed", **fields: Any) -> Batch:
    return batch(status, output_file_id=None, **fields)


def answer(state: WaitState, seen: Batch, *, now: float = NOW, policy: WaitPolicy = POLICY, chance: float = 0.5) -> Any:
    return on_batch(state, seen, "openai", policy, now=now, random=lambda: chance)


def fault(
    state: WaitState, error: BifrostError, *, now: float = NOW, policy: WaitPolicy = POLICY, chance: float = 0.5
) -> Any:
    return on_fault(state, error, policy, now=now, random=lambda: chance)


def delay_of(decision: Any, now: float = NOW) -> float:
    return float(decision.state.next_poll_at - now)


def test_a_terminal_batch_finishes_the_wait() -> None:
    decision = answer(NEW, batch("completed"))
    assert isinstance(decision, Finished)
    assert decision.summary.outcome == "succeeded"


def test_a_running_batch_is_polled_again_after_the_poll_interval_within_a_tenth() -> None:
    delays = [delay_of(answer(NEW, batch(), chance=chance)) for chance in (0.0, 0.5, 0.999)]
    assert delays == [pytest.approx(54), pytest.approx(60), pytest.approx(66, rel=0.01)]


def test_the_last_poll_is_sent_at_the_deadline() -> None:
    assert answer(SEEN, batch(), now=POLICY.deadline - 10).state.next_poll_at == POLICY.deadline


def test_a_batch_that_is_terminal_at_the_deadline_finishes_the_wait() -> None:
    assert isinstance(answer(SEEN, batch("completed"), now=POLICY.deadline + 60), Finished)


def test_a_batch_that_runs_at_the_deadline_has_timed_out() -> None:
    assert isinstance(answer(SEEN, batch(), now=POLICY.deadline), TimedOut)


def test_an_outage_at_the_deadline_is_a_timeout_and_no_failure() -> None:
    assert isinstance(fault(SEEN, BifrostUnavailable("down"), now=POLICY.deadline), TimedOut)


@pytest.mark.parametrize("state", [NEW, SEEN], ids=["never worked", "worked before"])
@pytest.mark.parametrize(
    "error",
    [
        BifrostUnavailable("503"),
        BifrostRateLimited("429"),
        BifrostBudgetExceeded("402"),
        BifrostProtocolError("a provider's {}", transient=True),
    ],
    ids=lambda error: str(error),
)
def test_a_transient_error_is_tolerated_from_the_first_poll_on(error: BifrostError, state: WaitState) -> None:
    assert isinstance(fault(state, error), KeepWaiting)


@pytest.mark.parametrize(
    "error",
    [
        BifrostProtocolError("a web page"),
        BifrostRequestError("unknown provider"),
        BifrostUnavailable("no such host", transient=False),
    ],
    ids=lambda error: str(error),
)
def test_what_has_never_worked_fails_at_once_and_what_has_is_tolerated(error: BifrostError) -> None:
    decision = fault(NEW, error)
    assert isinstance(decision, GiveUp)
    assert decision.error is error
    assert isinstance(fault(SEEN, error), KeepWaiting)


def test_a_refused_token_is_looked_up_once_and_then_fails() -> None:
    first = fault(SEEN, BifrostAuthError("401"))
    assert isinstance(first, LookUpConnection)
    assert isinstance(fault(first.state, BifrostAuthError("401")), GiveUp)


def test_an_answer_makes_a_later_refusal_a_new_one() -> None:
    refused = fault(SEEN, BifrostAuthError("401")).state
    answered = answer(refused, batch()).state
    assert isinstance(fault(answered, BifrostAuthError("401")), LookUpConnection)


def test_a_404_is_tolerated_for_the_grace_and_then_fails() -> None:
    first = fault(NEW, BatchNotFound("404"))
    assert isinstance(first, KeepWaiting)
    assert isinstance(fault(first.state, BatchNotFound("404"), now=NOW + 299), KeepWaiting)
    assert isinstance(fault(first.state, BatchNotFound("404"), now=NOW + 300), GiveUp)


def test_the_last_poll_for_a_404_is_sent_when_the_grace_ends() -> None:
    state, now = NEW, NOW
    for _ in range(20):
        decision = fault(state, BatchNotFound("404"), now=now)
        if isinstance(decision, GiveUp):
            break
        state, now = decision.state, decision.state.next_poll_at
    assert now == pytest.approx(NOW + POLICY.not_found_grace)


def test_an_answer_ends_the_grace_of_a_404() -> None:
    not_found = fault(NEW, BatchNotFound("404")).state
    answered = answer(not_found, batch(), now=NOW + 200).state
    assert isinstance(fault(answered, BatchNotFound("404"), now=NOW + 400), KeepWaiting)


def test_an_outage_does_not_lengthen_the_grace_of_a_404() -> None:
    not_found = fault(NEW, BatchNotFound("404")).state
    out = fault(not_found, BifrostUnavailable("503"), now=NOW + 100).state
    assert isinstance(fault(out, BatchNotFound("404"), now=NOW + 301), GiveUp)


def test_an_undefined_connection_is_tolerated_for_the_grace_only_if_it_has_worked() -> None:
    gone = BifrostConfigurationError("no connection")
    assert isinstance(fault(NEW, gone), GiveUp)
    first = fault(SEEN, gone)
    assert isinstance(first, KeepWaiting)
    assert isinstance(fault(first.state, gone, now=NOW + 301), GiveUp)


def test_pauses_between_faults_grow_to_a_cap_and_never_shrink_to_nothing() -> None:
    state, delays = SEEN, []
    policy = replace(POLICY, deadline=NOW + 1e6)
    for _ in range(8):
        decision = fault(state, BifrostUnavailable("503"), policy=policy)
        delays.append(delay_of(decision))
        state = decision.state
    assert delays == sorted(delays)
    assert delays[0] == pytest.approx(45)
    assert delays[-1] == pytest.approx(0.75 * POLICY.pace.fault_cap)
    assert delay_of(fault(SEEN, BifrostUnavailable("503"), chance=0.0)) == pytest.approx(30)


def test_a_retry_after_is_honored() -> None:
    limited = fault(SEEN, BifrostRateLimited("429", retry_after=500.0), chance=0.0)
    assert delay_of(limited) == pytest.approx(500)


def test_a_new_status_is_logged_with_counts_next_poll_and_time_left() -> None:
    line = answer(NEW, batch(request_counts={"total": 100, "completed": 23, "failed": 1})).line
    assert line.level == logging.INFO
    for part in ("b1", "in_progress", "24 of 100 rows done, 1 failed", "1 minute", "1 hour left"):
        assert part in line.text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 second"),
        (45, "45 seconds"),
        (599, "9 minutes 59 seconds"),
        (89_994, "1 day 1 hour"),
        (5400, "1 hour 30 minutes"),
    ],
)
def test_durations_are_written_as_a_reader_would_say_them(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_nothing_is_logged_when_nothing_changed() -> None:
    assert answer(SEEN, batch()).line is None


def test_progress_is_logged_in_steps_of_ten_percent() -> None:
    state, logged = NEW, []
    for completed in range(0, 100, 2):
        decision = answer(state, batch(request_counts={"total": 100, "completed": completed, "failed": 0}))
        logged.append(bool(decision.line))
        state = decision.state
    assert sum(logged) == 10


def test_an_unknown_status_keeps_waiting_and_is_logged_once() -> None:
    first = answer(SEEN, batch("paused"))
    assert isinstance(first, KeepWaiting)
    assert first.line.level == logging.WARNING
    assert "paused" in first.line.text
    assert answer(first.state, batch("paused")).line is None


def test_the_first_fault_is_logged_then_every_tenth_then_the_recovery() -> None:
    state, logged = SEEN, []
    for _ in range(25):
        decision = fault(state, BifrostUnavailable("503"), policy=replace(POLICY, deadline=NOW + 1e6))
        logged.append(decision.line)
        state = decision.state
    assert [number for number, line in enumerate(logged, 1) if line] == [1, 10, 20]
    assert logged[0].level == logging.WARNING
    recovery = answer(state, batch()).line
    assert recovery.level == logging.INFO
    assert "answers again after 25 faults" in recovery.text


@pytest.mark.parametrize("error", [BifrostBudgetExceeded("402"), BifrostRateLimited("429")], ids=str)
def test_a_limit_is_logged_with_what_it_means_for_the_money(error: BifrostError) -> None:
    assert "paid for already" in fault(SEEN, error).line.text


def test_a_poll_interval_of_0_does_not_poll_without_a_pause() -> None:
    assert delay_of(answer(NEW, batch(), policy=replace(POLICY, poll_interval=0.0))) == pytest.approx(1.0)


def test_a_state_of_another_version_is_read_as_far_as_it_is_known() -> None:
    assert WaitState.from_json({"batch_id": "b1", "worked": True, "colour": "green"}) == WaitState("b1", worked=True)


def test_a_state_survives_json() -> None:
    state = fault(SEEN, BatchNotFound("404")).state
    assert WaitState(**json.loads(json.dumps(state.to_json()))) == state


def test_a_terminal_batch_without_its_files_is_polled_again_for_the_grace_and_then_finishes_with_a_warning() -> None:
    state, now, polls = NEW, NOW, 0
    while True:
        decision = answer(state, fileless(), now=now)
        polls += 1
        if isinstance(decision, Finished):
            break
        assert isinstance(decision, KeepWaiting)
        state, now = decision.state, decision.state.next_poll_at
    assert now == NOW + POLICY.results_grace
    assert polls == 11
    assert decision.line.level == logging.WARNING
    for part in ("b1", "names no output file", "10 minutes", "billed"):
        assert part in decision.line.text


def test_a_batch_that_names_its_files_late_finishes_as_usual() -> None:
    late = answer(NEW, fileless(request_counts={"total": 3, "completed": 3, "failed": 0}))
    assert isinstance(late, KeepWaiting)
    decision = answer(late.state, batch("completed"), now=NOW + 60)
    assert isinstance(decision, Finished)
    assert decision.summary.output_file_id == "file_out"
    assert decision.line.level == logging.INFO


@pytest.mark.parametrize("status", ["expired", "cancelled", "failed"])
def test_a_batch_that_ended_early_waits_for_its_files_only_if_rows_were_completed(status: str) -> None:
    none = {"total": 3, "completed": 0, "failed": 3}
    some = {"total": 3, "completed": 1, "failed": 2}
    assert isinstance(answer(NEW, fileless(status, request_counts=none)), Finished)
    assert isinstance(answer(NEW, fileless(status, request_counts=some)), KeepWaiting)


def test_late_files_are_logged_once() -> None:
    first = answer(NEW, fileless())
    assert first.line.level == logging.WARNING
    assert answer(first.state, fileless(), now=NOW + 60).line is None


def test_late_files_never_outlast_the_deadline_and_are_no_timeout() -> None:
    now = POLICY.deadline - 30
    late = answer(SEEN, fileless(), now=now)
    assert late.state.next_poll_at == POLICY.deadline
    assert isinstance(answer(late.state, fileless(), now=POLICY.deadline), Finished)


def test_a_fault_does_not_lengthen_the_grace_for_late_files() -> None:
    late = answer(NEW, fileless()).state
    failed = fault(late, BifrostUnavailable("503"), now=NOW + 60).state
    assert isinstance(answer(failed, fileless(), now=NOW + POLICY.results_grace), Finished)


def test_a_wait_that_begins_after_its_deadline_repeats_its_last_poll_while_errors_are_transient() -> None:
    late = replace(POLICY, deadline=NOW - 3600, last_poll_until=NOW + 30)
    failed = fault(SEEN, BifrostUnavailable("503"), policy=late)
    assert isinstance(failed, KeepWaiting)
    assert NOW < failed.state.next_poll_at <= NOW + 30
    assert isinstance(answer(failed.state, batch("completed"), policy=late, now=NOW + 5), Finished)
    assert isinstance(answer(failed.state, batch(), policy=late, now=NOW + 5), TimedOut)
    assert isinstance(fault(failed.state, BifrostUnavailable("503"), policy=late, now=NOW + 30), TimedOut)


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 3600.0])
def test_the_clock_of_the_worker_never_puts_off_the_first_poll_of_the_triggerer(ahead: float) -> None:
    worker = answer(NEW, batch(), now=NOW + ahead).state
    due = resumed(worker, POLICY, now=NOW, random=lambda: 0.5).next_poll_at
    assert NOW <= due <= NOW + 1.1 * POLICY.poll_interval


def test_a_state_with_a_retry_after_keeps_it_over_the_deferral() -> None:
    limited = fault(SEEN, BifrostRateLimited("429", retry_after=500.0), chance=0.0).state
    assert resumed(limited, POLICY, now=NOW + 5, random=lambda: 0.5).next_poll_at == pytest.approx(NOW + 500)


def test_after_a_restart_the_polls_are_spread_over_the_interval() -> None:
    old = replace(SEEN, next_poll_at=NOW - 600)
    due = [resumed(old, POLICY, now=NOW, random=lambda c=c: c).next_poll_at - NOW for c in (0.0, 0.5, 0.999)]
    assert due == [0.0, 30.0, pytest.approx(60, rel=0.01)]


def test_a_state_that_another_triggerer_has_waited_with_tolerates_what_a_new_one_does_not() -> None:
    old = resumed(replace(NEW, next_poll_at=NOW - 600), POLICY, now=NOW, random=lambda: 0.5)
    assert isinstance(fault(old, BifrostProtocolError("html")), KeepWaiting)
    new = resumed(NEW, POLICY, now=NOW, random=lambda: 0.5)
    assert isinstance(fault(new, BifrostProtocolError("html")), GiveUp)


def test_the_first_poll_of_a_trigger_is_due_at_the_deadline_at_the_latest() -> None:
    near = replace(POLICY, deadline=NOW + 5)
    assert resumed(NEW, near, now=NOW, random=lambda: 0.9).next_poll_at == NOW + 5
    over = replace(POLICY, deadline=NOW - 5)
    assert resumed(NEW, over, now=NOW, random=lambda: 0.9).next_poll_at == NOW


ERRORS = st.sampled_from(
    [
        BifrostUnavailable("503"),
        BifrostUnavailable("no such host", transient=False),
        BifrostRateLimited("429", retry_after=10.0),
        BifrostBudgetExceeded("402"),
        BifrostAuthError("401"),
        BatchNotFound("404"),
        BifrostRequestError("400"),
        BifrostProtocolError("html"),
        BifrostConfigurationError("gone"),
    ]
)
STATUSES = st.sampled_from(["validating", "in_progress", "paused", "cancelling", "completed", "failed", "expired"])


@given(
    happenings=st.lists(st.tuples(st.floats(0, 4000), st.one_of(ERRORS, STATUSES)), min_size=1, max_size=30),
    chance=st.floats(0, 0.999),
)
@settings(deadline=None)
def test_whatever_happens_no_poll_is_due_after_the_deadline_and_success_needs_a_terminal_status(
    happenings: list[tuple[float, Any]], chance: float
) -> None:
    now, state = NOW, NEW
    for passed, happening in happenings:
        now += passed
        if isinstance(happening, str):
            decision = answer(state, batch(happening), now=now, chance=chance)
            assert isinstance(decision, Finished) == (happening in ("completed", "failed", "expired"))
        else:
            decision = fault(state, happening, now=now, chance=chance)
            assert not isinstance(decision, Finished)
        if isinstance(decision, KeepWaiting):
            assert now < POLICY.deadline
            assert now < decision.state.next_poll_at <= POLICY.deadline
        if isinstance(decision, Finished | GiveUp | TimedOut):
            break
        state = decision.state
