"""What a run of batches knows of itself, as JSON types: it outlives the worker. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class RunPart:
    """A part of a round's input, and what became of it.

    :param number: the only one of its kind in the run; the ledger knows the submission by it.
    :param round: 1 for the input itself.
    :param file: its name in the run's folder.
    :param batch_id: None: it is not submitted.
    :param tried: in which try of the task it was submitted; the one before this, if the ledger knows that an earlier one did.
    :param duplicates: see :class:`airflow_bifrost.submission.ledger.Submission`.
    :param behind: ids of the batches that filled the queue when it was refused; one of them must end before it is submitted again.
    """

    number: int
    round: int
    file: str
    rows: int
    sha256: str
    batch_id: str | None = None
    ended: bool = False
    tried: int = 0
    duplicates: list[str] = field(default_factory=list)
    behind: list[str] = field(default_factory=list)


@dataclass(slots=True)
class RunState:
    """What a run knows of itself.

    :param digest: of the input, and of what is asked of it.
    :param asked: a digest of the latter alone.
    :param input: the files of the input, in its order.
    :param pieces: what there is to be submitted: the input, or halves of it, and further rounds.
    :param written: what the manifest says of the rows, once the output is written.
    :param size: of the output then, in bytes.
    :param earlier: by the digests of other inputs that the task had: what they were submitted as.
    """

    digest: str
    asked: str
    provider: str
    input: list[str]
    pieces: list[RunPart]
    written: dict[str, Any] | None = None
    size: int | None = None
    earlier: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def round(self) -> int:
        return max(piece.round for piece in self.pieces)

    @property
    def in_flight(self) -> list[str]:
        """Ids of the batches that are on their way."""
        return [piece.batch_id for piece in self.pieces if piece.batch_id is not None and not piece.ended]

    def next_number(self) -> int:
        return max((piece.number for piece in self.pieces), default=0) + 1

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunState:
        return cls(**{**value, "pieces": [RunPart(**piece) for piece in value["pieces"]]})
