"""What a task remembers of its submissions, and the tag that a batch carries in its metadata. Pure, JSON types only."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Protocol, Self

from airflow_bifrost.gateway.config import DEFAULT_SETTLE_TIME

TAG_KEY = "airflow_bifrost"  # key of the tag in a batch's metadata
DIGEST_LENGTH = 32  # hex digits
NONCE_LENGTH = 16  # hex digits

# https://platform.openai.com/docs/api-reference/batch/create#batch-create-metadata
MAX_PAIRS, MAX_KEY, MAX_VALUE = 16, 64, 512  # of a batch's metadata; characters

# Until a create is quiet, the gateway or the provider may still make a batch from it, so an empty list proves nothing.
SETTLE = DEFAULT_SETTLE_TIME  # seconds after a create that got no answer
LATE = 120.0  # seconds after an answer that leaves open whether the provider created the batch, such as a 504


class TaskStateStore(Protocol):
    """One JSON value per key, kept across retries, reschedules and clears of one task instance. An unreadable value is an error."""

    def get(self, key: str) -> Any: ...

    def set(self, key: str, value: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Deployment:
    """Which Airflow a batch comes from. Two deployments may share a provider account, and their scheduled runs have the same IDs.

    :param id: hex digits; empty: unknown.
    :param configured: whether a user set it. Two configured IDs that differ belong to two deployments. Derived ones that differ may
        belong to two workers of one deployment.
    """

    id: str = ""
    configured: bool = False

    @classmethod
    def named(cls, name: str) -> Self:
        """The deployment that a user has named."""
        return cls(hashlib.sha256(f"deployment {name}".encode()).hexdigest()[:16], configured=True)

    def is_same(self, other: Deployment) -> bool | None:
        """Whether both are the same deployment; None: unknown."""
        if self.id and self == other:
            return True
        return False if self.configured and other.configured else None

    def __str__(self) -> str:
        return f"{'c' if self.configured else 'd'}{self.id}"

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(text[1:], configured=text[0] == "c")


@dataclass(frozen=True, slots=True)
class Origin:
    """What may be submitted only once: a part of the input of one task instance. Retries and clears have the same origin."""

    dag_id: str
    task_id: str
    run_id: str
    map_index: int = -1
    part: int = 1

    @property
    def key(self) -> str:
        """32 hex digits."""
        return hashlib.sha256(json.dumps(list(asdict(self).values())).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Whole:
    """What a part is a part of: the rows that a task instance sends in one round, however they are split.

    :param key: of the task instance and its rows, 32 hex digits.
    :param round: 1 for the task's input, then one more each time that rows are sent again.
    :param digests: of the parts of the current split, as in tags.
    """

    key: str
    round: int
    digests: frozenset[str]

    @property
    def is_one_part(self) -> bool:
        return len(self.digests) == 1

    @classmethod
    def of(cls, origin: Origin, digest: str, round_: int, digests: Iterable[str]) -> Self:
        """
        :param origin: of any part of the task instance.
        :param digest: SHA-256 of the rows and the request, whatever the split.
        """
        text = json.dumps([replace(origin, part=0).key, digest])
        short = frozenset(digest[:DIGEST_LENGTH] for digest in digests)
        return cls(hashlib.sha256(text.encode()).hexdigest()[:32], round_, short)


@dataclass(frozen=True, slots=True)
class Tag:
    """What a batch's metadata says about where the batch comes from.

    :param origin: the key of its :class:`Origin`.
    :param digest: of the part's input.
    :param number: counts the creates that were made on purpose for this input, from 1.
    :param whole: the key of its :class:`Whole`.
    :param round: the round of its :class:`Whole`.
    :param nonce: of this one create. A batch with a nonce of the record belongs to the task.
    """

    origin: str
    deployment: Deployment
    digest: str
    number: int
    whole: str
    round: int
    nonce: str

    def __str__(self) -> str:
        return f"{self.idempotency_key}.{self.whole}.{self.round}.{self.nonce}"

    @property
    def idempotency_key(self) -> str:
        """An idempotency key, the same for two workers on one attempt, for a provider that honors it."""
        return f"{self.origin}.{self.deployment}.{self.digest}.{self.number}"

    @classmethod
    def of(cls, metadata: Mapping[str, Any] | None) -> Self | None:
        """None: this package did not create the batch, or its provider stores no metadata."""
        value = (metadata or {}).get(TAG_KEY)
        found = _TAG.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            return None
        origin, deployment, digest, number, whole, round_, nonce = found.groups()
        return cls(origin, Deployment.parse(deployment), digest, int(number), whole, int(round_), nonce)


_KEY, _COUNT = "([0-9a-f]{32})", "([0-9]{1,6})"
_TAG = re.compile(rf"{_KEY}\.([cd][0-9a-f]{{0,16}})\.{_KEY}\.{_COUNT}\.{_KEY}\.{_COUNT}\.([0-9a-f]{{16}})")


@dataclass(frozen=True, slots=True)
class SubmissionRecord:
    """What a task knows about its last create for one input.

    :param state: ``uploaded``: only the file was sent; ``intent``: the create was about to be sent, its result is unknown; ``submitted``:
        it made a batch; ``refused``: it certainly made none.
    :param number: see :class:`Tag`.
    :param at: unix seconds of the intent.
    :param nonces: of the creates of this number: one for each worker that made one.
    :param quiet_at: unix seconds after which the create can make no further batch, so that its twins can be counted; None: they were.
    :param floor: by the provider's clock, no batch of this create is older. Only for providers without metadata.
    :param seen: IDs of batches that existed before the create, as old as ``floor`` or younger.
    :param excluded: IDs of batches that turned out to belong to others.
    :param candidate: ID of a batch that may be this one. It is compared when it has ended.
    :param confirmed: False: a user named the batch while it was running, so its custom IDs were not yet compared.
    :param duplicates: IDs of further batches that the create made.
    :param uncancelled: those of them that could not be cancelled yet.
    :param rivals: IDs of batches that another worker on the same attempt created.
    :param superseded: another input has been submitted since, and the batch was left or cancelled.
    :param stopped: a user ended the task after the batch was submitted, so the batch has been cancelled or will be.
    :param input_file_id: of the file that this package uploaded for it.
    :param key: fingerprint of the token that made the create, see :attr:`airflow_bifrost.gateway.config.GatewayConfig.key_id`; None: unknown.
    """

    state: Literal["uploaded", "intent", "submitted", "refused"]
    provider: str
    number: int
    at: float
    nonces: list[str] = field(default_factory=list)
    quiet_at: float | None = None
    floor: float | None = None
    seen: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    candidate: str | None = None
    batch_id: str | None = None
    confirmed: bool = True
    duplicates: list[str] = field(default_factory=list)
    uncancelled: list[str] = field(default_factory=list)
    rivals: list[str] = field(default_factory=list)
    superseded: bool = False
    stopped: bool = False
    input_file_id: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """
    :param new: False: an earlier attempt created the batch.
    :param confirmed: False: the batch may be this one. Wait for it, then submit again, which compares its results.
    :param duplicates: IDs of further batches for the same input. The gateway repeats calls, and two workers may run one attempt.
    :param uncancelled: those of them that are still to be cancelled.
    :param input_file_id: of the file that this package uploaded for it.
    """

    batch_id: str
    new: bool
    confirmed: bool = True
    duplicates: list[str] = field(default_factory=list)
    uncancelled: list[str] = field(default_factory=list)
    input_file_id: str | None = None


def store_key(part: int) -> str:
    return f"bifrost_submission_{part}"


def read_records(store: TaskStateStore, part: int) -> dict[str, SubmissionRecord]:
    """The records of a part, by the digests of its inputs."""
    value = store.get(store_key(part)) or {}
    return {digest: SubmissionRecord(**record) for digest, record in value.items()}


def write_records(store: TaskStateStore, part: int, records: Mapping[str, SubmissionRecord]) -> None:
    store.set(store_key(part), {digest: asdict(record) for digest, record in records.items()})


def may_have_submitted(store: TaskStateStore, part: int, digest: str) -> bool:
    """Whether an earlier attempt is known to have submitted this part with this input."""
    record = read_records(store, part).get(digest[:DIGEST_LENGTH])
    return record is not None and record.state in ("intent", "submitted")


def batches_to_stop(store: TaskStateStore, part: int) -> list[str]:
    """IDs of the batches that are cancelled if a user ends the task: they certainly belong to the part, and are wanted."""
    found: list[str] = []
    for record in read_records(store, part).values():
        if record.state == "submitted" and not record.superseded:
            own = [record.batch_id] if record.batch_id and record.confirmed else []
            found += [*own, *record.rivals, *record.uncancelled]
    return found


def note_stop(store: TaskStateStore, part: int, left: Collection[str]) -> None:
    """Record that a user ended the task.

    :param left: IDs of the batches that could not be cancelled yet.
    """
    records = read_records(store, part)
    for digest, record in records.items():
        if record.state == "submitted" and not record.superseded:
            twins = {*record.rivals, *record.uncancelled, *record.duplicates}
            uncancelled = [batch_id for batch_id in left if batch_id in twins]
            records[digest] = replace(record, stopped=True, uncancelled=uncancelled)
    write_records(store, part, records)


def check_metadata(metadata: Mapping[str, Any], *, tagged: bool) -> None:
    """Check what the user wants in a batch's metadata, before anything is uploaded.

    :param tagged: whether this package adds its own pair.
    :raises ValueError: the provider would refuse it, or it would be replaced.
    """
    room = MAX_PAIRS - tagged
    if TAG_KEY in metadata:
        problem = f"metadata has the key {TAG_KEY!r}, under which this package keeps its own tag: rename it"
    elif len(metadata) > room:
        problem = f"metadata has {len(metadata)} pairs, and {room} is the maximum"
        problem += f": a batch holds {MAX_PAIRS}, one of which is this package's tag" if tagged else ""
    elif long := next((key for key in metadata if len(str(key)) > MAX_KEY), None):
        problem = f"metadata has the key {long[:20]!r}... with {len(long)} characters, and {MAX_KEY} is the maximum"
    elif long := next((key for key, value in metadata.items() if len(str(value)) > MAX_VALUE), None):
        problem = f"metadata[{long!r}] has {len(metadata[long])} characters, and {MAX_VALUE} is the maximum"
    else:
        return
    raise ValueError(f"{problem}. Nothing was submitted, and nothing is billed.")


class Records:
    """The records of one part, by the digests of its inputs. They are read again each time, because another worker may run the same attempt."""

    def __init__(self, store: TaskStateStore, part: int) -> None:
        self._store = store
        self._part = part

    def all(self) -> dict[str, SubmissionRecord]:
        return read_records(self._store, self._part)

    def get(self, digest: str) -> SubmissionRecord | None:
        return self.all().get(digest)

    def put(self, digest: str, record: SubmissionRecord) -> SubmissionRecord:
        """:return: the same record."""
        write_records(self._store, self._part, {**self.all(), digest: record})
        return record
