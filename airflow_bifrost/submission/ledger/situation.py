"""What is known when the ledger decides: the arguments of :func:`airflow_bifrost.submission.ledger.decision.next_step`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from airflow_bifrost.submission.ledger.listed import ListedBatch, ListRead
from airflow_bifrost.submission.ledger.record import SETTLE, Deployment, SubmissionRecord, Whole


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user wants if an earlier attempt left something.

    :param resubmit_unknown: submit even if it is unknown whether an earlier attempt did.
    :param adopt: ID of the batch that the user says is this one.
    :param resubmit: outcomes after which an earlier batch is submitted again.
    :param keep_cancelled: if an input comes back whose batch was cancelled for another input, continue with that batch.
    :param cancels_others: whether batches for other inputs are cancelled.
    :param can_wait: whether the task waits until a candidate has ended, and then submits again. If not, a running candidate is unknown.
    """

    resubmit_unknown: bool = False
    adopt: str | None = None
    resubmit: Collection[str] = ()
    keep_cancelled: bool = False
    cancels_others: bool = False
    can_wait: bool = True


@dataclass(frozen=True, slots=True)
class Gone:
    """The provider does not know the batch.

    :param why: what the gateway said.
    """

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is known about one input of one part.

    :param origin: key of the part's :class:`Origin`.
    :param whole: what the part is a part of; None: the input has no other split.
    :param tagged: whether the provider's list shows the tags of batches.
    :param listed: whether the provider has a usable list.
    :param record: None: no record exists.
    :param may_be_lost: without a record: an earlier attempt may have made a create that was not recorded.
    :param floor: without a record: unix seconds before which this task submitted nothing; None: unknown.
    :param rows: of the part; None: unknown.
    :param comparable: whether the custom IDs of the part can be compared with those of an ended batch's results.
    :param compared: IDs of batches whose results have the same custom IDs, or cannot be read.
    :param ids_prove: whether the custom IDs distinguish the part's results from those of other tasks.
    :param known: IDs of batches that are known to belong to other parts.
    :param read: the list, once it was read.
    :param current: the recorded batch, or the candidate, once it was retrieved.
    :param rivals: those of the recorded batch and its rivals that the provider knows, oldest first, once they were retrieved.
    :param waited: seconds that this process has waited for the create to become quiet.
    :param settle: seconds after which every create is quiet.
    """

    origin: str
    deployment: Deployment
    digest: str
    provider: str
    tagged: bool
    listed: bool
    record: SubmissionRecord | None
    whole: Whole | None = None
    may_be_lost: bool = False
    floor: float | None = None
    rows: int | None = None
    comparable: bool = False
    compared: frozenset[str] = frozenset()
    ids_prove: bool = False
    known: frozenset[str] = frozenset()
    policy: Policy = field(default_factory=Policy)
    read: ListRead | None = None
    current: ListedBatch | Gone | None = None
    rivals: tuple[ListedBatch, ...] | None = None
    waited: float = 0.0
    settle: float = SETTLE

    def forget(self) -> Situation:
        """The same situation, before any request was made."""
        return replace(self, read=None, current=None, rivals=None)
