"""Whether to go on waiting for a batch. Pure: (what is known, what was just seen, now) -> a decision.

The worker and the trigger both follow it, so that every mode of waiting behaves the same. Two rules carry the rest: an outage says
nothing about the batch, so what may pass is borne until the deadline; what has never worked in this wait and looks like a mistake
(a wrong URL, an unknown provider) ends it at once.
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

MIN_POLL_INTERVAL = 1.0  # seconds; a poll_interval of 0 is no reason to ask without a pause
FAULT_CAP = 300.0  # seconds; the longest pause between tries in an outage, unless the poll interval is longer
BACKOFF_SHARE = 0.05  # of a batch's age, with poll_backoff
BACKOFF_CAP = 600.0  # seconds
SAY_EVERY = 10  # faults between two log lines
SAY_PERCENT = 10  # rows done, in percent, between two log lines


@dataclass(frozen=True, slots=True)
class WaitPolicy:
    """How a wait behaves.

    :param poll_interval: seconds between two looks at a batch.
    :param deadline: unix seconds after which the wait gives up.
    :param poll_backoff: look the less often the older a batch is: after a twentieth of its age, at most every ten minutes.
    :param not_found_grace: seconds for which a 404, or a connection that cannot be found any more, is borne.
    """

    poll_interval: float
    deadline: float
    not_found_grace: float
    poll_backoff: bool = False

    def interval(self, age: float | None) -> float:
        """Seconds until the next look at a batch that is ``age`` seconds old; None: nobody knows."""
        interval = max(self.poll_interval, MIN_POLL_INTERVAL)
        if not self.poll_backoff or age is None:
            return interval
        return max(interval, min(age * BACKOFF_SHARE, BACKOFF_CAP))

    def until(self, now: float, delay: float) -> float:
        """``delay``, but never past the deadline: the last look is taken there."""
        return max(0.0, min(delay, self.deadline - now))


@dataclass(frozen=True, slots=True)
class WaitState:
    """What a wait knows of one batch. JSON types only: it goes with the task from the worker to the triggerer.

    :param worked: whether the gateway has answered for this batch in this wait.
    :param defined_before: whether an earlier attempt of the task ran, so that Airflow probably knew the connection. An undefined connection
        is then tolerated for ``not_found_grace``: Airflow reports so while its database is away.
    :param faults: how many tries have failed since the last answer.
    :param doubt_since: unix seconds of the first 404 since the last answer.
    :param refreshed: whether the connection was looked up again since the last answer.
    :param status: as last seen.
    :param percent: of rows done, as last told in the log.
    :param next_poll_at: unix seconds at which the next look is due; no look is taken before.
    """

    batch_id: str
    worked: bool = False
    defined_before: bool = False
    faults: int = 0
    doubt_since: float | None = None
    refreshed: bool = False
    status: str | None = None
    percent: int = 0
    next_poll_at: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Fields that this version does not know are passed over: the package may be upgraded while a task waits."""
        return cls(**{known.name: value[known.name] for known in fields(cls) if known.name in value})


@dataclass(frozen=True, slots=True)
class Line:
    """Something that a reader of the log wants to know."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class KeepWaiting:
    """Look again at ``watch.next_poll_at``."""

    watch: WaitState
    line: Line | None = None


@dataclass(frozen=True, slots=True)
class LookUpConnection:
    """The token was refused: look the connection up, and ask once more at once."""

    watch: WaitState
    line: Line | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The batch is terminal."""

    watch: WaitState
    summary: BatchSummary
    line: Line | None = None


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Waiting on cannot help; ``error`` says why."""

    watch: WaitState
    error: BifrostError
    line: Line | None = None


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The deadline has passed and the batch is not terminal, as far as is known."""

    watch: WaitState
    line: Line | None = None


Decision = KeepWaiting | LookUpConnection | Finished | GiveUp | TimedOut


def on_batch(
    watch: WaitState, batch: Batch, provider: str, policy: WaitPolicy, *, now: float, random: Callable[[], float]
) -> Decision:
    """Decide after an answer.

    :param now: unix seconds.
    :param random: uniform in [0, 1).
    """
    summary = BatchSummary.of(batch, batch_id=watch.batch_id, provider=provider)
    done = providers.get(provider).processed_rows(batch.request_counts)
    total = batch.request_counts.total
    percent = int(100 * min(done, total) / total) if total and done is not None else 0
    tell = batch.status != watch.status or percent >= watch.percent + SAY_PERCENT
    seen = WaitState(watch.batch_id, worked=True, status=batch.status, percent=percent if tell else watch.percent)
    rows = (
        f"{done} of {total} rows done, {batch.request_counts.failed or 0} failed" if total and done is not None else ""
    )
    recovered = f" (answering again after {watch.faults} faults)" if watch.faults else ""
    state = f"Batch {watch.batch_id} is {batch.status}" + (f", {rows}" if rows else "")
    if summary.outcome is not None:
        return Finished(seen, summary, Line(logging.INFO, f"{state}: {summary.outcome}{recovered}"))
    if now >= policy.deadline:
        return TimedOut(seen, Line(logging.WARNING, f"{state}, and the time to wait for it is over"))
    age = None if batch.created_at is None else now - batch.created_at.timestamp()
    delay = policy.until(now, policy.interval(age) * (0.9 + 0.2 * random()))
    line = None
    if tell or watch.faults:
        left = in_words(policy.deadline - now)
        line = Line(logging.INFO, f"{state}{recovered}; next look in {in_words(delay)}, {left} left")
    if BatchStatus.of(batch.status) is BatchStatus.UNKNOWN and batch.status != watch.status:
        line = Line(logging.WARNING, f"{state}: this status is not known to this version; waiting on")
    return KeepWaiting(replace(seen, next_poll_at=now + delay), line)


def on_fault(
    watch: WaitState, error: BifrostError, policy: WaitPolicy, *, now: float, random: Callable[[], float]
) -> Decision:
    """Decide after a try that failed. See :func:`on_batch`."""
    doubtful = isinstance(error, BatchNotFound) or (
        isinstance(error, BifrostConfigurationError) and (watch.worked or (error.undefined and watch.defined_before))
    )
    doubt_since = watch.doubt_since
    if doubtful and doubt_since is None:
        doubt_since = now
    seen = replace(watch, faults=watch.faults + 1, doubt_since=doubt_since)
    if isinstance(error, BifrostAuthError) and not watch.refreshed:
        return LookUpConnection(replace(watch, refreshed=True))
    grace_ends = (doubt_since or now) + policy.not_found_grace
    if doubtful:
        bearable = now < grace_ends
    elif isinstance(error, BifrostGatewayError) and not isinstance(error, BifrostAuthError):
        bearable = error.transient or watch.worked
    else:
        bearable = False
    if not bearable:
        return GiveUp(seen, error)
    if now >= policy.deadline:
        return TimedOut(seen, Line(logging.WARNING, f"{error} The time to wait for batch {watch.batch_id} is over"))
    delay = policy.until(now, _pause_after_fault(seen.faults, error, policy, random))
    if doubtful:
        delay = min(delay, grace_ends - now)
    line = None
    if seen.faults == 1 or seen.faults % SAY_EVERY == 0:
        hint = ""
        if isinstance(error, BifrostBudgetExceeded | BifrostRateLimited):
            hint = " The batch is paid for already, so this is borne."
        until = f"{in_words(policy.not_found_grace)} at most" if doubtful else f"{in_words(policy.deadline - now)} left"
        line = Line(
            logging.WARNING, f"{error}{hint} Fault {seen.faults} in a row; next try in {in_words(delay)}, {until}"
        )
    return KeepWaiting(replace(seen, next_poll_at=now + delay), line)


def in_words(seconds: float) -> str:
    """``seconds`` for a reader: ``1 day 1 hour``, ``45 seconds``; from ten minutes on in whole minutes."""
    step = 60 if seconds >= 600 else 1
    return pendulum.duration(seconds=max(1, step * round(seconds / step))).in_words()


def _pause_after_fault(faults: int, error: BifrostError, policy: WaitPolicy, random: Callable[[], float]) -> float:
    """Doubles with each fault. Half of it is fixed: many waits must neither come back together nor all at once."""
    bound = min(max(policy.poll_interval, FAULT_CAP), max(policy.poll_interval, 1.0) * 2.0 ** min(faults - 1, 30))
    asked = getattr(error, "retry_after", None) or 0.0
    return max(bound / 2, asked) + random() * bound / 2
