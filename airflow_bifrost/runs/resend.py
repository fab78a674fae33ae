"""Decides which rows of a run are sent again. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from airflow_bifrost.runs.state import RunState

PROBE_ROWS = 20  # sent again first if most rows of a round failed with the same error


@dataclass(frozen=True, slots=True)
class Survey:
    """A summary of the results of a run.

    :param outcomes: outcomes of the batches, by part number.
    :param codes: number of rows that failed with a transient error, by error code.
    :param retryable: number of rows that failed with a transient error, expired, or are missing.
    :param partly_cancelled: numbers of the parts whose batches have results, and also rows that were cancelled.
    :param probe_succeeded: number of rows of the latest round that succeeded, if that round was a probe.
    """

    outcomes: Mapping[int, str]
    codes: Mapping[str, int] = field(default_factory=dict)
    retryable: int = 0
    probe_succeeded: int = 0
    partly_cancelled: Collection[int] = ()

    @property
    def cancelled(self) -> set[int]:
        """Numbers of the parts with rows that were cancelled."""
        return {number for number, outcome in self.outcomes.items() if outcome == "cancelled"} | {
            *self.partly_cancelled
        }


@dataclass(frozen=True, slots=True)
class Resend:
    """What is sent again.

    :param failed: which of the retryable rows are sent: all of them, a probe, or none.
    :param cancelled: whether rows are sent whose batch was cancelled before this attempt of the task.
    :param why_not: why some retryable rows are not sent again; empty if all of them are.
    :param rounds: how often every row has been sent so far.
    :param held_back: see :class:`airflow_bifrost.runs.events.Collected`.
    """

    failed: Literal["all", "probe", "none"]
    cancelled: bool
    why_not: str = ""
    rounds: int = 0
    held_back: bool = False


def plan_resend(state: RunState, survey: Survey, now: float) -> Resend:
    """Decide which rows are sent again, once all batches of the run have ended.

    :param now: Unix seconds.
    """
    cancelled = _cancelled_before(state, survey)
    rounds = _rounds_sent(state, survey)
    failed = survey.retryable > 0 and rounds < state.policy.max_row_attempts
    if not failed and not cancelled:
        return Resend("none", cancelled=False)
    if state.stop is not None:
        return Resend("none", cancelled=False, held_back=True)
    if now + state.policy.timeout > state.run_deadline:
        return Resend(
            "none",
            cancelled=False,
            why_not="they are not sent again, because another round could not end within run_timeout",
            held_back=True,
        )
    if not failed:
        return Resend("none", cancelled)
    return replace(_probed(state, survey, cancelled=cancelled), rounds=rounds)


def _probed(state: RunState, survey: Survey, *, cancelled: bool) -> Resend:
    latest = state.latest
    rows = sum(part.rows for part in latest)
    code, same = max(survey.codes.items(), key=lambda item: item[1], default=("", 0))
    if all(part.probe for part in latest):
        if survey.probe_succeeded:
            return Resend("all", cancelled)
        why = f"all {rows} rows of a probe failed again, most often with {code!r}, so nothing more is sent. Check the request itself"
        return Resend("none", cancelled, why)
    if not cancelled and rows >= PROBE_ROWS and same > state.policy.resend_limit * rows:
        why = f"{same:,} of {rows:,} rows failed with {code!r}, so only {PROBE_ROWS} of them are sent again first"
        return Resend("probe", cancelled, why)
    return Resend("all", cancelled)


def _cancelled_before(state: RunState, survey: Survey) -> bool:
    """Whether rows of an earlier attempt were cancelled, and not sent again since."""
    cancelled = survey.cancelled
    return any(part.number in cancelled and part.attempt < state.attempt for part in state.parts if not part.resent)


def _is_void(state: RunState, survey: Survey, number: int) -> bool:
    before = state.part(number).attempt < state.attempt
    return survey.outcomes.get(number) == "cancelled" and before


def _rounds_sent(state: RunState, survey: Survey) -> int:
    """How often every row was sent. A round does not count if it was a probe, or if all of it was cancelled with an earlier attempt."""
    rounds: dict[int, list[bool]] = {}
    for part in state.parts:
        rounds.setdefault(part.round, []).append(part.probe or _is_void(state, survey, part.number))
    return sum(not all(void) for void in rounds.values())
