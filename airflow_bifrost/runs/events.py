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
    """The provider refused a part, and surely has not taken it."""

    number: int


@dataclass(frozen=True, slots=True)
class Fixed:
    """A create call may have been made for a part."""

    number: int


@dataclass(frozen=True, slots=True)
class WasSplit:
    """A part is now several."""

    number: int
    parts: Sequence[RunPart]


@dataclass(frozen=True, slots=True)
class Ended:
    """Batches are terminal.

    :param queue_full: those that failed because the provider's queue was full; none of their rows has run.
    """

    batch_ids: Collection[str]
    queue_full: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """A wait did not end in time."""


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Batches were told to cancel."""

    batch_ids: Collection[str]
    at: float


@dataclass(frozen=True, slots=True)
class RequestChanged:
    """The DAG file asks for something else now."""


@dataclass(frozen=True, slots=True)
class LinesLost:
    """The lines of parts that are not submitted are gone, and cannot be made again."""

    numbers: Collection[int]


@dataclass(frozen=True, slots=True)
class Collected:
    """The results were read.

    :param outcomes: of the batches, by number of the part.
    :param parts: rows that are sent again; empty: none are.
    """

    outcomes: Mapping[int, str]
    parts: Sequence[RunPart]
    at: float


@dataclass(frozen=True, slots=True)
class Written:
    """The output is there.

    :param manifest: all of it but the output's path.
    :param fingerprint: by which the output is recognized later.
    """

    manifest: JsonObject
    fingerprint: JsonObject


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was not needed any more is gone."""


Event = (
    Submitted
    | QueueFull
    | Fixed
    | WasSplit
    | Ended
    | DeadlinePassed
    | CancelRequested
    | RequestChanged
    | LinesLost
    | Collected
    | Written
    | Cleaned
)
