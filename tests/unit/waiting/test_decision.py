"""Whether to go on waiting: tables and properties of the pure decision."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
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
    FAULT_CAP,
    Finished,
    GiveUp,
    KeepWaiting,
    LookUpConnection,
    TimedOut,
    WaitPolicy,
    WaitState,
    in_words,
    on_batch,
    on_fault,
)

NOW = 1_775_400_000.0
POLICY = WaitPolicy(poll_interval=60.0, deadline=NOW + 3600, not_found_grace=300.0)
NEW = WaitState("b1")
SEEN = WaitState("b1", worked=True, status="in_progress")


def batch(status: str = "in_progress", **fields: Any) -> Batch:
    return Batch(id="b1", status=status, **fields)


def look(watch: WaitState, seen: Batch, *, now: float = NOW, policy: WaitPolicy = POLICY, chance: float = 0.5) -> Any:
    return on_batch(watch, seen, "openai", policy, now=now, random=lambda: chance)


def fault(
    watch: WaitState, error: BifrostError, *, now: float = NOW, policy: WaitPolicy = POLICY, chance: float = 0.5
) -> Any:
    return on_fault(watch, error, policy, now=now, random=lambda: chance)


def delay_of(decision: Any, now: float = NOW) -> float:
    return float(decision.watch.next_poll_at - now)


def test_a_terminal_batch_finishes_the_wait() -> None:
    decision = look(NEW, batch("completed"))
    assert isinstance(decision, Finished)
    assert decision.summary.outcome == "succeeded"


def test_a_running_batch_is_looked_at_again_after_the_poll_interval_give_or_take_a_tenth() -> None:
    delays = [delay_of(look(NEW, batch(), chance=chance)) for chance in (0.0, 0.5, 0.999)]
    assert delays == [pytest.approx(54), pytest.approx(60), pytest.approx(66, rel=0.01)]


def test_the_last_look_is_taken_at_the_deadline() -> None:
    assert look(SEEN, batch(), now=POLICY.deadline - 10).watch.next_poll_at == POLICY.deadline


def test_a_batch_that_is_terminal_at_the_deadline_still_counts() -> None:
    assert isinstance(look(SEEN, batch("completed"), now=POLICY.deadline + 60), Finished)


def test_a_batch_that_runs_at_the_deadline_has_timed_out() -> None:
    assert isinstance(look(SEEN, batch(), now=POLICY.deadline), TimedOut)


def test_an_outage_at_the_deadline_is_a_timeout_and_no_failure() -> None:
    assert isinstance(fault(SEEN, BifrostUnavailable("down"), now=POLICY.deadline), TimedOut)


@pytest.mark.parametrize("watch", [NEW, SEEN], ids=["never worked", "worked before"])
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
def test_what_may_pass_is_borne_from_the_first_look_on(error: BifrostError, watch: WaitState) -> None:
    assert isinstance(fault(watch, error), KeepWaiting)


@pytest.mark.parametrize(
    "error",
    [
        BifrostProtocolError("a web page"),
        BifrostRequestError("unknown provider"),
        BifrostUnavailable("no such host", transient=False),
    ],
    ids=lambda error: str(error),
)
def test_what_looks_like_a_mistake_fails_at_once_unless_it_has_worked_before(error: BifrostError) -> None:
    decision = fault(NEW, error)
    assert isinstance(decision, GiveUp)
    assert decision.error is error
    assert isinstance(fault(SEEN, error), KeepWaiting)


def test_a_refused_token_is_looked_up_once_and_then_fails() -> None:
    first = fault(SEEN, BifrostAuthError("401"))
    assert isinstance(first, LookUpConnection)
    assert isinstance(fault(first.watch, BifrostAuthError("401")), GiveUp)


def test_an_answer_makes_a_later_refusal_a_new_one() -> None:
    refused = fault(SEEN, BifrostAuthError("401")).watch
    answered = look(refused, batch()).watch
    assert isinstance(fault(answered, BifrostAuthError("401")), LookUpConnection)


def test_a_404_is_borne_for_the_grace_and_then_fails() -> None:
    first = fault(NEW, BatchNotFound("404"))
    assert isinstance(first, KeepWaiting)
    assert isinstance(fault(first.watch, BatchNotFound("404"), now=NOW + 299), KeepWaiting)
    assert isinstance(fault(first.watch, BatchNotFound("404"), now=NOW + 300), GiveUp)


def test_the_last_look_for_a_404_is_taken_when_the_grace_ends() -> None:
    watch, now = NEW, NOW
    for _ in range(20):
        decision = fault(watch, BatchNotFound("404"), now=now)
        if isinstance(decision, GiveUp):
            break
        watch, now = decision.watch, decision.watch.next_poll_at
    assert now == pytest.approx(NOW + POLICY.not_found_grace)


def test_an_answer_ends_the_grace_of_a_404() -> None:
    doubtful = fault(NEW, BatchNotFound("404")).watch
    answered = look(doubtful, batch(), now=NOW + 200).watch
    assert isinstance(fault(answered, BatchNotFound("404"), now=NOW + 400), KeepWaiting)


def test_an_outage_does_not_lengthen_the_grace_of_a_404() -> None:
    doubtful = fault(NEW, BatchNotFound("404")).watch
    out = fault(doubtful, BifrostUnavailable("503"), now=NOW + 100).watch
    assert isinstance(fault(out, BatchNotFound("404"), now=NOW + 301), GiveUp)


def test_a_connection_that_is_gone_is_borne_for_the_grace_only_if_it_has_worked() -> None:
    gone = BifrostConfigurationError("no connection")
    assert isinstance(fault(NEW, gone), GiveUp)
    first = fault(SEEN, gone)
    assert isinstance(first, KeepWaiting)
    assert isinstance(fault(first.watch, gone, now=NOW + 301), GiveUp)


def test_pauses_between_faults_grow_to_a_cap_and_never_shrink_to_nothing() -> None:
    watch, delays = SEEN, []
    policy = replace(POLICY, deadline=NOW + 1e6)
    for _ in range(8):
        decision = fault(watch, BifrostUnavailable("503"), policy=policy)
        delays.append(delay_of(decision))
        watch = decision.watch
    assert delays == sorted(delays)
    assert delays[0] == pytest.approx(45)
    assert delays[-1] == pytest.approx(0.75 * FAULT_CAP)
    assert delay_of(fault(SEEN, BifrostUnavailable("503"), chance=0.0)) == pytest.approx(30)


def test_retry_after_is_heeded() -> None:
    limited = fault(SEEN, BifrostRateLimited("429", retry_after=500.0), chance=0.0)
    assert delay_of(limited) == pytest.approx(500)


def test_a_status_change_is_told_with_counts_next_look_and_time_left() -> None:
    line = look(NEW, batch(request_counts={"total": 100, "completed": 23, "failed": 1})).line
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
def test_spans_are_told_as_a_reader_would_say_them(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_nothing_is_told_when_nothing_changed() -> None:
    assert look(SEEN, batch()).line is None


def test_progress_is_told_in_steps_of_ten_percent() -> None:
    watch, told = NEW, []
    for completed in range(0, 100, 2):
        decision = look(watch, batch(request_counts={"total": 100, "completed": completed, "failed": 0}))
        told.append(bool(decision.line))
        watch = decision.watch
    assert sum(told) == 10


def test_an_unknown_status_waits_on_and_is_told_once() -> None:
    first = look(SEEN, batch("paused"))
    assert isinstance(first, KeepWaiting)
    assert first.line.level == logging.WARNING
    assert "paused" in first.line.text
    assert look(first.watch, batch("paused")).line is None


def test_the_first_fault_is_told_then_every_tenth_then_the_recovery() -> None:
    watch, told = SEEN, []
    for _ in range(25):
        decision = fault(watch, BifrostUnavailable("503"), policy=replace(POLICY, deadline=NOW + 1e6))
        told.append(decision.line)
        watch = decision.watch
    assert [number for number, line in enumerate(told, 1) if line] == [1, 10, 20]
    assert told[0].level == logging.WARNING
    recovery = look(watch, batch()).line
    assert recovery.level == logging.INFO
    assert "answering again after 25 faults" in recovery.text


@pytest.mark.parametrize("error", [BifrostBudgetExceeded("402"), BifrostRateLimited("429")], ids=str)
def test_a_limit_on_a_paid_batch_is_warned_of_as_such(error: BifrostError) -> None:
    assert "paid for already" in fault(SEEN, error).line.text


def test_a_poll_interval_of_nothing_is_no_reason_to_ask_without_a_pause() -> None:
    assert delay_of(look(NEW, batch(), policy=replace(POLICY, poll_interval=0.0))) == pytest.approx(1.0)


def test_a_watch_of_another_version_is_read_as_far_as_it_is_known() -> None:
    assert WaitState.from_json({"batch_id": "b1", "worked": True, "colour": "green"}) == WaitState("b1", worked=True)


def test_a_watch_goes_through_json_unharmed() -> None:
    watch = fault(SEEN, BatchNotFound("404")).watch
    assert WaitState(**json.loads(json.dumps(watch.to_json()))) == watch


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
def test_whatever_happens_no_look_is_due_after_the_deadline_and_success_needs_a_terminal_status(
    happenings: list[tuple[float, Any]], chance: float
) -> None:
    now, watch = NOW, NEW
    for passed, happening in happenings:
        now += passed
        if isinstance(happening, str):
            decision = look(watch, batch(happening), now=now, chance=chance)
            assert isinstance(decision, Finished) == (happening in ("completed", "failed", "expired"))
        else:
            decision = fault(watch, happening, now=now, chance=chance)
            assert not isinstance(decision, Finished)
        if isinstance(decision, KeepWaiting):
            assert now < POLICY.deadline
            assert now < decision.watch.next_poll_at <= POLICY.deadline
        if isinstance(decision, Finished | GiveUp | TimedOut):
            break
        watch = decision.watch
