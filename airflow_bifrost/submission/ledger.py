"""Submitting a batch exactly once, whatever crashes in between.

A record is written before the call that costs money (an intent), and again with the id of the batch after it. A later attempt that finds
an intent does not know what came of it. It looks for the batch in the gateway's list, by the tag that each submission carries in its
metadata. Where the list cannot tell, it stops and says what to check: doubt is never taken for absence.

The gateway itself may send one create two to six times, and it answers with an error when a batch exists already; so an error
that is no clear refusal is doubt, too.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol

from airflow_bifrost import providers
from airflow_bifrost.exceptions import (
    BatchNotFound,
    BifrostGatewayError,
    BifrostProtocolError,
    BifrostRateLimited,
    BifrostUnavailable,
    SubmissionInDoubt,
)
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.providers.statuses import BatchStatus

TAG = "airflow_bifrost"  # the key in a batch's metadata
TELLING = frozenset({"openai", "azure"})  # providers whose lists show metadata, and every page (gateway 1.4.19)
MOST_LISTED = 20_000  # batches; a longer list is not walked to its end, and so proves nothing
SETTLE = 120.0  # seconds after a create for which the gateway may still be repeating it
DIGEST_LENGTH = 32  # hex digits

log = logging.getLogger("airflow.task")

Create = Callable[[dict[str, str], str], Batch]  # of metadata to be sent along, and an idempotency key


class TaskStateStore(Protocol):
    """One JSON object per key, kept over retries, reschedules and clears of one task instance. What cannot be read is an error."""

    def get(self, key: str) -> Any: ...

    def set(self, key: str, value: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Attempt:
    """What may be submitted once: a part of the input of one task instance. A retry, or a clear, is the same."""

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
class Tag:
    """What a batch's metadata tell of where it comes from.

    :param digest: of the input.
    :param number: counts the submissions that one attempt has made on purpose, from 1.
    """

    key: str
    digest: str
    number: int

    def __str__(self) -> str:
        return f"{self.key}.{self.digest}.{self.number}"

    @classmethod
    def of(cls, batch: Batch) -> Tag | None:
        """None: it was not submitted by this package, or its provider keeps no metadata."""
        value = (batch.metadata or {}).get(TAG)
        found = re.fullmatch(r"([0-9a-f]{32})\.([0-9a-f]{32})\.([0-9]{1,6})", value) if isinstance(value, str) else None
        return cls(found[1], found[2], int(found[3])) if found else None


@dataclass(frozen=True, slots=True)
class SubmissionRecord:
    """What an attempt knows of its last submission of one input.

    :param state: ``intent``: the call was about to be made; ``submitted``: it has brought a batch; ``refused``: it has surely brought none.
    :param at: unix seconds of the intent.
    :param superseded: another input has come since, and the batch was left or cancelled.
    """

    state: Literal["intent", "submitted", "refused"]
    provider: str
    number: int
    at: float
    batch_id: str | None = None
    duplicates: list[str] = field(default_factory=list)
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class Submission:
    """
    :param new: False: the batch is that of an earlier try.
    :param duplicates: ids of batches that the gateway has made beside it, by repeating the call; they are cancelled.
    """

    batch_id: str
    new: bool
    duplicates: list[str] = field(default_factory=list)


class Ledger:
    """The submissions of one attempt: one record for each input that it ever had.

    :param memory: None: nothing is remembered, and the gateway's list is the only record.
    :param first_try: whether this task instance is run for the first time, so that without a memory there can be nothing to find.
    :param on_unknown: what to do where it cannot be known whether an earlier try has submitted: ``fail``, or ``resubmit``, and perhaps pay twice.
    :param on_changed_input: what becomes of a batch that was submitted with another input: ``leave`` or ``cancel``.
    :param resubmit: outcomes of which an earlier batch is submitted once more.
    :param keep_cancelled: when an input comes back whose batch was cancelled for another, go on with that batch: the rows that it had
        done are paid for.
    """

    def __init__(
        self,
        attempt: Attempt,
        client: GatewayClient,
        *,
        provider: str,
        memory: TaskStateStore | None,
        first_try: bool,
        on_unknown: str = "fail",
        on_changed_input: str = "leave",
        resubmit: Collection[str] = (),
        keep_cancelled: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._attempt = attempt
        self._client = client
        self._provider = provider
        self._memory = memory
        self._first_try = first_try
        self._on_unknown = on_unknown
        self._on_changed_input = on_changed_input
        self._resubmit = frozenset(resubmit)
        self._keep_cancelled = keep_cancelled
        self._sleep = sleep

    def submit(self, digest: str, prepare: Callable[[], Create]) -> Submission:
        """Create a batch, unless an earlier try has.

        :param digest: SHA-256 of the input and of what is asked of it, in hex.
        :param prepare: called if there is something to submit: does what costs nothing (the upload), and gives the call that does.
        :raises SubmissionInDoubt: a batch may exist, and it cannot be found out.
        :raises BifrostError: the call failed. A retry finds out what came of it.
        """
        digest = digest[:DIGEST_LENGTH]
        self.supersede_others(digest)
        record = self._records.get(digest)
        if record is not None and record.state == "submitted" and not self._is_to_be_repeated(record):
            assert record.batch_id is not None
            log.info("Batch %s was submitted by an earlier try, for the same input: going on with it", record.batch_id)
            if record.superseded:
                self._keep_in_mind(digest, replace(record, superseded=False))
            return Submission(record.batch_id, new=False, duplicates=record.duplicates)
        found = self._earlier_batches(digest, record)
        number = max([record.number if record else 0, *(tag.number for tag, _ in found)])
        latest = SubmissionRecord("intent", self._provider, number, time.time())
        same = [batch for tag, batch in found if tag.number == number]
        if same and not (record is None and self._has_ended_badly(same[0])):
            return self._keep(digest, latest, same)
        create = prepare()
        return self._create(digest, replace(latest, number=number + 1, at=time.time()), create)

    def supersede_others(self, digest: str | None) -> None:
        """Leave or cancel what was submitted for other inputs, once; and find out what came of calls that nobody has an answer of.

        :param digest: of the input that is wanted now; None: none is.
        :raises BifrostError: the gateway met what may pass; a retry tries again.
        """
        wanted = digest and digest[:DIGEST_LENGTH]
        for other, record in list(self._records.items()):
            if other == wanted or record.superseded:
                continue
            settled = self._settled(other, record) if record.state == "intent" else record
            if settled.batch_id is not None:
                self._supersede(settled.batch_id, settled.provider)
                for batch_id in settled.duplicates:
                    self._cancel(batch_id, settled.provider)
                settled = replace(settled, superseded=True)
            if settled != record:
                self._keep_in_mind(other, settled)
        if self._memory is None:
            with suppress(_CannotTell):  # which stops the submission
                for tag, batch in self._found_without_record:
                    if (
                        tag.digest != wanted
                        and providers.get(self._provider).outcome(batch.status, batch.request_counts) is None
                    ):
                        self._supersede(batch.id, self._provider)

    def _settled(self, digest: str, record: SubmissionRecord) -> SubmissionRecord:
        """What came of a call of which there is no answer. It stays as it is where that cannot be known, for when its input comes back."""
        try:
            found = self._found_of_intent(record)
        except _CannotTell as why:
            log.warning("An earlier try may have submitted another input, which runs on and is billed then: %s", why)
            return record
        batches = _by_age(batch for tag, batch in found if (tag.digest, tag.number) == (digest, record.number))
        if not batches:
            return replace(record, state="refused")
        first, *others = batches
        duplicates = [other.id for other in others]
        return replace(record, state="submitted", batch_id=first.id, duplicates=duplicates)

    def _create(self, digest: str, intent: SubmissionRecord, create: Create) -> Submission:
        self._keep_in_mind(digest, intent)
        tag = Tag(self._attempt.key, digest, intent.number)
        metadata = {TAG: str(tag)} if self._provider in TELLING else {}
        began = time.time()
        try:
            batch = create(metadata, str(tag))
        except BifrostGatewayError as error:
            in_doubt = error.sent and isinstance(error, BifrostUnavailable | BifrostProtocolError)
            # A refusal may be that of a repeated call, of which an earlier one got through: a look at the list settles it.
            tells = self._provider in TELLING and (in_doubt or isinstance(error, BifrostRateLimited))
            if tells and in_doubt:
                log.warning("%s Looking for it in a while, when the gateway has ended repeating the call.", error)
                self._sleep(max(0.0, began + SETTLE - time.time()))
            try:
                batches = [batch for found, batch in self._listed(self._provider) if found == tag] if tells else []
            except _CannotTell as why:
                log.warning("It cannot be found out whether a batch was created: %s", why)
                raise error from why
            if batches:
                return self._keep(digest, intent, batches)
            if not in_doubt:
                self._keep_in_mind(digest, replace(intent, state="refused"))
            raise
        self._keep_in_mind(digest, replace(intent, state="submitted", batch_id=batch.id))
        log.info("Submitted batch %s to %s", batch.id, self._provider)
        return Submission(batch.id, new=True)

    def _keep(self, digest: str, intent: SubmissionRecord, batches: list[Batch]) -> Submission:
        """Of several batches for one input, keep the one that has begun first."""
        first, *others = _by_age(batches)
        for other in others:
            log.warning("Batch %s was submitted for the same input, too: the gateway has repeated the call", other.id)
            self._cancel(other.id, self._provider)
        duplicates = [other.id for other in others]
        self._keep_in_mind(digest, replace(intent, state="submitted", batch_id=first.id, duplicates=duplicates))
        log.info("Batch %s was submitted by an earlier call, for the same input: going on with it", first.id)
        return Submission(first.id, new=False, duplicates=duplicates)

    # What an earlier try has left

    def _earlier_batches(self, digest: str, record: SubmissionRecord | None) -> list[tuple[Tag, Batch]]:
        """The batches of this input, where there may be one that no record tells of."""
        if record is not None and record.state != "intent":
            return []
        try:
            found = self._found_without_record if record is None else self._found_of_intent(record)
        except _CannotTell as why:
            self._doubt(record, str(why))
            return []
        return [(tag, batch) for tag, batch in found if tag.digest == digest]

    def _found_of_intent(self, record: SubmissionRecord) -> list[tuple[Tag, Batch]]:
        """What the list shows once the gateway has ended repeating the call.

        :raises _CannotTell: it shows nothing that can be relied on.
        """
        if record.provider in TELLING:
            self._sleep(max(0.0, record.at + SETTLE - time.time()))
        return self._shown(record.provider)

    @cached_property
    def _found_without_record(self) -> list[tuple[Tag, Batch]]:
        """The same where nothing is remembered; nobody knows then when an earlier try was."""
        if self._memory is not None or self._first_try:
            return []
        found = self._shown(self._provider)
        if not found:
            self._sleep(SETTLE)
            found = self._shown(self._provider)
        return found

    def _shown(self, provider: str) -> list[tuple[Tag, Batch]]:
        if provider not in TELLING:
            raise _CannotTell(f"{provider} keeps no note of where a batch comes from")
        try:
            return self._listed(provider)
        except BifrostGatewayError as error:
            if error.transient:
                raise
            raise _CannotTell(f"the list of {provider} cannot be read: {error}") from error

    def _listed(self, provider: str) -> list[tuple[Tag, Batch]]:
        """All batches of this attempt. With several keys behind the gateway, those of one come after all of another; so the end counts."""
        found = []
        for number, batch in enumerate(self._client.list_batches(provider=provider)):
            if number >= MOST_LISTED:
                raise _CannotTell(f"the list of {provider} is longer than {MOST_LISTED:,} batches")
            tag = Tag.of(batch)
            if tag is not None and tag.key == self._attempt.key:
                found.append((tag, batch))
        return found

    def _doubt(self, record: SubmissionRecord | None, why: str) -> None:
        when, provider = "An earlier try", self._provider
        if record is not None:
            provider = record.provider
            when = f"A try at {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(record.at))}"
        text = f"{when} may have submitted this input to {provider}, and it cannot be found out: {why}."
        if self._on_unknown == "resubmit":
            log.warning("%s Submitting, since on_unknown is 'resubmit': it may be paid twice.", text)
            return
        raise SubmissionInDoubt(
            f"{text} Nothing was submitted now. Look for a batch of that time in the provider's console: if there is one, wait for it by its"
            " id (BatchSensor); if there is none, run this task with on_unknown='resubmit'."
        )

    def _is_to_be_repeated(self, record: SubmissionRecord) -> bool:
        """Whether the batch of an earlier try is no use now."""
        assert record.batch_id is not None
        if not (self._resubmit or record.superseded or self._on_changed_input == "cancel"):
            return False  # else it may have been cancelled, and the worker have died before it was noted
        try:
            batch = self._client.get_batch(record.batch_id, provider=record.provider)
        except BatchNotFound as error:
            if not record.superseded:
                raise
            self._doubt(record, f"batch {record.batch_id} was submitted then, and is gone ({error})")
            return True
        cancelled = BatchStatus.of(batch.status) in (BatchStatus.CANCELLING, BatchStatus.CANCELLED)
        return (cancelled and not self._keep_cancelled) or self._has_ended_badly(batch)

    def _has_ended_badly(self, batch: Batch) -> bool:
        outcome = providers.get(self._provider).outcome(batch.status, batch.request_counts)
        if outcome is None or str(outcome) not in self._resubmit:
            return False
        log.info("Batch %s was submitted by an earlier try and has %s: submitting again", batch.id, outcome)
        return True

    def _supersede(self, batch_id: str, provider: str) -> None:
        log.warning("Batch %s was submitted by an earlier try, for another input", batch_id)
        if self._on_changed_input == "cancel":
            self._cancel(batch_id, provider)
        else:
            log.warning("It is left as it is (on_changed_input='leave'); if it runs, it is billed")

    def _cancel(self, batch_id: str, provider: str) -> None:
        try:
            batch = self._client.get_batch(batch_id, provider=provider)
            if providers.get(provider).outcome(batch.status, batch.request_counts) is None:
                batch = self._client.cancel_batch(batch_id, provider=provider)
        except BifrostGatewayError as error:
            if error.transient:
                raise
            log.warning("%s", error)
        else:
            log.info("Batch %s is %s", batch_id, batch.status)

    # The records

    @cached_property
    def _records(self) -> dict[str, SubmissionRecord]:
        """By the digests of their inputs."""
        return {} if self._memory is None else _read(self._memory, self._attempt.part)

    def _keep_in_mind(self, digest: str, record: SubmissionRecord) -> None:
        self._records[digest] = record
        if self._memory is not None:
            value = {digest: asdict(record) for digest, record in self._records.items()}
            self._memory.set(_key(self._attempt.part), value)


def may_have_submitted(memory: TaskStateStore, part: int, digest: str) -> bool:
    """Whether an earlier try has submitted this part with this input, as far as is known."""
    record = _read(memory, part).get(digest[:DIGEST_LENGTH])
    return record is not None and record.state != "refused"


def _key(part: int) -> str:
    return f"bifrost_submission_{part}"


def _read(memory: TaskStateStore, part: int) -> dict[str, SubmissionRecord]:
    """The records of a part, by the digests of their inputs."""
    value = memory.get(_key(part)) or {}
    return {digest: SubmissionRecord(**record) for digest, record in value.items()}


def _by_age(batches: Iterable[Batch]) -> list[Batch]:
    """The oldest first."""
    return sorted(batches, key=lambda batch: (batch.created_at is None, batch.created_at, batch.id))


class _CannotTell(Exception):
    """The gateway's list does not say whether a batch exists."""
