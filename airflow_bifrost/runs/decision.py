"""Decides what a run does next. Pure: its state and the time go in, and nothing is sent. :mod:`airflow_bifrost.runs.state` lists the invariants."""

from __future__ import annotations

from airflow_bifrost.runs.state import RunState
from airflow_bifrost.runs.steps import Blocked, Cancel, Clean, Collect, Done, Split, Step, Submit, Wait, Write

CANCEL_GRACE = 600.0  # seconds that cancelled batches get to end: OpenAI documents up to 10 minutes


def next_step(state: RunState, now: float) -> Step:
    """The driver's next step.

    :param now: Unix seconds.
    """
    if state.written is not None:
        return Done() if state.cleaned else Clean()
    if state.collected:
        return Write()
    if state.blocked and state.stop is None:
        return Blocked()
    in_flight = state.in_flight
    if state.stop == "timeout":
        return _wind_up(state, in_flight, now)
    to_send = state.stop is None and bool(state.unsent or state.to_compare)
    if to_send:
        if now >= state.deadline and not in_flight:
            return Cancel([])
        if now < state.deadline and (step := _send(state, in_flight)) is not None:
            return step
    if in_flight:
        return state.wait(any_ended=to_send, deadline=state.deadline)
    return Collect()


def _send(state: RunState, in_flight: list[str]) -> Submit | Split | None:
    """The step that submits or splits the next part; None while no other batch may run."""
    limits = state.policy
    if len(in_flight) >= limits.max_parallel_batches:
        return None
    if state.to_compare:  # if its batch turns out to be another task's, the part is submitted
        return Submit(state.to_compare[0])
    part = state.unsent[0]
    if part.waits_for and set(part.waits_for) <= set(in_flight):
        return None
    too_large = part.rows > limits.part_rows or part.bytes > limits.part_bytes
    if (too_large or part.halve) and not part.fixed and part.rows > 1:
        return Split(part)
    return Submit(part)


def _wind_up(state: RunState, in_flight: list[str], now: float) -> Cancel | Wait | Collect:
    """After the deadline: cancel the running batches, give them time to end, and collect their results."""
    asked = {part.batch_id for part in state.parts if part.cancel_requested}
    running = [batch_id for batch_id in state.may_cancel if batch_id not in asked]
    if running or state.cancelled_at is None:
        return Cancel(running)
    ends = state.cancelled_at + CANCEL_GRACE
    if in_flight and now < ends and not state.grace_over:
        return state.wait(any_ended=False, deadline=ends)
    return Collect()
