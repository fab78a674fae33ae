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
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Protocol

from airflow_bifrost.exceptions import (
    BifrostGatewayError,
    BifrostProtocolError,
    BifrostRateLimited,
    BifrostUnavailable,
    SubmissionInDoubt,
)
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.gateway.outcome import WITH_RESULTS, BatchStatus, outcome_of_batch

TAG = "airflow_bifrost"  # the key in a batch's metadata
TELLING = frozenset({"openai", "azure"})  # upstreams whose lists show metadata, and every page (gateway 1.4.19)
MOST_LISTED = 20_000  # batches; a longer list is not walked to its end, and so proves nothing
SETTLE = 120.0  # seconds after a create for which the gateway may still be repeating it
DIGEST_LENGTH = 32  # hex digits

log = logging.getLogger("airflow.task")

Create = Callable[[dict[str, str], str], Batch]  # of metadata to be sent along, and an idempotency key


class Memory(Protocol):
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
        """None: it was not submitted by this package, or its upstream keeps no metadata."""
        value = (batch.metadata or {}).get(TAG)
        found = re.fullmatch(r"([0-9a-f]{32})\.([0-9a-f]{32})\.([0-9]{1,6})", value) if isinstance(value, str) else None
        return cls(found[1], found[2], int(found[3])) if found else None


@dataclass(frozen=True, slots=True)
class Record:
    """What an attempt knows of its last submission.

    :param state: ``intent``: the call was about to be made; ``submitted``: it has brought a batch; ``refused``: it has surely brought none.
    :param at: unix seconds of the intent.
    :param earlier: ids of batches with other inputs, by their digests.
    """

    state: Literal["intent", "submitted", "refused"]
    provider: str
    digest: str
    number: int
    at: float
    batch_id: str | None = None
    duplicates: list[str] = field(default_factory=list)
    earlier: dict[str, str] = field(default_factory=dict)


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
    """The submissions of one attempt.

    :param memory: None: nothing is remembered, and the gateway's list is the only record.
    :param first_try: whether this task instance is run for the first time, so that without a memory there can be nothing to find.
    :param on_unknown: what to do where it cannot be known whether an earlier try has submitted: ``fail``, or ``resubmit``, and perhaps pay twice.
    :param on_changed_input: what becomes of a batch that was submitted with another input: ``leave`` or ``cancel``.
    :param resubmit: outcomes of which an earlier batch is submitted once more.
    """

    def __init__(
        self,
        attempt: Attempt,
        client: GatewayClient,
        *,
        provider: str,
        memory: Memory | None,
        first_try: bool,
        on_unknown: str = "fail",
        on_changed_input: str = "leave",
        resubmit: Collection[str] = (),
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
        self._sleep = sleep
        self._memory_key = _key(attempt.part)

    def submit(self, digest: str, prepare: Callable[[], Create]) -> Submission:
        """Create a batch, unless an earlier try has.

        :param digest: SHA-256 of the input and of what is asked of it, in hex.
        :param prepare: called if there is something to submit: does what costs nothing (the upload), and gives the call that does.
        :raises SubmissionInDoubt: a batch may exist, and it cannot be found out.
        :raises BifrostError: the call failed. A retry finds out what came of it.
        """
        digest = digest[:DIGEST_LENGTH]
        record = self._recall()
        if record is not None and record.state == "submitted" and record.digest == digest:
            assert record.batch_id is not None
            if not self._is_to_be_repeated(record.batch_id):
                log.info(
                    "Batch %s was submitted by an earlier try, for the same input: going on with it", record.batch_id
                )
                return Submission(record.batch_id, new=False, duplicates=record.duplicates)
        found = self._earlier_batches(record, digest)
        number = max([record.number if record else 0, *(tag.number for tag, _ in found)])
        others = {tag.digest: batch.id for tag, batch in found if tag.digest != digest}
        if record is not None:
            others |= record.earlier
            if record.batch_id is not None and record.digest != digest:
                others[record.digest] = record.batch_id
        standing = self._standing(others.pop(digest, None))
        latest = Record("intent", self._provider, digest, number, time.time(), earlier=others)
        same = [batch for tag, batch in found if (tag.digest, tag.number) == (digest, number)]
        if same and not (record is None and self._is_to_be_repeated(same[0].id)):
            return self._keep(latest, same)
        self._part_with(record, digest, [batch for tag, batch in found if tag.digest != digest])
        if standing is not None:
            self._keep_in_mind(replace(latest, state="submitted", batch_id=standing))
            log.info("Batch %s was submitted by an earlier try, for the same input: going on with it", standing)
            return Submission(standing, new=False)
        create = prepare()
        return self._create(replace(latest, number=number + 1, at=time.time()), create)

    def _create(self, intent: Record, create: Create) -> Submission:
        self._keep_in_mind(intent)
        tag = Tag(self._attempt.key, intent.digest, intent.number)
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
            batches = [batch for found, batch in self._listed(self._provider) if found == tag] if tells else []
            if batches:
                return self._keep(intent, batches)
            if not in_doubt:
                self._keep_in_mind(replace(intent, state="refused"))
            raise
        self._keep_in_mind(replace(intent, state="submitted", batch_id=batch.id))
        log.info("Submitted batch %s to %s", batch.id, self._provider)
        return Submission(batch.id, new=True)

    def _keep(self, intent: Record, batches: list[Batch]) -> Submission:
        """Of several batches for one input, keep the one that has begun first."""
        first, *others = sorted(batches, key=lambda batch: (batch.created_at is None, batch.created_at, batch.id))
        for other in others:
            log.warning("Batch %s was submitted for the same input, too: the gateway has repeated the call", other.id)
            _cancel(self._client, other.id, self._provider)
        duplicates = [other.id for other in others]
        self._keep_in_mind(replace(intent, state="submitted", batch_id=first.id, duplicates=duplicates))
        log.info("Batch %s was submitted by an earlier call, for the same input: going on with it", first.id)
        return Submission(first.id, new=False, duplicates=duplicates)

    # What an earlier try has left

    def _earlier_batches(self, record: Record | None, digest: str) -> list[tuple[Tag, Batch]]:
        """The batches of this attempt, where there may be one that no record tells of."""
        if record is None and (self._memory is not None or self._first_try):
            return []
        if record is not None and record.state != "intent":
            return []
        provider = self._provider if record is None else record.provider
        try:
            if provider not in TELLING:
                raise _CannotTell(f"{provider} keeps no note of where a batch comes from")
            if record is not None:
                self._sleep(max(0.0, record.at + SETTLE - time.time()))
            found = self._listed(provider)
            if record is None and not found:  # nobody knows when an earlier try was
                self._sleep(SETTLE)
                found = self._listed(provider)
            return found
        except BifrostGatewayError as error:
            if error.may_pass:
                raise
            self._doubt(record, digest, f"the list of {provider} cannot be read: {error}")
        except _CannotTell as error:
            self._doubt(record, digest, str(error))
        return []

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

    def _doubt(self, record: Record | None, digest: str, why: str) -> None:
        when = "An earlier try"
        if record is not None:
            when = f"A try at {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(record.at))}"
        if record is not None and record.digest != digest:
            log.warning("%s may have submitted another input, which runs on and is billed then: %s", when, why)
            return
        text = f"{when} may have submitted this input to {self._provider}, and it cannot be found out: {why}."
        if self._on_unknown == "resubmit":
            log.warning("%s Submitting, since on_unknown is 'resubmit': it may be paid twice.", text)
            return
        raise SubmissionInDoubt(
            f"{text} Nothing was submitted now. Look for a batch of that time in the upstream's console: if there is one, wait for it by its"
            " id (BatchSensor); if there is none, run this task with on_unknown='resubmit'."
        )

    def _standing(self, batch_id: str | None) -> str | None:
        """The batch that had this input before another one came between; None: it was cancelled, or has ended without results."""
        if batch_id is None:
            return None
        batch = self._client.get_batch(batch_id, provider=self._provider)
        outcome = outcome_of_batch(batch, self._provider)
        lost = BatchStatus.of(batch.status) is BatchStatus.CANCELLING
        return batch_id if not lost and outcome in {None, *WITH_RESULTS} - self._resubmit else None

    def _is_to_be_repeated(self, batch_id: str) -> bool:
        if not self._resubmit:
            return False
        outcome = outcome_of_batch(self._client.get_batch(batch_id, provider=self._provider), self._provider)
        if outcome is None or str(outcome) not in self._resubmit:
            return False
        log.info("Batch %s was submitted by an earlier try and has %s: submitting again", batch_id, outcome)
        return True

    def _part_with(self, record: Record | None, digest: str, found: list[Batch]) -> None:
        """Of batches with another input: leave or cancel them."""
        old = {batch.id: record.provider if record else self._provider for batch in found}
        if record is not None and record.batch_id is not None and record.digest != digest:
            old[record.batch_id] = record.provider
        for batch_id, provider in old.items():
            part_with(self._client, batch_id, provider, self._on_changed_input)

    # The record

    def _recall(self) -> Record | None:
        return None if self._memory is None else _read(self._memory, self._memory_key)

    def _keep_in_mind(self, record: Record) -> None:
        if self._memory is not None:
            self._memory.set(self._memory_key, asdict(record))


def may_have_submitted(memory: Memory, part: int) -> bool:
    """Whether an earlier try has submitted this part, as far as is known."""
    record = _read(memory, _key(part))
    return record is not None and record.state != "refused"


def _key(part: int) -> str:
    return f"bifrost_submission_{part}"


def _read(memory: Memory, key: str) -> Record | None:
    value = memory.get(key)
    return None if value is None else Record(**value)


def part_with(client: GatewayClient, batch_id: str, provider: str, on_changed_input: str) -> None:
    """Leave or cancel a batch that an earlier try has submitted, for another input.

    :raises BifrostError: the cancel met what may pass; a retry tries again.
    """
    log.warning("Batch %s was submitted by an earlier try, for another input", batch_id)
    if on_changed_input == "cancel":
        _cancel(client, batch_id, provider)
    else:
        log.warning("It is left as it is (on_changed_input='leave'); if it runs, it is billed")


def _cancel(client: GatewayClient, batch_id: str, provider: str) -> None:
    try:
        batch = client.cancel_batch(batch_id, provider=provider)
    except BifrostGatewayError as error:
        if error.may_pass:
            raise
        log.warning("%s", error)  # as a rule it has ended
    else:
        log.info("Batch %s is %s", batch_id, batch.status)


class _CannotTell(Exception):
    """The gateway's list does not say whether a batch exists."""
