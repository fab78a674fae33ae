"""What happened in a run: the arguments of :meth:`airflow_bifrost.runs.state.RunState.after`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from airflow_bifrost.runs.part import RunPart
from airflow_bifrost.runs.request import JsonObject


@dataclass(frozen=True, slots=True)
class Submitted:
    """A part has a batch.

    :param new: False: an earlier attempt had submitted it.
    :param confirmed: see :class:`RunPart`.
    """

    number: int
    batch_id: str
    new: bool = True
    confirmed: bool = True
    duplicates: Sequence[str] = ()
    input_file_id: str | None = None


@dataclass(frozen=True, slots=True)
class QueueFull:
    """The provider refused a part because its queue is full. It certainly made no batch."""

    number: int


@dataclass(frozen=True, slots=True)
class Fixed:
    """A part must not change anymore: a create call may have been made for it, or it cannot be split."""

    number: int


@dataclass(frozen=True, slots=True)
class WasSplit:
    """A part was split into several."""

    number: int
    parts: Sequence[RunPart]


@dataclass(frozen=True, slots=True)
class Ended:
    """Batches are terminal.

    :param queue_full: those of them that failed because the provider's queue was full. None of their rows ran.
    """

    batch_ids: Collection[str]
    queue_full: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class BatchLost:
    """The gateway does not find a batch, and the run continues without its results."""

    batch_id: str


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """A wait did not end in time."""


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """The run has asked the provider to cancel batches."""

    batch_ids: Collection[str]
    at: float


@dataclass(frozen=True, slots=True)
class RequestChanged:
    """The DAG file's request now differs from the run's."""


@dataclass(frozen=True, slots=True)
class LinesLost:
    """The request lines of unsubmitted parts are lost, and cannot be rebuilt."""

    numbers: Collection[int]


@dataclass(frozen=True, slots=True)
class Collected:
    """The results were read.

    :param outcomes: outcomes of the batches, by part number.
    :param parts: the parts of the next round; empty if no rows are sent again.
    :param cancelled: numbers of the parts whose cancelled rows the next round has.
    :param lost: numbers of the parts whose results were not found.
    :param held_back: some rows are not sent again now, but an attempt after a clear may send them, or find results that are missing now.
    """

    outcomes: Mapping[int, str]
    parts: Sequence[RunPart]
    at: float
    cancelled: Collection[int] = ()
    held_back: bool = False
    lost: Collection[int] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """The output was written.

    :param manifest: the manifest, without the output's path.
    :param fingerprint: identifies the output's content, so that later attempts notice a change.
    """

    manifest: JsonObject
    fingerprint: JsonObject


@dataclass(frozen=True, slots=True)
class Cleaned:
    """The files that are no longer needed were deleted.

    :param deleted: IDs of the deleted input files.
    """

    deleted: Collection[str] = ()


Event = (
    Submitted
    | QueueFull
    | Fixed
    | WasSplit
    | Ended
    | BatchLost
    | DeadlinePassed
    | CancelRequested
    | RequestChanged
    | LinesLost
    | Collected
    | Written
    | Cleaned
)
