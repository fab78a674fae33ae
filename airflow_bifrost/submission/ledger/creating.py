"""The only module that creates a batch: upload, record the intent, call, record the result."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from airflow_bifrost import providers
from airflow_bifrost.exceptions import (
    BatchInputError,
    BatchNotFound,
    BifrostGatewayError,
    BifrostProtocolError,
    BifrostUnavailable,
)
from airflow_bifrost.gateway.models import Batch, File
from airflow_bifrost.submission.ledger.calls import Calls
from airflow_bifrost.submission.ledger.evidence import CLOCK_SKEW, baseline
from airflow_bifrost.submission.ledger.files import delete_input, wait_until_ready
from airflow_bifrost.submission.ledger.record import (
    NONCE_LENGTH,
    TAG_KEY,
    Deployment,
    Origin,
    Records,
    SubmissionRecord,
    Tag,
    Whole,
)

log = logging.getLogger("airflow.task")


@dataclass(frozen=True, slots=True)
class BatchInput:
    """What is to be submitted.

    :param create: the call that costs money, with the file's ID (None: the rows go into the call), the metadata, and an idempotency key.
    :param upload: uploads the file under the given name; None: there is nothing to upload.
    :param file_id: ID of a file that the provider already has.
    :param rows: None: unknown.
    :param custom_ids: reads those of the rows, or returns None if they are lost; None: unknown.
    """

    create: Callable[[str | None, dict[str, str], str], Batch]
    upload: Callable[[str], File] | None = None
    file_id: str | None = None
    rows: int | None = None
    custom_ids: Callable[[], Iterable[str] | None] | None = None


class CreateFailed(Exception):
    """The create call failed. The record holds what is known about it.

    :param error: the error of the call.
    """

    def __init__(self, error: BifrostGatewayError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class Creator:
    calls: Calls
    records: Records
    origin: Origin
    whole: Whole | None
    provider: str
    deployment: Deployment
    deletes_orphans: bool

    def create(
        self, digest: str, source: BatchInput, number: int, previous: SubmissionRecord | None
    ) -> SubmissionRecord | None:
        """Create a batch.

        :param number: number of this create, see :class:`Tag`.
        :param previous: the record on which the decision was based.
        :return: the new record; None: another worker has changed the record since, so decide again.
        :raises CreateFailed: the create call failed.
        :raises BifrostError: the upload failed. Nothing was submitted.
        """
        self.calls.check_stop()
        file_id, previous = self._file(digest, source, previous)
        floor, seen = self._baseline()
        self.calls.check_stop()
        if self.records.get(digest) != previous:
            return None
        now = self.calls.now()
        whole = self.whole or Whole.of(self.origin, digest, 1, [digest])
        nonce = secrets.token_hex(NONCE_LENGTH // 2)
        tag = Tag(self.origin.key, self.deployment, digest, number, whole.key, whole.round, nonce)
        intent = SubmissionRecord(
            "intent",
            self.provider,
            number,
            now,
            nonces=[tag.nonce],
            quiet_at=now + self.calls.timing.settle,
            floor=floor,
            seen=seen,
            input_file_id=file_id if source.upload else None,
            key=self.calls.client.key_id,
        )
        self.records.put(digest, intent)
        metadata = {TAG_KEY: str(tag)} if providers.get(self.provider).metadata else {}
        try:
            self.calls.check_stop()
        except BaseException:
            self.records.put(digest, replace(intent, state="refused", quiet_at=None))
            raise
        try:
            batch = source.create(file_id, metadata, tag.idempotency_key)
        except BifrostGatewayError as error:
            # The client takes up a new token if the gateway refuses the old one.
            self._note_failure(digest, replace(intent, key=self.calls.client.key_id), error)
            raise CreateFailed(error) from error
        log.info("Submitted batch %s to %s", batch.id, self.provider)
        return self._note_success(digest, intent, batch)

    def _note_success(self, digest: str, intent: SubmissionRecord, batch: Batch) -> SubmissionRecord:
        """Another worker on the same attempt may have recorded its create in the meantime. Both batches are the task's."""
        submitted = replace(intent, state="submitted", batch_id=batch.id, quiet_at=self.calls.now())
        other = self.records.get(digest)
        if other is not None and other.nonces != intent.nonces:
            rival = [other.batch_id] if other.state == "submitted" and other.batch_id else []
            submitted = replace(
                submitted,
                nonces=[*intent.nonces, *other.nonces],
                number=max(intent.number, other.number),
                rivals=[*rival, *other.rivals],
            )
        return self.records.put(digest, submitted)

    def _note_failure(self, digest: str, intent: SubmissionRecord, error: BifrostGatewayError) -> None:
        now = self.calls.now()
        other = self.records.get(digest)
        if not error.sent and other is not None and other.nonces != intent.nonces:
            return  # another worker on the same attempt makes the batch, or has made it
        if not error.sent:
            self.records.put(digest, replace(intent, state="refused", quiet_at=None))
        elif error.status_code is None:
            self.records.put(digest, intent)
            log.warning("%s The create got no answer, so a batch may exist: checking the list of batches.", error)
        elif isinstance(error, BifrostUnavailable | BifrostProtocolError):
            self.records.put(digest, replace(intent, quiet_at=now + self.calls.timing.late))
        else:  # The gateway repeats calls, and the provider may have refused the second one because it accepted the first.
            self.records.put(digest, replace(intent, quiet_at=now))

    def drop_orphan(self, digest: str) -> None:
        """Delete the uploaded file of an input for which no batch exists."""
        record = self.records.get(digest)
        no_batch = record is not None and record.state in ("uploaded", "refused")
        if self.deletes_orphans and record is not None and no_batch and record.input_file_id:
            delete_input(self.calls.client, record.provider, record.input_file_id, "no batch uses it")
            self.records.put(digest, replace(record, input_file_id=None))

    def _baseline(self) -> tuple[float | None, list[str]]:
        """For providers without metadata: what the list shows before the create."""
        facts = providers.get(self.provider)
        if facts.metadata or facts.listing is None:
            return None, []
        now = self.calls.now()
        try:
            return baseline(self.calls.read_newest(self.provider), now)
        except BifrostGatewayError as error:
            log.warning(
                "The existing batches cannot be listed, so a retry may be unable to tell whether this create made a batch: %s",
                error,
            )
            return now - CLOCK_SKEW, []

    def _file(
        self, digest: str, source: BatchInput, previous: SubmissionRecord | None
    ) -> tuple[str | None, SubmissionRecord | None]:
        """The ID of a file that is ready, and the record at that time."""
        file = self._file_there(source, previous)
        if file is None:
            if source.upload is None:
                return source.file_id, previous
            # The name is unique, since in S3 a file with the same name would be replaced.
            file = source.upload(f"{digest}-{secrets.token_hex(4)}.jsonl")
        readiness = providers.get(self.provider).files
        if readiness is None or file.status in readiness.ready:
            return file.id, previous
        if source.upload is not None:
            number = previous.number if previous else 0
            uploaded = SubmissionRecord("uploaded", self.provider, number, self.calls.now(), input_file_id=file.id)
            previous = self.records.put(digest, uploaded)
        try:
            wait_until_ready(
                self.calls.client, self.provider, file, pause=self.calls.pause, within=self.calls.timing.ready_within
            )
        except BatchInputError:
            if source.upload is not None:
                self.records.put(digest, replace(uploaded, state="refused"))
                self.drop_orphan(digest)
            raise
        return file.id, previous

    def _file_there(self, source: BatchInput, previous: SubmissionRecord | None) -> File | None:
        """A file that the provider already has: the user's, or that of an earlier call. None: no such file needs a wait."""
        file_id = source.file_id
        if source.upload is not None and previous is not None and previous.state in ("uploaded", "refused"):
            file_id = previous.input_file_id
        elif providers.get(self.provider).files is None:
            return None
        if file_id is None:
            return None
        try:
            return self.calls.client.get_file(file_id, provider=self.provider)
        except BatchNotFound:
            if source.upload is None:
                raise
            return None
