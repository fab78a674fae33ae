"""Performs the steps that ``decision`` returns, and records what it learned. It decides nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from airflow_bifrost import providers
from airflow_bifrost.exceptions import BifrostGatewayError
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.retry import Attempts
from airflow_bifrost.submission.full_queue import refused_as_full
from airflow_bifrost.submission.ledger.calls import Calls, LedgerTiming
from airflow_bifrost.submission.ledger.creating import BatchInput, CreateFailed, Creator
from airflow_bifrost.submission.ledger.decision import next_step
from airflow_bifrost.submission.ledger.evidence import is_own, oldest_first
from airflow_bifrost.submission.ledger.listed import ListedBatch, ListRead
from airflow_bifrost.submission.ledger.record import (
    DIGEST_LENGTH,
    Deployment,
    Origin,
    Records,
    Submission,
    SubmissionRecord,
    TaskStateStore,
    Whole,
)
from airflow_bifrost.submission.ledger.settling import Settler
from airflow_bifrost.submission.ledger.situation import Policy, Situation
from airflow_bifrost.submission.ledger.steps import (
    Adopt,
    Compare,
    Consider,
    Create,
    Distinguish,
    Keep,
    ReadList,
    Reattach,
    Retrieve,
    RetrieveAll,
    Step,
    Tentative,
    Undetermined,
    Wait,
)

NOTHING_SUBMITTED = "Nothing was submitted, and nothing is billed."

log = logging.getLogger("airflow.task")


def _never() -> None:
    """Never stop."""


class Ledger:
    """The submissions of one part of a task's input: one record for each input that it ever had.

    :param store: keeps the records for later attempts.
    :param whole: what the part is a part of; None: it is the whole input, or the task submits nothing now.
    :param may_be_lost: an earlier attempt may have submitted without a record in the store.
    :param floor: unix seconds before which no attempt of this task began; None: unknown.
    :param policy: what the user wants if an earlier attempt left something.
    :param known: IDs of batches of the task's other parts.
    :param result_ids: reads the custom IDs of an ended batch's results.
    :param check_stop: raises if the task has been stopped. Called before every call that costs money, and while waiting.
    :param deletes_orphans: delete an uploaded file at once if its create was refused.
    """

    def __init__(
        self,
        origin: Origin,
        client: GatewayClient,
        *,
        provider: str,
        store: TaskStateStore,
        deployment: Deployment = Deployment(),  # noqa: B008 - frozen
        whole: Whole | None = None,
        may_be_lost: bool = False,
        floor: float | None = None,
        policy: Policy = Policy(),  # noqa: B008 - frozen
        known: Iterable[str] = (),
        result_ids: Callable[[str], Iterable[str]] | None = None,
        check_stop: Callable[[], None] = _never,
        deletes_orphans: bool = True,
        timing: LedgerTiming = LedgerTiming(),  # noqa: B008 - frozen
    ) -> None:
        self._origin = origin
        self._provider = provider
        self._deployment = deployment
        self._whole = whole
        self._may_be_lost = may_be_lost
        self._floor = floor
        self._policy = policy
        self._known = frozenset(known)
        self._timing = timing
        self._records = Records(store, origin.part)
        self._calls = Calls(client, check_stop, timing)
        self._settler = Settler(self._calls, self._records, origin, whole, provider, self._known, result_ids)
        self._creator = Creator(self._calls, self._records, origin, whole, provider, deployment, deletes_orphans)

    def submit(self, digest: str, source: BatchInput) -> Submission:
        """Create a batch, unless an earlier attempt did.

        :param digest: SHA-256 of the input and the request, in hex.
        :raises SubmissionInDoubt: a batch may exist, and this cannot be determined.
        :raises BifrostError: the call failed. A retry determines whether it made a batch.
        """
        digest = digest[:DIGEST_LENGTH]
        self.supersede_others(digest)
        timing = self._timing
        attempts = replace(timing.retry, clock=timing.clock, random=timing.random).attempts()
        while True:
            step = self._answer(digest, source, self._policy)
            if not isinstance(step, Create):
                return self._reattached(digest, step)
            if step.at_the_users_risk:
                log.warning(
                    "%s. Submitting anyway, because on_unknown is 'resubmit'. You may pay twice.",
                    step.at_the_users_risk,
                )
            try:
                created = self._creator.create(digest, source, step.number, self._records.get(digest))
            except CreateFailed as failed:
                found = self._after_failure(digest, source, failed.error)
                if found is not None:
                    return found
                record = self._records.get(digest)
                if record is not None and record.state == "refused":
                    self._pause_or_raise(digest, failed.error, attempts)
                continue
            if created is not None:
                return self._created(digest, source, created)

    def supersede_others(self, digest: str | None) -> None:
        """Leave or cancel, once, what was submitted for other inputs, and find out whether unanswered creates made batches.

        :param digest: of the input that is wanted now; None: no input.
        :raises BifrostGatewayError: a transient error. A retry completes the work.
        """
        wanted = digest and digest[:DIGEST_LENGTH]
        for other, record in self._records.all().items():
            if other == wanted or record.superseded:
                continue
            settled = self._settled(other, record) if record.state == "intent" else record
            if settled.state == "submitted" and settled.batch_id is not None:
                with self._unless_refused(settled.batch_id):
                    self._supersede(settled.batch_id, settled.provider, stopped=settled.stopped)
                    for batch_id in settled.duplicates:
                        self._calls.cancel(batch_id, settled.provider)
                    self._records.put(other, replace(settled, superseded=True, uncancelled=[]))
            else:
                self._creator.drop_orphan(other)
        if self._may_be_lost and providers.get(self._provider).metadata:
            self._supersede_unrecorded(wanted)

    def _settled(self, digest: str, record: SubmissionRecord) -> SubmissionRecord:
        """The batch that a create of another input made. If this cannot be determined, the record stays as it is, in case the input
        comes back."""
        step = self._answer(digest, None, Policy())
        if isinstance(step, Undetermined):
            log.warning(
                "An earlier attempt may have submitted another input. If it did, that batch is billed: %s", step.reason
            )
        if isinstance(step, Tentative):
            log.warning("Batch %s may be an earlier attempt's, for another input. If so, it is billed.", step.batch_id)
        if isinstance(step, Create):
            return self._records.put(digest, replace(record, state="refused", quiet_at=None))
        return self._records.get(digest) or record

    def _supersede_unrecorded(self, wanted: str | None) -> None:
        """The same for batches of this task that no record names."""
        recorded = self._records.all()
        for batch in self._calls.read_list(self._provider, None).batches:
            if batch.tag is None or batch.tag.origin != self._origin.key or batch.tag.digest in (wanted, *recorded):
                continue
            if self._whole is not None and batch.tag.whole == self._whole.key:  # the same rows
                continue
            if batch.outcome is None and is_own(batch, self._deployment, None):
                with self._unless_refused(batch.id):
                    self._supersede(batch.id, self._provider)

    @contextmanager
    def _unless_refused(self, batch_id: str) -> Iterator[None]:
        """A refusal, for example because the batch belongs to another virtual key, does not keep the task from its new input. The record
        stays, so that the next attempt tries again."""
        try:
            yield
        except BifrostGatewayError as error:
            if error.transient:
                raise
            log.warning(
                "%s Batch %s, which another input has submitted, may keep running and be billed.", error, batch_id
            )

    def _supersede(self, batch_id: str, provider: str, *, stopped: bool = False) -> None:
        """:param stopped: a user ended the task, so the batch is cancelled in any case."""
        log.warning("Batch %s was submitted by an earlier attempt, for another input", batch_id)
        if self._policy.cancels_others or stopped:
            self._calls.cancel(batch_id, provider)
        else:
            log.warning("It is left as it is, because on_changed_input is 'leave'. If it is running, it is billed")

    # From step to step

    def _answer(self, digest: str, source: BatchInput | None, policy: Policy) -> Step:
        """Perform steps until one is final: Reattach, Tentative, Create or Undetermined."""
        situation = self._situation(digest, source, policy)
        while True:
            step = next_step(situation, self._calls.now())
            match step:
                case ReadList():
                    situation = replace(situation, read=self._read_for(situation, step))
                case Wait():
                    log.info(
                        "Waiting %.0f s, because the batch of an earlier create may not be listed yet", step.seconds
                    )
                    self._calls.pause(step.seconds)
                    situation = replace(self._situation(digest, source, policy), waited=situation.waited + step.seconds)
                case Retrieve():
                    situation = replace(situation, current=self._calls.retrieve(step.batch_id, situation.provider))
                case RetrieveAll(batch_ids):
                    retrieved = [self._calls.retrieve(batch_id, situation.provider) for batch_id in batch_ids]
                    known = [batch for batch in retrieved if isinstance(batch, ListedBatch)]
                    situation = replace(situation, rivals=oldest_first(known))
                case Consider(batch):
                    self._settler.consider(digest, batch)
                    situation = replace(self._situation(digest, source, policy), current=batch, waited=situation.waited)
                case Distinguish(batch):
                    assert source is not None
                    excluded = self._settler.excludes(digest, source, batch)
                    compared = situation.compared if excluded else situation.compared | {batch.id}
                    situation = replace(
                        self._situation(digest, source, policy),
                        read=situation.read,
                        waited=situation.waited,
                        compared=compared,
                    )
                case Keep() | Compare() | Adopt():
                    self._settler.settle(digest, source, step)
                    situation = replace(self._situation(digest, source, policy), waited=situation.waited)
                case _:
                    return step

    def _situation(self, digest: str, source: BatchInput | None, policy: Policy) -> Situation:
        records = self._records.all()
        record = records.get(digest)
        provider = record.provider if record else self._provider
        facts = providers.get(provider)
        others = {other.batch_id for key, other in records.items() if key != digest and other.batch_id}
        is_intent = record is not None and record.state == "intent"
        comparable = not facts.metadata and is_intent and self._settler.can_compare(source)
        return Situation(
            origin=self._origin.key,
            deployment=self._deployment,
            digest=digest,
            provider=provider,
            tagged=facts.metadata,
            listed=facts.listing is not None,
            record=record,
            whole=self._whole,
            may_be_lost=self._may_be_lost,
            floor=self._floor,
            rows=source.rows if source else None,
            comparable=comparable,
            ids_prove=comparable and self._settler.can_prove(source),
            known=frozenset(map(facts.listed_id, self._known | others)),
            policy=policy,
            settle=self._timing.settle,
        )

    def _read_for(self, situation: Situation, step: ReadList) -> ListRead:
        """Do not lose a known batch because its twins cannot be counted now. The next attempt counts them."""
        try:
            return self._calls.read_list(situation.provider, step.since)
        except BifrostGatewayError as error:
            if situation.record is None or situation.record.state != "submitted":
                raise
            log.warning(
                "The gateway may have created the batch more than once. The next attempt checks this, because now: %s",
                error,
            )
            return ListRead((), False, self._calls.now(), str(error))

    # After a create

    def _created(self, digest: str, source: BatchInput, record: SubmissionRecord) -> Submission:
        """Choose one batch if the gateway repeated the call, or another worker made the same call."""
        assert record.batch_id is not None
        self._answer(digest, source, Policy())
        known = self._situation(digest, source, Policy()).known
        self._settler.warn_of_twins(record, known, source.rows)
        settled = self._records.get(digest) or record
        return self._submission(settled, new=settled.batch_id == record.batch_id)

    def _after_failure(self, digest: str, source: BatchInput, error: BifrostGatewayError) -> Submission | None:
        """Find out whether a failed create made a batch. None: it made no batch, or none that is still wanted."""
        if (record := self._records.get(digest)) is not None and record.state == "refused":
            return None
        try:
            step = self._answer(digest, source, replace(self._policy, adopt=None, resubmit_unknown=False))
        except BifrostGatewayError as why:
            raise error from why
        if isinstance(step, Undetermined):
            raise self._settler.in_doubt(record, step) from error
        if not isinstance(step, Create):
            return self._reattached(digest, step)
        record = self._records.get(digest)
        if record is not None and record.state == "intent":
            self._records.put(digest, replace(record, state="refused", quiet_at=None))
        return None

    def _pause_or_raise(self, digest: str, error: BifrostGatewayError, attempts: Attempts) -> None:
        """Nothing was submitted: pause before the next create, or give up."""
        if error.sent:
            error = error.with_meaning(NOTHING_SUBMITTED)
        delay = None if refused_as_full(error, self._provider) else attempts.delay(error)
        if delay is None:
            self._creator.drop_orphan(digest)
            raise error
        log.warning("%s Retrying in %.0f s.", error, delay)
        self._calls.pause(delay)

    def _reattached(self, digest: str, step: Step) -> Submission:
        record = self._records.get(digest)
        match step:
            case Reattach():
                assert record is not None
                log.info("Batch %s was submitted for this input by an earlier call. Continuing with it", step.batch_id)
                if record.superseded or record.stopped:
                    record = self._records.put(digest, replace(record, superseded=False, stopped=False))
                if record.uncancelled:
                    record = self._settler.cancel_twins(digest, record)
                return self._submission(record)
            case Tentative():
                log.warning(
                    "Batch %s may have been submitted for this input by an earlier attempt. Its results are compared when it has ended",
                    step.batch_id,
                )
                return Submission(step.batch_id, new=False, confirmed=False)
            case Undetermined():
                raise self._settler.in_doubt(record, step)
        raise AssertionError(step)

    def _submission(self, record: SubmissionRecord, *, new: bool = False) -> Submission:
        assert record.batch_id is not None
        return Submission(
            record.batch_id,
            new=new,
            confirmed=record.confirmed,
            duplicates=record.duplicates,
            uncancelled=record.uncancelled,
            input_file_id=record.input_file_id,
        )
