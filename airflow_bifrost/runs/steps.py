"""What the driver of a run does next: the answers of :func:`airflow_bifrost.runs.decision.next_step`."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_bifrost.runs.part import RunPart


@dataclass(frozen=True, slots=True)
class Submit:
    """Submit a part. If it has an ended batch that is not confirmed, find out whether that batch really belongs to it."""

    part: RunPart


@dataclass(frozen=True, slots=True)
class Split:
    """Split a part that is not submitted yet, because it exceeds the limits or must be halved."""

    part: RunPart


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until all batches, or one of them, are terminal.

    :param deadline: Unix seconds.
    :param may_cancel: those of the batches that a user's stop cancels; None: all of them.
    """

    batch_ids: list[str]
    any_ended: bool
    deadline: float
    may_cancel: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """The deadline has passed: cancel these batches."""

    batch_ids: list[str]


@dataclass(frozen=True, slots=True)
class Collect:
    """Read the results of all batches, and decide which rows are sent again."""


@dataclass(frozen=True, slots=True)
class Write:
    """Write the output."""


@dataclass(frozen=True, slots=True)
class Clean:
    """Delete the files that are no longer needed."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """The provider's queue is full of other batches. End the attempt; a retry continues."""


@dataclass(frozen=True, slots=True)
class Done:
    """There is nothing left to do."""


Step = Submit | Split | Wait | Cancel | Collect | Write | Clean | Blocked | Done
