"""The state machine of a run, with many orders of events. There is no HTTP: a simulated provider answers each step."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.run_states import HOUR, POLICY, a_part, a_run

from airflow_bifrost.runs.begin import covered, uncovered
from airflow_bifrost.runs.events import (
    CancelRequested,
    Cleaned,
    Collected,
    DeadlinePassed,
    Ended,
    Event,
    Fixed,
    LinesLost,
    QueueFull,
    RequestChanged,
    Submitted,
    WasSplit,
    Written,
)
from airflow_bifrost.runs.part import RunPart
from airflow_bifrost.runs.resend import Survey, plan_resend
from airflow_bifrost.runs.state import CANCEL_GRACE, RunState, next_step
from airflow_bifrost.runs.steps import Blocked, Cancel, Clean, Collect, Done, Split, Step, Submit, Wait, Write


def with_batches(state: RunState, *, ended: bool = False) -> RunState:
    parts = [replace(part, batch_id=f"b{part.number}", attempt=1, ended=ended) for part in state.parts]
    return replace(state, parts=parts)


# One event at a time


def test_no_more_than_max_parallel_batches_run_at_a_time() -> None:
    state = a_run(10, 10, 10, policy=replace(POLICY, max_parallel_batches=2))
    for number in (1, 2):
        step = next_step(state, 1.0)
        assert isinstance(step, Submit)
        state = state.after(Submitted(step.part.number, f"b{number}"))
    assert next_step(state, 1.0) == Wait(["b1", "b2"], any_ended=True, deadline=25 * HOUR)
    assert next_step(state.after(Ended(["b1"])), 1.0) == Submit(state.parts[2])


def test_a_batch_of_an_earlier_attempt_keeps_the_number_of_that_attempt() -> None:
    state = a_run(10, attempt=3)
    assert state.after(Submitted(1, "b")).parts[0].attempt == 3
    assert state.after(Submitted(1, "b", new=False)).parts[0].attempt == 2


def test_when_limits_change_submitted_parts_stay_unchanged_and_others_are_split() -> None:
    state = a_run(10, 10).after(Submitted(1, "b1"))
    policy = replace(POLICY, part_rows=5, max_parallel_batches=8)
    state = state.started_again(policy=policy, output_path="o", attempt=2, wait_id=0, now=1.0)
    assert next_step(state, 1.0) == Split(state.parts[1])
    halves = [a_part(3, 5, 10), a_part(4, 5, 15)]
    state = state.after(WasSplit(2, halves))
    assert [(part.number, part.rows, part.batch_id) for part in state.parts] == [
        (1, 10, "b1"),
        (3, 5, None),
        (4, 5, None),
    ]


def test_a_part_that_may_already_be_submitted_is_not_split() -> None:
    state = a_run(5000)
    assert isinstance(next_step(state, 1.0), Split)
    state = state.after(Fixed(1))
    assert next_step(state, 1.0) == Submit(state.parts[0])


def test_a_part_that_a_full_queue_refuses_waits_for_a_batch_of_the_run() -> None:
    state = a_run(10, 10).after(Submitted(1, "b1")).after(QueueFull(2))
    assert isinstance(next_step(state, 1.0), Wait)
    state = state.after(Ended(["b1"]))
    assert isinstance(next_step(state, 1.0), Submit)


@pytest.mark.parametrize(("rows", "step"), [(100, Split), (99, Blocked)])
def test_a_part_that_is_alone_in_a_full_queue_is_halved_if_it_is_large(rows: int, step: type[Step]) -> None:
    assert isinstance(next_step(a_run(rows).after(QueueFull(1)), 1.0), step)


def test_a_batch_that_failed_in_a_full_queue_is_submitted_again_under_a_new_number() -> None:
    state = a_run(10, 10).after(Submitted(1, "b1")).after(Submitted(2, "b2")).after(Ended(["b1"], ["b1"]))
    again = state.parts[0]
    assert (again.number, again.batch_id, again.waits_for) == (3, None, ["b2"])
    assert isinstance(next_step(state, 1.0), Wait)
    assert isinstance(next_step(state.after(Ended(["b2"])), 1.0), Submit)


def test_if_every_batch_fails_in_a_full_queue_the_attempt_ends_and_the_next_one_continues() -> None:
    state = a_run(10).after(Submitted(1, "b1")).after(Ended(["b1"], ["b1"]))
    assert next_step(state, 1.0) == Blocked()
    again = state.started_again(policy=POLICY, output_path="o", attempt=2, wait_id=0, now=1.0)
    assert isinstance(next_step(again, 1.0), Submit)


def test_at_the_deadline_running_batches_are_cancelled_and_the_results_so_far_are_written() -> None:
    state = with_batches(a_run(10, 10)).after(Ended(["b1"]))
    late = 25 * HOUR + 1
    assert next_step(state, late) == Wait(["b2"], any_ended=False, deadline=25 * HOUR)  # a last poll
    state = state.after(DeadlinePassed())
    assert next_step(state, late) == Cancel(["b2"])
    state = state.after(CancelRequested(["b2"], late))
    assert next_step(state, late) == Wait(["b2"], any_ended=False, deadline=late + CANCEL_GRACE)
    assert next_step(state.after(DeadlinePassed()), late) == Collect()
    assert next_step(state.after(Ended(["b2"])), late) == Collect()


def test_nothing_is_sent_after_the_deadline() -> None:
    state = a_run(10, 10)
    assert next_step(state, 25 * HOUR) == Cancel([])
    assert next_step(state.after(CancelRequested([], 25 * HOUR)), 25 * HOUR) == Collect()
    state = state.after(Submitted(1, "b1"))
    assert isinstance(next_step(state, 25 * HOUR), Wait)


def test_each_round_has_its_own_deadline_and_none_is_later_than_the_runs() -> None:
    state = with_batches(a_run(10, policy=replace(POLICY, run_timeout=40 * HOUR)), ended=True)
    state = state.after(Collected({1: "succeeded"}, [a_part(2, 3, None, round=2)], 10 * HOUR))
    assert state.deadline == 35 * HOUR
    assert replace(state, round_started_at=20 * HOUR).deadline == 40 * HOUR


def test_a_retry_keeps_the_deadline_and_a_clear_restarts_it() -> None:
    state = a_run(10)
    again: dict[str, Any] = {"policy": POLICY, "output_path": "o", "attempt": 2, "now": 5 * HOUR}
    assert state.started_again(**again, wait_id=0).deadline == 25 * HOUR
    assert state.started_again(**again, wait_id=1).deadline == 30 * HOUR


def test_after_the_request_has_changed_nothing_is_sent_but_running_batches_are_awaited_and_written() -> None:
    state = a_run(10, 10).after(Submitted(1, "b1")).after(RequestChanged())
    assert next_step(state, 1.0) == Wait(["b1"], any_ended=False, deadline=25 * HOUR)
    state = state.after(Ended(["b1"]))
    assert next_step(state, 1.0) == Collect()
    assert next_step(state.after(Collected({1: "succeeded"}, [], 1.0)), 1.0) == Write()


def test_a_later_round_whose_lines_are_lost_is_planned_again() -> None:
    state = with_batches(a_run(10), ended=True).after(Collected({1: "partial"}, [a_part(2, 3, None, round=2)], 1.0))
    assert isinstance(next_step(state, 1.0), Submit)
    assert next_step(state.after(LinesLost([2])), 1.0) == Collect()


def test_a_run_that_lost_rows_before_they_were_sent_is_not_finished() -> None:
    state = with_batches(a_run(10, 10), ended=True)
    written = Written({"rows": {"cancelled": 0}}, {"size": 1})
    assert state.after(written).finished
    lost = a_run(10, 10).after(Submitted(1, "b1")).after(LinesLost([2])).after(written)
    assert lost.lost_rows == 10
    assert not lost.finished


def test_a_batch_of_unknown_origin_is_checked_after_it_has_ended_and_before_its_results_count() -> None:
    state = a_run(10).after(Submitted(1, "b1", new=False, confirmed=False))
    assert isinstance(next_step(state, 1.0), Wait)
    state = state.after(Ended(["b1"]))
    assert next_step(state, 1.0) == Submit(state.parts[0])
    assert next_step(state.after(Submitted(1, "b1", new=False)), 1.0) == Collect()
    assert isinstance(next_step(state.after(Submitted(1, "b2")), 1.0), Wait)


def test_a_batch_of_unknown_origin_is_never_cancelled() -> None:
    state = a_run(10, 10).after(Submitted(1, "theirs?", new=False, confirmed=False)).after(Submitted(2, "b2"))
    assert state.may_cancel == ["b2"]
    step = next_step(state, 1.0)
    assert isinstance(step, Wait)
    assert (step.batch_ids, step.may_cancel) == (["theirs?", "b2"], ["b2"])
    late = 25 * HOUR + 1
    assert next_step(state.after(DeadlinePassed()), late) == Cancel(["b2"])


# All orders of events

MOST_STEPS = 400
ROWS = 60


class AnyOrder(RuleBasedStateMachine):
    """A run, its worker, and a provider. The provider's batches and the stored state outlive the worker."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.attempt = 1
        self.clears = 0
        self.policy = replace(POLICY, max_parallel_batches=2, max_row_attempts=2, part_rows=20, min_rows_to_halve=10)
        self.state = a_run(20, 20, 20, policy=self.policy)
        self.batches: dict[str, RunPart] = {}  # all that the provider has ever accepted
        self.running: set[str] = set()
        self.void: set[str] = set()  # those whose rows did not run
        self.cancelled: set[str] = set()

    # The provider and the ledger

    def submit(self, part: RunPart) -> Submitted:
        """Submit a part as the ledger does: a part gets one batch."""
        assert not self.state.stop or part.batch_id
        for batch_id, known in self.batches.items():
            if known.number == part.number:
                assert (known.rows, known.sha256, known.first) == (part.rows, part.sha256, part.first)
                return Submitted(part.number, batch_id, new=False)
        assert self.now < self.state.deadline
        assert len(self.state.in_flight) < self.state.policy.max_parallel_batches
        batch_id = f"b{len(self.batches) + 1}"
        self.batches[batch_id] = part
        self.running.add(batch_id)
        return Submitted(part.number, batch_id)

    def may_be_submitted(self, part: RunPart) -> bool:
        return any(known.number == part.number for known in self.batches.values())

    def split(self, part: RunPart) -> Event:
        if self.may_be_submitted(part):
            return Fixed(part.number)
        most = min((part.rows + 1) // 2 if part.halve else part.rows, self.state.policy.part_rows)
        parts, number, place = [], self.state.next_number(), 0
        while place < part.rows:
            size = min(most, part.rows - place)
            first = None if part.first is None else part.first + place
            parts.append(replace(a_part(number + len(parts), size, first), round=part.round, probe=part.probe))
            place += size
        return WasSplit(part.number, parts)

    def wait(self, step: Wait, *, full: bool) -> Event:
        ended = [batch_id for batch_id in step.batch_ids if batch_id not in self.running]
        if self.now < step.deadline and not (ended and step.any_ended):
            ended = step.batch_ids[:1] if step.any_ended else list(step.batch_ids)
            self.running -= set(ended)
        if not ended or (not step.any_ended and len(ended) < len(step.batch_ids)):
            return DeadlinePassed()
        refused = [batch_id for batch_id in ended if full and batch_id not in self.cancelled]
        self.void |= set(refused)
        return Ended(ended, refused)

    def collect(self, failing: int, code: str) -> Event:
        state = self.state
        outcomes = {
            part.number: "cancelled" if part.batch_id in self.cancelled else "succeeded" for part in state.submitted
        }
        survey = Survey(outcomes, {code: failing} if failing else {}, failing, probe_succeeded=failing % 2)
        plan = plan_resend(state, survey, self.now)
        cancelled = sum(part.rows for part in state.latest if outcomes.get(part.number) == "cancelled")
        rows = (min(failing, 20) if plan.failed == "probe" else failing if plan.failed == "all" else 0) + (
            cancelled if plan.cancelled else 0
        )
        part = replace(a_part(state.next_number(), rows, None), round=state.round + 1, probe=plan.failed == "probe")
        return Collected(outcomes, [part] if rows else [], self.now)

    def write(self) -> Event:
        state = self.state
        for part in state.submitted:
            assert part.ended or part.cancel_requested
        cancelled = sum(part.rows for part in state.parts if part.batch_id is None or part.batch_id in self.cancelled)
        return Written({"rows": {"cancelled": cancelled}}, {"size": 1})

    def perform(self, step: Step, *, full: bool = False, failing: int = 0, code: str = "503") -> Event | None:
        match step:
            case Submit(part):
                return QueueFull(part.number) if full and not self.may_be_submitted(part) else self.submit(part)
            case Split(part):
                return self.split(part)
            case Wait():
                return self.wait(step, full=full)
            case Cancel(batch_ids):
                self.cancelled |= set(batch_ids) & self.running
                return CancelRequested(batch_ids, self.now)
            case Collect():
                return self.collect(failing, code)
            case Write():
                return self.write()
            case Clean():
                return Cleaned()
            case Blocked() | Done():
                return None

    def keep(self, state: RunState) -> None:
        self.state = RunState.from_json(json.loads(json.dumps(state.to_json())))
        assert self.state == state

    def take_step(self, **how: Any) -> bool:
        """Whether a batch was there to take."""
        event = self.perform(next_step(self.state, self.now), **how)
        if event is None:
            return False
        self.keep(self.state.after(event))
        return True

    def begin_again(self, now: float) -> None:
        self.attempt += 1
        state = self.state.started_again(
            policy=self.policy, output_path="o", attempt=self.attempt, wait_id=self.clears, now=now
        )
        for first, rows in uncovered(state.parts, ROWS):
            state = covered(state, [a_part(state.next_number(), rows, first)])
        self.keep(state)

    # Events

    @rule(full=st.booleans(), failing=st.integers(0, ROWS), code=st.sampled_from(["503", "invalid_output"]))
    def a_step_is_taken(self, full: bool, failing: int, code: str) -> None:
        self.take_step(full=full, failing=failing, code=code)

    @rule()
    def the_worker_dies_before_it_has_stored_what_happened(self) -> None:
        self.perform(next_step(self.state, self.now))
        self.begin_again(self.now)

    @rule(hours=st.sampled_from([0.01, 1, 10, 24, 30, -2]))
    def time_passes_or_the_clock_jumps(self, hours: float) -> None:
        self.now += hours * HOUR

    @rule(cleared=st.booleans())
    def a_further_attempt_begins(self, cleared: bool) -> None:
        self.clears += cleared
        self.begin_again(self.now)

    @rule(
        rows=st.sampled_from([7, 20, 50]), at_a_time=st.integers(1, 3), run_timeout=st.sampled_from([None, 26 * HOUR])
    )
    def the_dag_file_changes_limits(self, rows: int, at_a_time: int, run_timeout: float | None) -> None:
        self.policy = replace(
            self.policy, part_rows=rows, max_parallel_batches=at_a_time, run_timeout=run_timeout, resend_limit=0.3
        )
        self.begin_again(self.now)

    @precondition(lambda self: self.state.written is None)
    @rule()
    def the_dag_file_asks_for_something_else(self) -> None:
        self.keep(self.state.after(RequestChanged()))

    @precondition(lambda self: self.running)
    @rule()
    def a_user_cancels_what_runs(self) -> None:
        self.cancelled |= self.running
        self.running.clear()

    @precondition(lambda self: any(not self.may_be_submitted(part) for part in self.state.unsent))
    @rule()
    def the_folder_is_gone(self) -> None:
        lost = [part.number for part in self.state.unsent if not self.may_be_submitted(part)]
        self.keep(self.state.after(LinesLost(lost)))

    # Invariants

    @invariant()
    def no_row_is_in_two_batches_of_the_first_round(self) -> None:
        paid = Counter(
            row
            for batch_id, part in self.batches.items()
            if part.first is not None and batch_id not in self.void
            for row in range(part.first, part.first + part.rows)
        )
        assert max(paid.values(), default=0) <= 1

    @invariant()
    def every_number_is_unique(self) -> None:
        numbers = [part.number for part in self.state.parts]
        assert len(numbers) == len(set(numbers))

    @invariant()
    def what_was_submitted_stays_in_the_state(self) -> None:
        kept = {part.batch_id for part in self.state.submitted}
        unknown = {part.number for part in self.state.unsent}  # the worker died before it stored them
        for batch_id, part in self.batches.items():
            assert batch_id in kept | self.void or part.number in unknown

    def teardown(self) -> None:
        """From any state, a run ends with every row answered or cancelled."""
        self.clears += 1
        self.policy = replace(self.policy, run_timeout=None)
        self.begin_again(self.now)
        for _ in range(MOST_STEPS):
            if not self.take_step():
                break
        assert next_step(self.state, self.now) == Done()
        assert not uncovered(self.state.parts, ROWS)
        assert all(part.ended for part in self.state.parts)
        assert not math.isnan(self.state.started_at)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=int(os.environ.get("BIFROST_RUN_ORDERS", "300")),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.reuse, Phase.generate],  # shrinking such a long sequence takes minutes
)
