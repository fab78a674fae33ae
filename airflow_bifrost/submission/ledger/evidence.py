"""What a provider's list of batches proves about one create. Pure.

A list is proof of a batch that it shows. It is proof of absence only if it was read far enough, and only after the create is quiet.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from airflow_bifrost.providers.statuses import Outcome
from airflow_bifrost.submission.ledger.listed import ListedBatch, ListRead
from airflow_bifrost.submission.ledger.record import Deployment, SubmissionRecord, Whole

CLOCK_SKEW = 300.0  # seconds by which this worker's clock and the provider's may differ
# Default custom IDs are the same in every run, and row numbers are the same in every table.
COMMON_ID = re.compile(r"row-[0-9]+|[0-9]{1,9}")
DEAD = 3  # rank of a batch that has no results and will never have any
SAME_MOMENT = 60.0  # seconds by which the order of a list and its timestamps may disagree


@dataclass(frozen=True, slots=True)
class Found:
    """:param batches: those of one create and its repetitions, oldest first. All belong to the task."""

    batches: tuple[ListedBatch, ...]
    number: int


@dataclass(frozen=True, slots=True)
class Absent:
    """The create made no batch."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Exactly one batch may be the wanted one."""

    batch: ListedBatch


@dataclass(frozen=True, slots=True)
class Unknown:
    """:param candidates: what a person should check."""

    reason: str
    candidates: tuple[ListedBatch, ...] = ()


Evidence = Found | Absent | Candidate | Unknown


def by_tag(
    read: ListRead,
    origin: str,
    deployment: Deployment,
    digest: str,
    whole: Whole | None,
    record: SubmissionRecord | None,
) -> Evidence:
    """What a list proves if its batches carry tags.

    :param whole: what the part is a part of; None: the input has no other split.
    :param record: None: no record exists, so only the deployment in the tag tells whose batch it is.
    """
    same_input = [b for b in read.batches if b.tag and (b.tag.origin, b.tag.digest) == (origin, digest)]
    own = {b.id: number for b in read.batches if (number := own_number(b, origin, deployment, digest, record))}
    number = max(own.values(), default=0)
    if own and (record is None or number >= record.number):
        nonces = record.nonces if record else ()
        wanted = number if record else _latest_alive(read.batches, own)
        latest = [b for b in read.batches if own.get(b.id) == wanted or (b.tag and b.tag.nonce in nonces)]
        return Found(oldest_first(latest), number)
    unclear = tuple(b for b in same_input if b.id not in own and b.tag and deployment.is_same(b.tag.deployment) is None)
    if record is None and unclear:
        names = ", ".join(batch.id for batch in unclear)
        return Unknown(
            f"{names} has the same DAG, task, run and input, and may belong to another Airflow deployment", unclear
        )
    if record is None and whole is not None and (others := in_another_split(read.batches, deployment, whole)):
        names = ", ".join(batch.id for batch in others)
        return Unknown(
            f"the same rows were submitted in another split ({names}). Restore the limits of that time, such as max_request_body_size_mb,"
            " and clear this task, which then continues with these batches",
            others,
        )
    return Absent() if read.complete else Unknown(read.problem)


def in_another_split(batches: Sequence[ListedBatch], deployment: Deployment, whole: Whole) -> tuple[ListedBatch, ...]:
    """The batches of the same rows and round that are no part of the current split, unless they belong to another deployment."""
    return tuple(
        batch
        for batch in batches
        if batch.tag is not None
        and (batch.tag.whole, batch.tag.round) == (whole.key, whole.round)
        and batch.tag.digest not in whole.digests
        and deployment.is_same(batch.tag.deployment) is not False
    )


def own_number(
    batch: ListedBatch, origin: str, deployment: Deployment, digest: str, record: SubmissionRecord | None
) -> int:
    """The number of the create that made this batch, if it provably belongs to the task and this input; else 0."""
    if batch.tag is None:  # the lists of some gateways leave out metadata
        return record.number if record and is_own_file(batch, record) else 0
    if (batch.tag.origin, batch.tag.digest) != (origin, digest):
        return 0
    return batch.tag.number if is_own(batch, deployment, record) else 0


def is_own(batch: ListedBatch, deployment: Deployment, record: SubmissionRecord | None) -> bool:
    """Whether a batch with the right origin provably belongs to the task, and not to another deployment with the same names."""
    if batch.tag is None:
        return False
    if record is not None and batch.tag.nonce in record.nonces:
        return True
    return deployment.is_same(batch.tag.deployment) is True


def is_own_file(batch: ListedBatch, record: SubmissionRecord) -> bool:
    """Whether a batch was created from the file that this task uploaded for it."""
    return record.input_file_id is not None and batch.input_file_id == record.input_file_id


def by_time(
    read: ListRead,
    *,
    floor: float | None,
    seen: Collection[str],
    excluded: Collection[str],
    rows: int | None,
) -> Evidence:
    """What a list proves if its batches carry no tags.

    :param floor: nothing older can be the wanted batch, by the provider's clock; None: unknown.
    :param seen: IDs of batches that were there before.
    :param excluded: IDs of batches that are known to have another origin.
    :param rows: of the wanted batch; None: unknown.
    """
    possible = possible_batches(read, floor=floor, seen=seen, excluded=excluded, rows=rows)
    far_enough = read.complete if floor is None else read.reaches(floor)
    if not far_enough:
        return Unknown(read.problem or "the list does not go back to the time of that attempt", possible)
    if not possible:
        return Absent()
    if len(possible) == 1 and rows is not None and possible[0].rows == rows:
        return Candidate(possible[0])
    names = ", ".join(map(str, possible[:10]))
    return Unknown(
        f"these batches were created at that time, and the provider does not say by whom: {names}. The gateway may have sent the create more"
        " than once. If several are this task's, adopt one, and cancel the others",
        possible,
    )


def possible_batches(
    read: ListRead, *, floor: float | None, seen: Collection[str], excluded: Collection[str], rows: int | None
) -> tuple[ListedBatch, ...]:
    """The batches in a list that may come from one create. For the parameters see :func:`by_time`."""
    return tuple(
        batch
        for batch in read.batches
        if batch.id not in seen
        and batch.id not in excluded
        and (floor is None or batch.created_at is None or batch.created_at >= floor)
        and (rows is None or batch.rows is None or batch.rows == rows)
    )


def baseline(read: ListRead, at: float) -> tuple[float, list[str]]:
    """What to record of the list before a create, so that a later list shows what was added, even if clocks differ.

    :param at: unix seconds by this worker's clock, used if the list is unreadable.
    :return: ``floor`` and ``seen`` of a record.
    """
    times = [batch.created_at for batch in read.batches if batch.created_at is not None]
    if not read.batches and read.complete:
        return 0.0, []
    if not times:
        return at - CLOCK_SKEW, []
    floor = max(times) - SAME_MOMENT
    return floor, [batch.id for batch in read.batches if batch.created_at is None or batch.created_at >= floor]


def oldest_first(batches: Sequence[ListedBatch]) -> tuple[ListedBatch, ...]:
    """:param batches: newest first, as in the list. That order decides if the timestamps, in whole seconds, are equal."""
    return tuple(
        batch
        for _, batch in sorted(
            enumerate(batches), key=lambda item: (item[1].created_at is None, item[1].created_at or 0.0, -item[0])
        )
    )


def best_of(batches: Sequence[ListedBatch]) -> ListedBatch:
    """Which of several batches for one input to keep: one that is running or has results; of those, the oldest.

    Two workers that see the same batches choose the same one. A worker that sees only its own, older batch chooses that one, too.

    :param batches: oldest first.
    """
    return min(batches, key=_worth)  # min takes the first of equals


def _latest_alive(batches: Sequence[ListedBatch], own: Mapping[str, int]) -> int:
    """The number of the latest create whose batch runs or has results; if there is no such batch, of the latest create.

    Of two workers on one attempt, the one that was slower may have kept its own batch, of a lower number, and cancelled the other.

    :param own: numbers of the creates, by the IDs of their batches.
    """
    alive = [own[batch.id] for batch in batches if batch.id in own and _worth(batch) < DEAD]
    return max(alive, default=max(own.values()))


def _worth(batch: ListedBatch) -> int:
    if batch.outcome in (Outcome.FAILED, Outcome.CANCELLED) or batch.cancelled:
        return DEAD
    if batch.outcome is Outcome.EXPIRED:
        return 2
    return 0 if batch.outcome is Outcome.SUCCEEDED else 1


def ids_prove(custom_ids: Iterable[str]) -> bool:
    """Whether custom IDs distinguish the rows of a part from those of other tasks."""
    return any(COMMON_ID.fullmatch(custom_id) is None for custom_id in custom_ids)


def has_the_rows(batch: ListedBatch, wanted: Collection[str], found: Collection[str]) -> bool | None:
    """Whether the results of an ended batch are those of the wanted rows.

    :param wanted: custom IDs of the part.
    :param found: custom IDs of the results.
    :return: None if that is unknown: there are no results, or a finished batch lacks the results of some rows.
    """
    if not found:
        return None
    if not set(found) <= set(wanted):
        return False
    if batch.outcome in (Outcome.SUCCEEDED, Outcome.PARTIAL) and len(set(found)) < len(set(wanted)):
        return None
    return True
