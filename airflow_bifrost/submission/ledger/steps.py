"""The steps toward exactly one batch. See :mod:`airflow_bifrost.submission.ledger.decision`."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_bifrost.submission.ledger.listed import ListedBatch


@dataclass(frozen=True, slots=True)
class ReadList:
    """Read the list, back to ``since`` or, with None, to its end."""

    since: float | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait, then read the list again."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Retrieve:
    """Ask for the recorded batch or the candidate."""

    batch_id: str


@dataclass(frozen=True, slots=True)
class RetrieveAll:
    """Ask for the recorded batch and those that another worker on the same attempt recorded."""

    batch_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Keep:
    """Record this batch as the one, then cancel the others."""

    batch: ListedBatch
    cancel: tuple[ListedBatch, ...]
    number: int
    quiet: bool


@dataclass(frozen=True, slots=True)
class Consider:
    """Record this batch as the candidate, so that a later attempt knows it even if the list no longer shows it."""

    batch: ListedBatch


@dataclass(frozen=True, slots=True)
class Compare:
    """The batch has ended: adopt it if it has the custom IDs of this part, otherwise exclude it."""

    batch: ListedBatch


@dataclass(frozen=True, slots=True)
class Distinguish:
    """The batch has ended: exclude it if its results have other custom IDs than this part. The same IDs prove nothing."""

    batch: ListedBatch


@dataclass(frozen=True, slots=True)
class Reattach:
    """Continue with the batch of an earlier attempt."""

    batch_id: str


@dataclass(frozen=True, slots=True)
class Tentative:
    """Wait for this batch, then submit again, which compares its results."""

    batch_id: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """Check the batch that the user named, then record it as the one."""

    batch_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Create:
    """Submit.

    :param at_the_users_risk: why this may pay twice; empty: it cannot.
    """

    number: int
    at_the_users_risk: str = ""


@dataclass(frozen=True, slots=True)
class Undetermined:
    """It cannot be determined whether a batch exists. Stop.

    :param candidates: IDs to check.
    """

    reason: str
    candidates: tuple[str, ...] = ()


Step = (
    ReadList
    | Wait
    | Retrieve
    | RetrieveAll
    | Keep
    | Consider
    | Compare
    | Distinguish
    | Reattach
    | Tentative
    | Adopt
    | Create
    | Undetermined
)
