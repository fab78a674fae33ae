"""The whole life of the batches of a task: rows in, rows out.

What must survive a worker lies outside of it: the parts of the input in a folder beside the output, and in the task's memory a record of
which part is which batch. So a worker that is killed at any moment is followed by one that goes on where the record stands; a part
that was submitted and not yet recorded is known to the ledger, see :mod:`airflow_bifrost.submission.ledger`.

Rows that failed for a reason that may pass are sent again, in a further round: parts of their own, of which the same holds. Results are read
when a round has ended, and then those of all rounds: of several results for a row, one that has succeeded counts, else the last.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import compress, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airflow_bifrost._compat import AirflowSkipException
from airflow_bifrost.exceptions import BatchInputError, BifrostGatewayError, BifrostRateLimited
from airflow_bifrost.results.storage import locate, locate_file
from airflow_bifrost.worker.download import manifest, report
from airflow_bifrost.worker.folder import TaskFolder
from airflow_bifrost.worker.run_state import RunPart, RunState
from airflow_bifrost.worker.state_store import open_state_store
from airflow_bifrost.worker.submit import BatchSpec, RecoveryPolicy, attempt_of, submit_part, supersede_others
from airflow_bifrost.worker.wait import BatchWait

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from airflow_bifrost.gateway.client import GatewayClient
    from airflow_bifrost.providers.base import Limits
    from airflow_bifrost.results.writer import ResultsWriter
    from airflow_bifrost.submission.ledger import Submission, TaskStateStore
    from airflow_bifrost.submission.parts import Part, RequestFiles

MEMORY_KEY = "bifrost_run"
WORTH_HALVING = 1000  # rows; fewer that a full queue refuses wait for the task's next try

log = logging.getLogger("airflow.task")


@dataclass(slots=True)
class BatchRun:
    """A run of one task instance.

    :param provider: provider; None is the connection's.
    :param output_type: what each answer is validated into; None: nothing.
    :param row_members: what each row asks for beside its own words, for a provider.
    :param limits: of a provider behind the gateway.
    :param wait: how to wait for some batches of a provider; True: until one of them has ended.
    :param max_parallel_batches: how many are on their way at a time.
    :param max_row_attempts: how often a row is sent at most.
    :param allow_incomplete: accept fewer results than a batch counts.
    :param download_timeout: seconds that the provider may take for a whole file of results.
    :param storage_conn_id: Airflow connection for Bedrock's S3 bucket.
    """

    task: BaseOperator
    context: Mapping[str, Any]
    conn_id: str
    provider: str | None
    output_path: str
    output_type: Any
    row_members: Callable[[str], Any]
    limits: Callable[[str], Limits]
    order: BatchSpec
    recovery: RecoveryPolicy
    wait: Callable[[BatchRun, str, list[str], bool], BatchWait]
    max_parallel_batches: int
    max_row_attempts: int
    allow_incomplete: bool
    download_timeout: float
    storage_conn_id: str | None
    record: RunState | None = None  # as last seen: for a signal handler, which must not ask for it

    @property
    def state_folder(self) -> str:
        """Beside the output, so that nothing else need be set up. Where Airflow keeps no memory, it is here, and stays: a clear must find
        it."""
        return f"{self.output_path}.bifrost-{attempt_of(self.context, 1).key[:12]}"

    @property
    def folder(self) -> TaskFolder:
        """Where the parts of the input are until the run has ended."""
        return TaskFolder(f"{self.state_folder}-parts")

    @property
    def memory(self) -> TaskStateStore:
        return open_state_store(self.context, folder=self.state_folder)

    def start(self, write_parts: Callable[[str, Path], RequestFiles]) -> dict[str, Any]:
        """Begin, or go on with what an earlier try has begun for the same input.

        :param write_parts: writes the input for a provider into a local folder.
        :return: the manifest.
        """
        locate_file(self.output_path)
        with self._client() as client, TemporaryDirectory(prefix="bifrost-run-") as local:
            provider = client.config.provider_for(self.provider)
            parts = write_parts(provider, Path(local)).parts
            if not parts:
                raise AirflowSkipException("There are no rows: nothing to submit.")
            digest = self.order.digest(provider, json.dumps([part.sha256 for part in parts]))
            record = self.recall()
            if record is not None and record.digest == digest and self._stands(record):
                return self._as_written(client, record)
            pieces = self._keep(parts, number=1, round_=1)
            if record is None or record.digest != digest:
                new = RunState(digest, self._asked(provider), provider, [piece.file for piece in pieces], pieces)
                self._supersede_others(client, record, new)
                self._remember(new)
                record = new
            return self._advance(client, record)

    def go_on(self, record: RunState) -> dict[str, Any] | None:
        """Go on where the record stands, with the input of an earlier try.

        :return: None: the input is gone and is needed; or nothing of it was submitted; or something else is asked for now.
        """
        with self._client() as client:
            if record.asked != self._asked(client.config.provider_for(self.provider)):
                return None
            if self._stands(record):
                return self._as_written(client, record)
            if not any(self._is_submitted(record, piece) for piece in record.pieces):
                return None
            if not all(self.folder.has(file) for file in record.input):
                return None
            log.info("Going on with the rows of an earlier try")
            return self._advance(client, record)

    def resume(self, event: Any) -> dict[str, Any]:
        """Go on after a deferral."""
        record = self._recorded()
        self._note_the_ends(record, self._wait_for(record).resume(self.context, event))
        with self._client() as client:
            return self._advance(client, record)

    def current_wait(self) -> BatchWait:
        """The wait that the task was deferred for."""
        return self._wait_for(self._recorded())

    def _recorded(self) -> RunState:
        record = self.recall()
        if record is None:
            raise RuntimeError("The record of this run is gone: it was there when the task was deferred")
        return record

    def recall(self) -> RunState | None:
        """What an earlier try has left; None: nothing."""
        value = self.memory.get(MEMORY_KEY)
        return None if value is None else RunState.from_json(value)

    def _stands(self, record: RunState) -> bool:
        """Whether all is done that can be, and the output is where it was written."""
        path, fs = locate(self.output_path)
        done = record.written is not None and not record.written["rows"]["cancelled"]
        return done and bool(fs.exists(path.path)) and fs.size(path.path) == record.size

    def _as_written(self, client: GatewayClient, record: RunState) -> dict[str, Any]:
        from airflow_bifrost.gateway.summary import BatchSummary

        log.info(
            "%s was written by an earlier try. To have it written anew, remove it, or start another run",
            self.output_path,
        )
        assert record.written is not None
        summaries = [
            BatchSummary.of(
                client.get_batch(batch_id, provider=record.provider), batch_id=batch_id, provider=record.provider
            ).to_xcom()
            for batch_id in (piece.batch_id for piece in record.pieces)
            if batch_id is not None
        ]
        return {"output_path": self.output_path, "batches": summaries, **record.written}

    def _asked(self, provider: str) -> str:
        return self.order.digest(provider, json.dumps(self.row_members(provider), sort_keys=True, default=str))

    def _digest(self, record: RunState, piece: RunPart) -> str:
        """By which the ledger knows the input of a piece."""
        return self.order.digest(record.provider, piece.sha256)

    def _remember(self, record: RunState) -> None:
        self.memory.set(MEMORY_KEY, asdict(record))

    def _client(self) -> GatewayClient:
        from airflow_bifrost.hooks.bifrost import BifrostHook

        return BifrostHook(self.conn_id).open_client(timeout=self.download_timeout)

    def _advance(self, client: GatewayClient, record: RunState) -> dict[str, Any]:
        self.record = record
        while True:
            self._submit(client, record)
            if record.in_flight:
                self._note_the_ends(record, self._wait_for(record).run(self.context, self.task))
                continue
            ended = self._read(client, record)
            if ended is not None:
                return ended

    def _wait_for(self, record: RunState) -> BatchWait:
        """Until there is a place for another batch, or nothing is left to wait for."""
        more = any(piece.batch_id is None for piece in record.pieces)
        return self.wait(self, record.provider, record.in_flight, more)

    # Submitting

    def _submit(self, client: GatewayClient, record: RunState) -> None:
        """Submit as many pieces as may be on their way."""
        from airflow_bifrost.submission.full_queue import refused_as_full

        while len(flying := record.in_flight) < self.max_parallel_batches:
            index = next((index for index, piece in enumerate(record.pieces) if piece.batch_id is None), None)
            if index is None:
                return
            piece = record.pieces[index]
            if piece.behind and set(piece.behind) <= set(flying):
                return
            try:
                submission = self._submit_piece(client, record, piece)
            except BifrostGatewayError as error:
                if not refused_as_full(error, record.provider):
                    raise
                if flying:
                    log.warning("%s The queue is full: one of %d other batches must end first.", error, len(flying))
                    record.pieces[index] = replace(piece, behind=flying)
                    self._remember(record)
                    return
                # a call that may have got through all the same is the ledger's to settle, by this piece's number
                if self._is_submitted(record, piece) or piece.rows < WORTH_HALVING:
                    raise
                log.warning("%s The queue is full: trying with half of the %d rows.", error, piece.rows)
                record.pieces[index : index + 1] = self._halves(record, piece)
            else:
                record.pieces[index] = replace(
                    piece,
                    batch_id=submission.batch_id,
                    tried=self.context["ti"].try_number - (not submission.new),
                    duplicates=submission.duplicates,
                )
            self._remember(record)

    def _submit_piece(self, client: GatewayClient, record: RunState, piece: RunPart) -> Submission:
        from airflow_bifrost.submission.parts import Part

        with TemporaryDirectory(prefix="bifrost-run-") as local:
            path = Path(local) / piece.file
            part = Part(piece.number, path, piece.rows, 0, piece.sha256, ())
            return submit_part(
                self.context,
                client,
                record.provider,
                self.order,
                self.recovery,
                part,
                memory=self.memory,
                keep_cancelled=True,
                fetch=partial(self.folder.fetch, piece.file, path),
            )

    def _note_the_ends(self, record: RunState, summaries: Sequence[Mapping[str, Any]]) -> None:
        from airflow_bifrost.submission.full_queue import failed_as_full

        ended = {summary["batch_id"] for summary in summaries}
        flying = [batch_id for batch_id in record.in_flight if batch_id not in ended]
        alone = not flying and all(failed_as_full(summary) for summary in summaries)
        refused = []
        for summary in summaries:
            index = next(index for index, piece in enumerate(record.pieces) if piece.batch_id == summary["batch_id"])
            piece = record.pieces[index]
            if not failed_as_full(summary):
                record.pieces[index] = replace(piece, ended=True)
                continue
            log.warning("Batch %s met a full queue and has run no row: its rows are submitted again", piece.batch_id)
            refused.append(piece.rows)
            again = [replace(piece, number=record.next_number(), batch_id=None, behind=flying)]
            if alone and piece.rows >= WORTH_HALVING:
                again = self._halves(record, piece)
            record.pieces[index : index + 1] = again
        if len(refused) == len(summaries):  # none has made room: only another's end does
            record.pieces = [piece if piece.batch_id else replace(piece, behind=flying) for piece in record.pieces]
        self._remember(record)
        if refused and alone and max(refused) < WORTH_HALVING:
            raise BifrostRateLimited(
                f"The queue of {record.provider} is full, of others' batches: none of this task's has run a row. Nothing is billed for them."
                " A retry of the task submits their rows again; give it a retry_delay that lets other batches end."
            )

    def _keep(self, parts: Sequence[Part], *, number: int, round_: int) -> list[RunPart]:
        """Put parts into the folder, unless they are there."""
        pieces = []
        for part_number, part in enumerate(parts, start=number):
            piece = RunPart(part_number, round_, f"{part.sha256[:32]}.jsonl", part.rows, part.sha256)
            if not self.folder.has(piece.file):
                self.folder.keep(part.path, piece.file)
            pieces.append(piece)
        return pieces

    def _halves(self, record: RunState, piece: RunPart) -> list[RunPart]:
        halves: list[RunPart] = []
        lines = self.folder.lines(piece.file)
        for size in (piece.rows // 2, piece.rows - piece.rows // 2):
            number = record.next_number() + len(halves)
            name, digest = f"{piece.sha256[:32]}-{number}.jsonl", hashlib.sha256()
            with self.folder.new(name) as file:
                for line in islice(lines, size):
                    file.write(line + b"\n")
                    digest.update(line + b"\n")
            halves.append(RunPart(number, piece.round, name, size, digest.hexdigest()))
        return halves

    def _supersede_others(self, client: GatewayClient, before: RunState | None, new: RunState) -> None:
        """Of batches that earlier tries have submitted for another input: leave or cancel them. If ``new`` is an input that the task had
        before them, it becomes the pieces that it was then; so the ledger knows them."""
        numbers: set[int] = set()
        if before is not None:
            numbers.update(piece.number for piece in before.pieces)
            first_round = [asdict(piece) for piece in before.pieces if piece.round == 1]
            new.earlier = before.earlier | {before.digest: first_round}
            begun = [RunPart(**piece) for piece in new.earlier.pop(new.digest, [])]
            afresh = [replace(piece, batch_id=None, ended=False, behind=[]) for piece in begun]
            if afresh and all(self.folder.has(piece.file) or self._is_submitted(new, piece) for piece in afresh):
                new.pieces = afresh
        wanted: dict[int, str | None] = dict.fromkeys(numbers)
        wanted |= {piece.number: self._digest(new, piece) for piece in new.pieces}
        supersede_others(self.context, client, new.provider, self.recovery, wanted, self.memory)

    def _is_submitted(self, record: RunState, piece: RunPart) -> bool:
        """Whether a call for it was made, as far as is known."""
        from airflow_bifrost.submission.ledger import may_have_submitted

        return may_have_submitted(self.memory, piece.number, self._digest(record, piece))

    # Reading

    def _read(self, client: GatewayClient, record: RunState) -> dict[str, Any] | None:
        """Write the rows, and return the manifest; or, if some rows are to be sent again first, add their pieces to the record."""
        from airflow_bifrost.results.writer import ResultsWriter

        with ResultsWriter(self.output_type) as results:
            odd: list[str] = []
            summaries = [self._add_results(client, record, piece, results, odd) for piece in record.pieces]
            if again := self._next_round(record, results, summaries):
                record.pieces += again
                record.written = None  # that file is not the last word
                self._remember(record)
                return None
            tally = results.write(self._custom_ids(record), self.output_path)
        sent_again = sum(piece.rows for piece in record.pieces if piece.round > 1)
        report(replace(tally, duplicates=max(0, tally.duplicates - sent_again)), self.output_path, odd)
        duplicates = [batch_id for piece in record.pieces for batch_id in piece.duplicates]
        whole = manifest(self.output_path, summaries, tally) | {"duplicates": duplicates}
        path, fs = locate(self.output_path)
        record.size = fs.size(path.path)
        record.written = {key: value for key, value in whole.items() if key not in ("output_path", "batches")}
        self._remember(record)
        return whole

    def _add_results(
        self, client: GatewayClient, record: RunState, piece: RunPart, results: ResultsWriter, odd: list[str]
    ) -> dict[str, Any]:
        """Add the results of a piece's batch. Of a batch that ended before its time, the rows without a result ended as it did.

        :param odd: gets what the batch counts otherwise.
        :return: the batch's summary.
        """
        from airflow_bifrost.gateway.summary import BatchSummary
        from airflow_bifrost.results.collect import POLICY, collect
        from airflow_bifrost.results.rows import RowError, RowOutcome
        from airflow_bifrost.results.tally import differences
        from airflow_bifrost.submission.ids import custom_id_of

        assert piece.batch_id is not None
        before = results.came()
        batch = collect(
            client,
            piece.batch_id,
            record.provider,
            results,
            rows=piece.rows,
            storage_conn_id=self.storage_conn_id,
            policy=replace(POLICY, allow_incomplete=self.allow_incomplete),
        )
        came = results.came() - before
        odd += (
            f"Batch {piece.batch_id}: {found}"
            for found in differences(came, piece.rows, batch.request_counts, record.provider)
        )
        summary = BatchSummary.of(batch, batch_id=piece.batch_id, provider=record.provider).to_xcom()
        if summary["outcome"] in ("failed", "expired", "cancelled") and self.folder.has(piece.file):
            code, message = summary["outcome"], f"Batch {piece.batch_id} is {summary['status']}."
            for error in summary["errors"][:1]:
                code, message = error["code"] or code, error["message"] or message
            ids = map(custom_id_of, self.folder.lines(piece.file))
            results.add_absent(ids, RowOutcome(summary["outcome"]), RowError(code, message))
        return summary

    def _cancelled_before(self, record: RunState, summaries: Sequence[Mapping[str, Any]]) -> dict[int, list[bool]]:
        """By round, whether each of its batches was cancelled by whoever ended an earlier try, and has begun this one."""
        rounds: dict[int, list[bool]] = {}
        for piece, summary in zip(record.pieces, summaries, strict=True):
            before = piece.tried < self.context["ti"].try_number
            rounds.setdefault(piece.round, []).append(summary["outcome"] == "cancelled" and before)
        return rounds

    def _next_round(
        self, record: RunState, results: ResultsWriter, summaries: Sequence[Mapping[str, Any]]
    ) -> list[RunPart]:
        """What is to be sent again."""
        from airflow_bifrost.submission.parts import write_parts
        from airflow_bifrost.submission.reading import read_row

        cancelled = self._cancelled_before(record, summaries)
        attempts = sum(not all(batches) for batches in cancelled.values())
        worth = results.retryable(
            self._custom_ids(record),
            failed=attempts < self.max_row_attempts,
            cancelled=any(cancelled[record.round]),
        )
        lines = compress(self._lines(record), worth)
        rows = ((number, read_row(line)) for number, line in enumerate(lines, start=1))
        with TemporaryDirectory(prefix="bifrost-run-") as local:
            try:
                parts = write_parts(
                    rows,
                    Path(local),
                    provider=record.provider,
                    endpoint=self.order.endpoint,
                    limits=self.limits(record.provider),
                ).parts
            except BatchInputError as error:  # too few for the provider
                log.warning("Rows that might do better another time cannot be sent again: %s", error)
                return []
            if parts:
                log.info("Sent again, since they may do better: %d rows", sum(part.rows for part in parts))
            return self._keep(parts, number=record.next_number(), round_=record.round + 1)

    def _lines(self, record: RunState) -> Iterator[bytes]:
        """The input, in its order."""
        for file in record.input:
            yield from self.folder.lines(file)

    def _custom_ids(self, record: RunState) -> Iterator[str]:
        from airflow_bifrost.submission.ids import custom_id_of

        return map(custom_id_of, self._lines(record))
