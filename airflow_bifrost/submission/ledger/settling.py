"""Records which batch is the task's: one of several, one whose results were compared, or one that the user named."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from airflow_bifrost import providers
from airflow_bifrost.exceptions import BatchNotFound, BifrostGatewayError, ResultsUnavailable, SubmissionInDoubt
from airflow_bifrost.submission.ledger.calls import Calls
from airflow_bifrost.submission.ledger.creating import BatchInput
from airflow_bifrost.submission.ledger.evidence import has_the_rows, ids_prove, possible_batches
from airflow_bifrost.submission.ledger.listed import ListedBatch
from airflow_bifrost.submission.ledger.record import Origin, Records, SubmissionRecord, Whole
from airflow_bifrost.submission.ledger.steps import Adopt, Compare, Keep, Undetermined

log = logging.getLogger("airflow.task")


@dataclass(frozen=True, slots=True)
class Settler:
    """
    :param whole: what the part is a part of; None: it is the whole input.
    :param known: IDs of batches of the task's other parts.
    :param result_ids: reads the custom IDs of an ended batch's results; None: they cannot be read.
    """

    calls: Calls
    records: Records
    origin: Origin
    whole: Whole | None
    provider: str
    known: frozenset[str]
    result_ids: Callable[[str], Iterable[str]] | None

    def can_compare(self, source: BatchInput | None) -> bool:
        return source is not None and source.custom_ids is not None and self.result_ids is not None

    def can_prove(self, source: BatchInput | None) -> bool:
        if source is None or source.custom_ids is None:
            return False
        custom_ids = source.custom_ids()
        return custom_ids is not None and ids_prove(custom_ids)

    def excludes(self, digest: str, source: BatchInput, batch: ListedBatch) -> bool:
        """Whether the results of an ended batch show that it is not this part's. If so, it is recorded."""
        record = self.records.get(digest)
        assert record is not None
        if self._is_same(source, batch, record.provider) is not False:
            return False
        log.info("Batch %s has other custom IDs than this input, so another task submitted it", batch.id)
        self.records.put(digest, replace(record, excluded=[*record.excluded, batch.id]))
        return True

    def settle(self, digest: str, source: BatchInput | None, step: Keep | Compare | Adopt) -> None:
        record = self.records.get(digest)
        if isinstance(step, Keep):
            self.keep(digest, record, step)
            return
        assert source is not None, "another input is never compared"
        if isinstance(step, Compare):
            assert record is not None
            self._compare(digest, record, source, step.batch)
        else:
            self._adopt(digest, record, source, step)

    def consider(self, digest: str, candidate: ListedBatch) -> None:
        record = self.records.get(digest)
        assert record is not None
        self.records.put(digest, replace(record, candidate=candidate.id))

    def keep(self, digest: str, record: SubmissionRecord | None, step: Keep) -> None:
        """Record the batch first, so that a crash while the others are cancelled does not lose it."""
        provider = record.provider if record else self.provider
        record = record or SubmissionRecord("intent", provider, step.number, self.calls.now())
        batches = (step.batch, *step.cancel)
        nonces = {*record.nonces, *(batch.tag.nonce for batch in batches if batch.tag)}
        others = [batch.id for batch in step.cancel]
        kept = replace(
            record,
            state="submitted",
            number=step.number,
            nonces=sorted(nonces),
            batch_id=step.batch.id,
            quiet_at=None if step.quiet else record.quiet_at,
            duplicates=[*(id_ for id_ in record.duplicates if id_ not in others), *others],
            uncancelled=[batch.id for batch in step.cancel if batch.outcome is None],
            rivals=[],
        )
        self.cancel_twins(digest, self.records.put(digest, kept))

    def cancel_twins(self, digest: str, record: SubmissionRecord) -> SubmissionRecord:
        left = []
        for batch_id in record.uncancelled:
            log.warning("Batch %s is a second batch for the same input. Cancelling it", batch_id)
            try:
                self.calls.cancel(batch_id, record.provider)
            except BifrostGatewayError as error:
                log.warning("%s It keeps running and is billed until the next attempt cancels it.", error)
                left.append(batch_id)
        return self.records.put(digest, replace(record, uncancelled=left)) if record.uncancelled != left else record

    def warn_of_twins(self, record: SubmissionRecord, known: frozenset[str], rows: int | None) -> None:
        """Without metadata, the list does not show whether the gateway sent the create twice. A batch of unknown origin is never cancelled.

        :param known: IDs of batches of other parts and inputs, as the list shows them.
        """
        facts = providers.get(record.provider)
        if facts.metadata or facts.listing is None or record.floor is None:
            return
        own = {facts.listed_id(id_) for id_ in (record.batch_id, *record.rivals, *record.duplicates) if id_}
        try:
            read = self.calls.read_newest(record.provider)
        except BifrostGatewayError as error:
            log.warning("Whether the gateway created the batch more than once cannot be checked: %s", error)
            return
        excluded = own | known | set(record.excluded)
        twins = possible_batches(read, floor=record.floor, seen=record.seen, excluded=excluded, rows=rows)
        if twins:
            log.warning(
                "%s was created at the same time as batch %s, with as many rows. If no other task submitted it, the gateway sent the create"
                " twice: cancel it, or it is billed too.",
                ", ".join(map(str, twins)),
                record.batch_id,
            )

    def _compare(self, digest: str, record: SubmissionRecord, source: BatchInput, batch: ListedBatch) -> None:
        """Compare an ended batch with the input."""
        same = self._is_same(source, batch, record.provider)
        named = record.state == "submitted"  # by the user
        if same or (same is None and named):
            log.info(
                "Batch %s %s",
                batch.id,
                "has the custom IDs of this input" if same else "was named by on_unknown, and nothing contradicts it",
            )
            kept = replace(record, state="submitted", batch_id=batch.id, candidate=None, confirmed=True, quiet_at=None)
            self.records.put(digest, kept)
            return
        excluded = [*record.excluded, batch.id] if same is False else record.excluded
        self.records.put(
            digest, replace(record, state="intent", batch_id=None, candidate=None, confirmed=True, excluded=excluded)
        )
        if same is None or named:
            what = "cannot be compared with this input" if same is None else "has other custom IDs than this input"
            raise self.in_doubt(record, Undetermined(f"batch {batch.id} {what}", (batch.id,)))

    def _adopt(self, digest: str, record: SubmissionRecord | None, source: BatchInput, step: Adopt) -> None:
        """Record the batch that the user named, unless it cannot be the right one."""
        provider = record.provider if record else self.provider
        try:
            batch = ListedBatch.of(self.calls.client.get_batch(step.batch_id, provider=provider), provider)
        except BatchNotFound as error:
            raise self._not_adopted(step, f"{provider} does not know it ({error})") from error
        if step.batch_id in self.known:
            raise self._not_adopted(step, "it belongs to another part of this input")
        if None not in (batch.rows, source.rows) and batch.rows != source.rows:
            raise self._not_adopted(step, f"it has {batch.rows:,} rows, and this part has {source.rows:,}")
        comparable = source.custom_ids is not None and self.result_ids is not None
        if batch.outcome is not None and comparable and self._is_same(source, batch, provider) is False:
            raise self._not_adopted(step, "its results have other custom IDs than this part")
        log.warning(
            "Continuing with batch %s, which on_unknown names. The reason it was needed: %s", step.batch_id, step.reason
        )
        record = record or SubmissionRecord("intent", provider, 1, self.calls.now())
        confirmed = batch.outcome is not None or not comparable
        adopted = replace(
            record, state="submitted", batch_id=step.batch_id, candidate=None, confirmed=confirmed, quiet_at=None
        )
        self.records.put(digest, adopted)

    def _is_same(self, source: BatchInput, batch: ListedBatch, provider: str) -> bool | None:
        """Whether the results of ``batch`` have the custom IDs of ``source``; None: there is nothing to compare."""
        assert source.custom_ids is not None
        assert self.result_ids is not None
        if (wanted := source.custom_ids()) is None:
            return None
        try:
            found = set(self.result_ids(batch.id))
        except ResultsUnavailable as error:
            log.warning("%s", error)
            return None
        return has_the_rows(batch, set(wanted), found)

    def _not_adopted(self, step: Adopt, why: str) -> SubmissionInDoubt:
        return SubmissionInDoubt(
            f"on_unknown names batch {step.batch_id} for part {self.origin.part}, but {why}. Nothing was submitted now. {step.reason}."
            " Correct the ID in on_unknown, or set on_unknown='resubmit' if no batch exists, then clear this task."
        )

    def in_doubt(self, record: SubmissionRecord | None, step: Undetermined) -> SubmissionInDoubt:
        when, provider = "An earlier attempt", self.provider
        if record is not None:
            provider = record.provider
            when = f"An attempt at {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(record.at))}"
        candidates = f" (candidates: {', '.join(step.candidates[:10])})" if step.candidates else ""
        named = "'<its ID>'" if self.whole is None or self.whole.is_one_part else f"{{{self.origin.part}: '<its ID>'}}"
        return SubmissionInDoubt(
            f"{when} may have submitted part {self.origin.part} of this input to {provider}, and this cannot be determined: {step.reason}."
            " This attempt submitted nothing. If the earlier attempt did, its batch is billed. Look in the provider's console for a batch that was"
            f" created at that time{candidates}."
            f" If there is one, set on_unknown={{'adopt': {named}}} and clear this task. If there is no batch, set on_unknown='resubmit' and"
            " clear it."
        )
