"""A batch and where it stands at a given moment. Pure: the clock is an argument, so a restart changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Phase(StrEnum):
    """Where a batch is in its life, in OpenAI's words; each provider has its own for them."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


TERMINAL = frozenset({Phase.COMPLETED, Phase.FAILED, Phase.EXPIRED, Phase.CANCELLED})

_VALIDATED, _EXECUTED, _CANCEL_SHARE = 0.1, 0.9, 0.2  # shares of a batch's seconds


@dataclass(frozen=True, slots=True)
class Batch:
    """What is known of a batch. Times are seconds since the epoch, ``seconds`` is its duration."""

    seq: int
    provider: str
    id: str  # the provider's own id
    created_at: float
    seconds: float
    rows: int
    input_file: int | None  # seq of the stored input
    input_file_id: str | None  # as the creator named it
    endpoint: str
    completion_window: str
    model: str | None
    metadata: dict[str, str]
    options: dict[str, Any]  # what only some providers have: job_name, output_s3_uri, dest
    errors: list[dict[str, Any]]  # why validation failed
    expiring: bool  # some rows ask to expire
    odd_rows: int  # rows that do not simply succeed
    cancel_at: float | None
    held: str | None  # a status, provider's or wire's, that keeps the clock away
    held_at: float | None
    overrides: dict[str, Any]  # wire fields that were set by hand; None takes the field away
    idempotency_key: str | None


@dataclass(frozen=True, slots=True)
class Progress:
    """A batch at one moment: rows before ``finished`` are done."""

    phase: Phase | None  # None: a status that nobody knows
    status: str  # what was held, or the phase's own word
    finished: int
    times: dict[str, int] = field(default_factory=dict)

    @property
    def terminal(self) -> bool:
        """Whether nothing will change anymore."""
        return self.phase in TERMINAL


def at_creation(batch: Batch) -> Progress:
    """What the answer to a create shows, however short the batch is."""
    return Progress(Phase.VALIDATING, Phase.VALIDATING, 0)


def progress(batch: Batch, phases: dict[str, Phase], now: float) -> Progress:
    """Where a batch stands.

    :param phases: the provider's words for the phases, for a batch that is held in one of them.
    :param now: seconds since the epoch.
    """
    if batch.cancel_at is None:
        return _undisturbed(batch, phases, now)
    before = _undisturbed(batch, phases, batch.cancel_at)
    times = {**before.times, "cancelling_at": int(batch.cancel_at)}
    gone_at = batch.cancel_at + batch.seconds * _CANCEL_SHARE
    if now < gone_at:
        return Progress(Phase.CANCELLING, Phase.CANCELLING, before.finished, times)
    return Progress(Phase.CANCELLED, Phase.CANCELLED, before.finished, {**times, "cancelled_at": int(gone_at)})


def _undisturbed(batch: Batch, phases: dict[str, Phase], now: float) -> Progress:
    return _held(batch, phases, batch.held) if batch.held is not None else _running(batch, now)


def _running(batch: Batch, now: float) -> Progress:
    share = 1.0 if batch.seconds <= 0 else max(0.0, now - batch.created_at) / batch.seconds
    moment = {
        name: int(batch.created_at + batch.seconds * part)
        for name, part in (("valid", _VALIDATED), ("done", _EXECUTED), ("end", 1.0))
    }
    if batch.errors and share >= _VALIDATED:
        return Progress(Phase.FAILED, Phase.FAILED, 0, {"failed_at": moment["valid"]})
    if share < _VALIDATED:
        return Progress(Phase.VALIDATING, Phase.VALIDATING, 0)
    times = {"in_progress_at": moment["valid"]}
    if share < _EXECUTED:
        finished = int(batch.rows * (share - _VALIDATED) / (_EXECUTED - _VALIDATED))
        return Progress(Phase.IN_PROGRESS, Phase.IN_PROGRESS, finished, times)
    times["finalizing_at"] = moment["done"]
    if share < 1.0:
        return Progress(Phase.FINALIZING, Phase.FINALIZING, batch.rows, times)
    end = Phase.EXPIRED if batch.expiring else Phase.COMPLETED
    return Progress(end, end, batch.rows, {**times, f"{end}_at": moment["end"]})


def _held(batch: Batch, phases: dict[str, Phase], status: str) -> Progress:
    """A batch kept in one status: half of its rows are done where the status does not say more."""
    phase = phases.get(status) or next((phase for phase in Phase if phase == status), None)
    since = int(batch.held_at or batch.created_at)
    times: dict[str, int] = {}
    if phase not in (Phase.VALIDATING, Phase.FAILED, None):
        times["in_progress_at"] = int(batch.created_at)
    if phase in (Phase.FINALIZING, Phase.COMPLETED, Phase.EXPIRED):
        times["finalizing_at"] = since
    if phase in (Phase.CANCELLING, Phase.CANCELLED):
        times["cancelling_at"] = since
    if phase in TERMINAL:
        times[f"{phase}_at"] = since
    if phase in (Phase.COMPLETED, Phase.FINALIZING):
        finished = batch.rows
    elif phase in (Phase.VALIDATING, Phase.FAILED, None) and status != "PartiallyCompleted":
        finished = 0
    else:
        finished = batch.rows // 2
    return Progress(phase, status, finished, times)
