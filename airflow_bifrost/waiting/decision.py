"""Whether to keep waiting for a batch. Pure: (what is known, what just came back, now) -> a decision.

The worker and the trigger both use it, so every mode of waiting behaves the same. There are two rules. An outage says nothing about the
batch, so a transient error is tolerated until the deadline. An error that is not transient (a wrong URL, an unknown provider) ends the wait
at once, unless the gateway has answered before in this wait.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

import pendulum

from airflow_bifrost import providers
from airflow_bifrost.exceptions import (
    BatchNotFound,
    BifrostAuthError,
    BifrostBudgetExceeded,
    BifrostConfigurationError,
    BifrostError,
    BifrostGatewayError,
    BifrostRateLimited,
)
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.gateway.summary import BatchSummary
from airflow_bifrost.providers.statuses import BatchStatus
from airflow_bifrost.waiting.policy import WaitPolicy

LOG_EVERY = 10  # faults between two log lines
LOG_PERCENT = 10  # rows done, in percent, between two log lines


@dataclass(frozen=True, slots=True)
class WaitState:
    """What a wait knows of one batch. JSON types only: it travels with the task from the worker to the triggerer.

    :param worked: whether the gateway has answered for this batch in this wait.
    :param defined_before: whether an earlier attempt of the task ran, so that Airflow probably knew the connection. An undefined connection
        is then tolerated for ``not_found_grace``, because Airflow reports the same while its database is unavailable.
    :param faults: how many polls have failed since the last answer.
    :param missing_since: Unix seconds of the first 404, or undefined connection, since the last answer.
    :param refreshed: whether the connection was looked up again since the last answer.
    :param results_late_since: Unix seconds at which the batch was first seen terminal without naming its results.
    :param status: as last seen.
    :param percent: of the rows, done as last logged.
    :param next_poll_at: Unix seconds at which the next poll is due.
    :param pause: seconds of the pause that ends then.
    """

    batch_id: str
    worked: bool = False
    defined_before: bool = False
    faults: int = 0
    missing_since: float | None = None
    refreshed: bool = False
    results_late_since: float | None = None
    status: str | None = None
    percent: int = 0
    next_poll_at: float = 0.0
    pause: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Ignores fields that this version does not know: the package may be upgraded while a task waits."""
        return cls(**{known.name: value[known.name] for known in fields(cls) if known.name in value})

    def due_after(self, pause: float, *, now: float) -> Self:
        """The same state, with the next poll after ``pause`` seconds."""
        return replace(self, next_poll_at=now + pause, pause=pause)

    def bounded(self, now: float) -> Self:
        """The same state, with the next poll at most one pause from ``now``. The clock that set it may belong to another machine, or may
        have been set back since."""
        return replace(self, next_poll_at=min(self.next_poll_at, now + self.pause))


@dataclass(frozen=True, slots=True)
class Line:
    """A line for the task's log."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class KeepWaiting:
    """Poll again at ``state.next_poll_at``."""

    state: WaitState
    line: Line | None = None


@dataclass(frozen=True, slots=True)
class LookUpConnection:
    """The token was refused: look the connection up, and poll once more at once."""

    state: WaitState
    line: Line | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The batch is terminal."""

    state: WaitState
    summary: BatchSummary
    line: Line | None = None


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Waiting longer cannot help; ``error`` says why."""

    state: WaitState
    error: BifrostError
    line: Line | None = None


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The deadline has passed, and the batch is not known to be terminal."""

    state: WaitState
    line: Line | None = None


Decision = KeepWaiting | LookUpConnection | Finished | GiveUp | TimedOut


def on_batch(
    state: WaitState, batch: Batch, provider: str, policy: WaitPolicy, *, now: float, random: Callable[[], float]
) -> Decision:
    """Decide after an answer.

    :param now: Unix seconds.
    :param random: uniform in [0, 1).
    """
    done = providers.get(provider).processed_rows(batch.request_counts)
    total = batch.request_counts.total
    percent = int(100 * min(done, total) / total) if total and done is not None else 0
    is_news = batch.status != state.status or percent >= state.percent + LOG_PERCENT
    seen = WaitState(state.batch_id, worked=True, status=batch.status, percent=percent if is_news else state.percent)
    counts = (
        f", {done} of {total} rows done, {batch.request_counts.failed or 0} failed"
        if total and done is not None
        else ""
    )
    text = f"Batch {state.batch_id} is {batch.status}{counts}"
    recovered = f" (the gateway answers again after {state.faults} faults)" if state.faults else ""
    summary = BatchSummary.of(batch, batch_id=state.batch_id, provider=provider)
    if summary.outcome is not None:
        finished = Finished(seen, summary, Line(logging.INFO, f"{text}: {summary.outcome}{recovered}"))
        return _unless_results_are_late(finished, state, batch, provider, policy, now)
    if now >= policy.deadline:
        return TimedOut(seen, Line(logging.WARNING, f"{text}, and the time to wait for it is over"))
    age = None if batch.created_at is None else now - batch.created_at.timestamp()
    delay = policy.until(now, policy.interval(age) * (0.9 + 0.2 * random()))
    line = None
    if is_news or state.faults:
        left = in_words(policy.deadline - now)
        line = Line(logging.INFO, f"{text}{recovered}; next poll in {in_words(delay)}, {left} left")
    if BatchStatus.of(batch.status) is BatchStatus.UNKNOWN and batch.status != state.status:
        line = Line(logging.WARNING, f"{text}: this version does not know this status, so the task keeps waiting")
    return KeepWaiting(seen.due_after(delay, now=now), line)


def _unless_results_are_late(
    finished: Finished, state: WaitState, batch: Batch, provider: str, policy: WaitPolicy, now: float
) -> Decision:
    """``finished``, or poll again for a while: some batches are terminal before they name their results."""
    late = providers.get(provider).results_late(
        batch.status,
        batch.request_counts,
        output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id,
    )
    if not late:
        return finished
    since = now if state.results_late_since is None else min(state.results_late_since, now)
    ends_at = min(since + policy.results_grace, policy.deadline)
    batch_is = f"Batch {state.batch_id} is {batch.status}, but names no output file"
    if now >= ends_at:
        text = (
            f"{batch_is}, {in_words(now - since)} after it was first seen so. It is billed, and its rows cannot be downloaded as"
            " long as it names none. Retrieve it again later, or ask the provider."
        )
        return replace(finished, line=Line(logging.WARNING, text))
    line = None
    if state.results_late_since is None:
        text = f"{batch_is} yet, though rows may have succeeded. Polling it for another {in_words(ends_at - now)}"
        line = Line(logging.WARNING, text)
    pause = min(policy.interval(None), ends_at - now)
    return KeepWaiting(replace(finished.state, results_late_since=since).due_after(pause, now=now), line)


def on_fault(
    state: WaitState, error: BifrostError, policy: WaitPolicy, *, now: float, random: Callable[[], float]
) -> Decision:
    """Decide after a poll that failed. See :func:`on_batch`."""
    if isinstance(error, BifrostAuthError) and not state.refreshed:
        return LookUpConnection(replace(state, refreshed=True))
    missing = isinstance(error, BatchNotFound) or (
        isinstance(error, BifrostConfigurationError) and (state.worked or (error.undefined and state.defined_before))
    )
    missing_since = None if state.missing_since is None else min(state.missing_since, now)
    if missing and missing_since is None:
        missing_since = now
    seen = replace(state, faults=state.faults + 1, missing_since=missing_since)
    grace_ends = (now if missing_since is None else missing_since) + policy.not_found_grace
    if missing:
        tolerated = now < grace_ends
    elif isinstance(error, BifrostGatewayError) and not isinstance(error, BifrostAuthError):
        tolerated = error.transient or state.worked
    else:
        tolerated = False
    if not tolerated:
        return GiveUp(seen, error)
    if now >= policy.ends_at:
        return TimedOut(seen, Line(logging.WARNING, f"{error} The time to wait for batch {state.batch_id} is over"))
    delay = policy.until(now, policy.pause_after_fault(seen.faults, error, random))
    if missing:
        delay = min(delay, grace_ends - now)
    line = None
    if seen.faults == 1 or seen.faults % LOG_EVERY == 0:
        hint = ""
        if isinstance(error, BifrostBudgetExceeded | BifrostRateLimited):
            hint = " The batch is paid for already, so the wait continues."
        left = f"{in_words(policy.not_found_grace)} at most" if missing else f"{in_words(policy.ends_at - now)} left"
        failed = "1 poll has failed" if seen.faults == 1 else f"{seen.faults} polls in a row have failed"
        text = f"{error}{hint} {failed}; next attempt in {in_words(delay)}, {left}"
        line = Line(logging.WARNING, text)
    return KeepWaiting(seen.due_after(delay, now=now), line)


def resumed(state: WaitState, policy: WaitPolicy, *, now: float, random: Callable[[], float]) -> WaitState:
    """The state with which a trigger starts. The first poll is due at the time that the worker set. After a restart of the triggerer, this
    time has passed for thousands of triggers, so their polls are spread over one interval."""
    if state.next_poll_at and now > state.next_poll_at + policy.poll_interval:
        state = replace(state, worked=True)  # an earlier triggerer has been waiting with it
    state = state.bounded(now)
    pause = state.next_poll_at - now if state.next_poll_at > now else policy.poll_interval * random()
    return state.due_after(max(0.0, min(pause, policy.deadline - now)), now=now)


def in_words(seconds: float) -> str:
    """``seconds`` in words: ``1 day 1 hour``, ``45 seconds``; ten minutes and more in whole minutes."""
    step = 60 if seconds >= 600 else 1
    return pendulum.duration(seconds=max(1, step * round(seconds / step))).in_words()
