"""The state machine of a run: one event at a time. For many orders of events see test_orders.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.run_states import HOUR, POLICY, a_part, a_run

from airflow_bifrost.runs.decision import CANCEL_GRACE, next_step
from airflow_bifrost.runs.events import (
    CancelRequested,
    Collected,
    DeadlinePassed,
    Ended,
    Fixed,
    LinesLost,
    QueueFull,
    RequestChanged,
    Submitted,
    WasSplit,
    Written,
)
from airflow_bifrost.runs.state import RunState
from airflow_bifrost.runs.steps import Blocked, Cancel, Collect, Split, Step, Submit, Wait, Write


def with_batches(state: RunState, *, ended: bool = False) -> RunState:
    parts = [replace(part, batch_id=f"b{part.number}", attempt=1, ended=ended) for part in state.parts]
    return replace(state, parts=parts)


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


def test_cancelled_rows_are_sent_again_even_if_the_lines_of_their_round_were_lost() -> None:
    state = with_batches(a_run(10), ended=True).after(
        Collected({1: "cancelled"}, [a_part(2, 10, None, round=2)], 1.0, cancelled=[1])
    )
    assert state.parts[0].resent
    assert not state.after(LinesLost([2])).parts[0].resent


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


def a_candidate(state: RunState, number: int) -> RunState:
    """The run after the batch of a part has ended, when this batch may be another task's."""
    state = state.after(Submitted(number, f"theirs-{number}?", new=False, confirmed=False))
    return state.after(Ended([f"theirs-{number}?"]))


def test_after_the_deadline_a_batch_of_unknown_origin_is_not_compared_because_that_may_send_its_rows() -> None:
    state, late = a_candidate(a_run(10), 1), 25 * HOUR
    assert next_step(state, late) == Cancel([])
    state = state.after(CancelRequested([], late))
    assert next_step(state, late) == Collect()
    cleared = state.started_again(policy=POLICY, output_path="o", attempt=2, wait_id=1, now=late)
    assert next_step(cleared, late) == Submit(state.parts[0])


def test_a_batch_of_unknown_origin_is_compared_when_another_batch_may_run() -> None:
    state = a_run(10, 10, policy=replace(POLICY, max_parallel_batches=1))
    state = a_candidate(state, 1).after(Submitted(2, "b2"))
    assert next_step(state, 1.0) == Wait(["b2"], any_ended=True, deadline=25 * HOUR)
    assert next_step(state.after(Ended(["b2"])), 1.0) == Submit(state.parts[0])


@pytest.mark.parametrize("held_back", [False, True])
def test_a_run_that_held_rows_back_is_not_finished_so_that_a_clear_sends_them(held_back: bool) -> None:
    state = with_batches(a_run(10), ended=True).after(Collected({1: "partial"}, [], 1.0, held_back=held_back))
    state = state.after(Written({"rows": {"cancelled": 0}}, {"size": 1}))
    assert state.finished is not held_back


def test_a_run_that_was_stopped_before_a_part_of_a_later_round_was_sent_is_not_finished() -> None:
    state = with_batches(a_run(10), ended=True).after(Collected({1: "partial"}, [a_part(2, 3, None, round=2)], 1.0))
    state = state.after(RequestChanged()).after(Collected({1: "partial"}, [], 2.0))
    assert not state.after(Written({"rows": {"cancelled": 0}}, {"size": 1})).finished
