"""Which rows of a run are sent again. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from airflow_bifrost.runs.state import RunState

PROBE_ROWS = 20  # that are sent again first, where nearly all rows of a round failed alike


@dataclass(frozen=True, slots=True)
class Survey:
    """What the results amount to.

    :param outcomes: of the batches, by number of the part.
    :param codes: rows that failed with a transient error, by error code.
    :param retryable: rows that failed, expired or are missing for a transient reason.
    :param probe_succeeded: rows of the latest round that succeeded, if that round was a probe.
    """

    outcomes: Mapping[int, str]
    codes: Mapping[str, int] = field(default_factory=dict)
    retryable: int = 0
    probe_succeeded: int = 0


@dataclass(frozen=True, slots=True)
class Resend:
    """What is sent again.

    :param failed: rows that failed for a transient reason: all of them, a probe, or none.
    :param cancelled: rows whose batch was cancelled before this attempt of the task.
    :param why_not: why rows that could be sent again are not; empty: all that can be are.
    :param rounds: how often every row was sent so far.
    """

    failed: Literal["all", "probe", "none"]
    cancelled: bool
    why_not: str = ""
    rounds: int = 0


def plan_resend(state: RunState, survey: Survey, now: float) -> Resend:
    """Decide which rows are sent again, once all batches of the run have ended.

    :param now: unix seconds.
    """
    if state.stop is not None:
        return Resend("none", cancelled=False)
    cancelled = _cancelled_before(state, survey)
    rounds = _rounds_sent(state, survey)
    failed = survey.retryable > 0 and rounds < state.policy.max_row_attempts
    if not failed and not cancelled:
        return Resend("none", cancelled=False)
    if now + state.policy.timeout > state.run_deadline:
        return Resend("none", cancelled=False, why_not="a further round could not end within run_timeout")
    if not failed:
        return Resend("none", cancelled)
    return replace(_probed(state, survey, cancelled=cancelled), rounds=rounds)


def _probed(state: RunState, survey: Survey, *, cancelled: bool) -> Resend:
    latest = state.latest
    rows = sum(part.rows for part in latest)
    code, alike = max(survey.codes.items(), key=lambda item: item[1], default=("", 0))
    if all(part.probe for part in latest):
        if survey.probe_succeeded:
            return Resend("all", cancelled)
        why = f"all {rows} rows of a probe failed again, most rows with {code!r}: the request itself may be at fault"
        return Resend("none", cancelled, why)
    if not cancelled and rows >= PROBE_ROWS and alike > state.policy.resend_limit * rows:
        why = f"{alike:,} of {rows:,} rows failed with {code!r}: only {PROBE_ROWS} of them are sent again first"
        return Resend("probe", cancelled, why)
    return Resend("all", cancelled)


def _cancelled_before(state: RunState, survey: Survey) -> bool:
    """Whether a batch of the latest round was cancelled by whoever ended an earlier attempt."""
    return any(_is_void(state, survey, part.number) for part in state.latest)


def _is_void(state: RunState, survey: Survey, number: int) -> bool:
    before = state.part(number).attempt < state.attempt
    return survey.outcomes.get(number) == "cancelled" and before


def _rounds_sent(state: RunState, survey: Survey) -> int:
    """How often every row was sent. A round counts unless it was a probe, or an earlier attempt's end has cancelled all of it."""
    rounds: dict[int, list[bool]] = {}
    for part in state.parts:
        rounds.setdefault(part.round, []).append(part.probe or _is_void(state, survey, part.number))
    return sum(not all(void) for void in rounds.values())
