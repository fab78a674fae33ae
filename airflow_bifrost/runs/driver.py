"""Performs the steps of a run, one at a time, and stores the state after each. What is decided is decided in ``state`` and ``resend``."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING, Any

from airflow_bifrost._compat import AirflowSensorTimeout
from airflow_bifrost.exceptions import BatchInputError, BifrostError, BifrostGatewayError, BifrostRateLimited
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.hooks.bifrost import BifrostHook
from airflow_bifrost.providers.base import Limits
from airflow_bifrost.results.writer import ResultsWriter
from airflow_bifrost.runs.events import (
    CancelRequested,
    Cleaned,
    Collected,
    DeadlinePassed,
    Ended,
    Event,
    Fixed,
    LinesLost,
    QueueFull,
    Submitted,
    WasSplit,
    Written,
)
from airflow_bifrost.runs.folder import RunFolder, RunLines, file_name
from airflow_bifrost.runs.output import RunResults, type_of_run
from airflow_bifrost.runs.part import RunPart
from airflow_bifrost.runs.record import RunRecord
from airflow_bifrost.runs.request import JsonObject, RunPolicy, RunRequest
from airflow_bifrost.runs.resend import plan_resend
from airflow_bifrost.runs.state import RunState, next_step
from airflow_bifrost.runs.steps import Blocked, Cancel, Clean, Collect, Done, Split, Step, Submit, Wait, Write
from airflow_bifrost.submission.full_queue import failed_as_full, refused_as_full
from airflow_bifrost.submission.ledger import may_have_submitted
from airflow_bifrost.submission.parts import Part, RequestFiles, write_parts
from airflow_bifrost.submission.reading import read_row
from airflow_bifrost.worker.batch_spec import BatchSpec, RecoveryPolicy
from airflow_bifrost.worker.kill import StopSignal, TaskStopped, cancel_batches, cancel_if_a_user_ended_it
from airflow_bifrost.worker.state_store import open_state_store
from airflow_bifrost.worker.submit import origin_of, submit_part
from airflow_bifrost.worker.wait import BatchWait

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

CANCEL_WITHIN = 60.0  # seconds, at the run's deadline

log = logging.getLogger("airflow.task")


class _LinesGone(Exception):
    """There is something to submit, and its lines are gone."""


@dataclass(slots=True)
class RunDriver:
    """Performs the steps of the run of one task instance.

    :param provider: None: the connection's.
    :param output_type: what each answer is validated into; None: answers are not validated.
    :param request: what the DAG file asks of a provider.
    :param policy: how to proceed, within the limits of a provider.
    :param limits: of a provider behind the gateway.
    :param write_input: writes the rows for a provider into a local folder.
    :param wait: how to wait for batches.
    :param allow_incomplete: accept fewer results than a batch counts.
    :param download_timeout: seconds that the provider may take for a whole file of results.
    :param storage_conn_id: Airflow connection for Bedrock's S3 bucket.
    :param state_folder: URI below which the run keeps what it must not lose; None: next to the output.
    """

    task: BaseOperator
    context: Mapping[str, Any]
    conn_id: str
    provider: str | None
    output_path: str
    output_type: Any
    request: Callable[[str], RunRequest]
    policy: Callable[[Limits], RunPolicy]
    limits: Callable[[str], Limits]
    write_input: Callable[[str, Path], RequestFiles]
    recovery: RecoveryPolicy
    wait: Callable[[Wait, str, str], BatchWait]
    on_changed_request: str
    cleanup: str
    cancel_on_kill: bool
    allow_incomplete: bool
    download_timeout: float
    storage_conn_id: str | None
    state_folder: str | None = None
    clock: Callable[[], float] = time.time
    signal: StopSignal = field(default_factory=StopSignal)
    state: RunState | None = None  # the latest, which a signal handler may read
    _client: GatewayClient | None = None
    _results: RunResults | None = None
    _lines: RunLines | None = None
    _refusal: BifrostGatewayError | None = None
    _cancelling: Thread | None = None
    _cancelled: list[str] = field(default_factory=list)  # what a user's stop has asked to cancel

    # Where things are

    @property
    def place(self) -> str:
        """Where the run keeps its lines, and its state where Airflow keeps none: next to the output, so that nothing else need be set up."""
        return self.state_folder or f"{self.output_path}.bifrost-{origin_of(self.context, 1).key[:12]}"

    @property
    def record(self) -> RunRecord:
        return RunRecord(open_state_store(self.context, folder=self.place), f"{self.place}-receipt.json")

    @property
    def known(self) -> RunState:
        """The state, once there is one."""
        assert self.state is not None
        return self.state

    @property
    def lines(self) -> RunLines:
        uri, provider = self.known.folder, self.known.request.provider
        if self._lines is None or self._lines.folder.uri != uri:
            self._lines = RunLines(RunFolder(uri), lambda local: self.write_input(provider, local))
        return self._lines

    @property
    def client(self) -> GatewayClient:
        if self._client is None:
            worked = self.state is not None and any(part.batch_id for part in self.state.parts)
            self._client = BifrostHook(self.conn_id).open_client(
                timeout=self.download_timeout, sleep=self.signal.sleep, worked_before=worked
            )
        return self._client

    @contextmanager
    def working(self) -> Iterator[None]:
        """Close what was opened; and if Airflow ended the task, cancel what was submitted since it did."""
        try:
            yield
        except TaskStopped:
            self._cancel_the_rest()
            raise
        finally:
            self._disconnect()
            self._forget_results()

    # The loop

    def advance(self) -> dict[str, Any]:
        """Perform steps until the run is done, and return the manifest.

        :raises TaskDeferred: the run goes on when batches have ended.
        """
        while True:
            step = next_step(self.known, self.clock())
            if isinstance(step, Done):
                return {"output_path": self.known.output_path, **(self.known.written or {})}
            for event in self.perform(step):
                self.apply(event)

    def apply(self, event: Event) -> None:
        self.keep(self.known.after(event))

    def keep(self, state: RunState) -> None:
        self.state = state
        self.record.save(state)

    def perform(self, step: Step) -> Sequence[Event]:
        match step:
            case Submit(part):
                return [self._submit(part)]
            case Split(part):
                return [self._split(part)]
            case Wait():
                self._disconnect()
                wait = self.wait(step, self.known.request.provider, self.place)
                return self.ends(lambda: wait.run(self.context, self.task))
            case Cancel(batch_ids):
                self._cancel(batch_ids)
                return [CancelRequested(batch_ids, self.clock())]
            case Collect():
                return [self._collect()]
            case Write():
                return [Written(*self._read().write(self.known))]
            case Clean():
                self._clean()
                return [Cleaned()]
            case Blocked():
                raise self._refusal or BifrostRateLimited(
                    f"The queue of {self.known.request.provider} is full of other batches: it failed this task's before any of their rows ran."
                    " Nothing is billed for them. A retry of the task submits their rows again; give it a retry_delay in which other"
                    " batches can end."
                )
            case Done():
                return []

    def ends(self, wait: Callable[[], Sequence[Mapping[str, Any]]]) -> list[Event]:
        """What came of a wait."""
        try:
            summaries = wait()
        except AirflowSensorTimeout as error:
            log.warning("%s", error)
            return [DeadlinePassed()]
        full = [summary["batch_id"] for summary in summaries if failed_as_full(summary)]
        for batch_id in full:
            log.warning("Batch %s met a full queue, and none of its rows ran: they are submitted again", batch_id)
        return [Ended([summary["batch_id"] for summary in summaries], full)]

    # Submitting

    def spec(self) -> BatchSpec:
        """What is asked of the provider: what the run was started with."""
        request = self.known.request
        return BatchSpec(
            request.endpoint,
            request.completion_window,
            request.model,
            request.metadata,
            request.extra_body,
            request.extra_form,
            request.output_expires_after,
        )

    def may_be_submitted(self, part: RunPart) -> bool:
        """Whether a create call was made for a part, as far as the ledger knows."""
        digest = self.spec().digest(self.known.request.provider, part.sha256)
        return may_have_submitted(self.record.store, part.number, digest)

    def _submit(self, part: RunPart) -> Event:
        self.signal.check()
        state = self.known
        with TemporaryDirectory(prefix="bifrost-run-") as local:
            path = Path(local) / part.file

            def fetch() -> None:
                if not self.lines.has_part(state, part):
                    raise _LinesGone
                self.lines.folder.fetch(part.file, path)

            try:
                submission = submit_part(
                    self.context,
                    self.client,
                    state.request.provider,
                    self.spec(),
                    self.recovery,
                    Part(part.number, path, part.rows, part.bytes, part.sha256, ()),
                    store=self.record.store,
                    keep_cancelled=True,
                    fetch=fetch,
                    check_stop=self.signal.check,
                    known_ids=[
                        other.batch_id for other in state.parts if other.batch_id and other.number != part.number
                    ],
                    cleanup=self.cleanup,
                    storage_conn_id=self.storage_conn_id,
                )
            except _LinesGone:
                return self._lost(part)
            except BifrostGatewayError as error:
                if not refused_as_full(error, state.request.provider):
                    raise
                if not state.in_flight and self.may_be_submitted(part):
                    raise  # the ledger settles by the part's number what came of the call
                log.warning("%s The queue is full, so part %d waits or is halved.", error, part.number)
                self._refusal = error
                return QueueFull(part.number)
        if submission.uncancelled:
            self.record.keep_to_cancel([*self.record.to_cancel(), *submission.uncancelled])
        return Submitted(
            part.number,
            submission.batch_id,
            submission.new,
            confirmed=submission.confirmed,
            duplicates=submission.duplicates,
            input_file_id=submission.input_file_id,
        )

    def _split(self, part: RunPart) -> Event:
        state = self.known
        if self.may_be_submitted(part):
            return Fixed(part.number)
        if not self.lines.has_part(state, part):
            return self._lost(part)
        limits = self.limits(state.request.provider)
        if part.halve:
            limits = replace(limits, rows=min(limits.rows, (part.rows + 1) // 2))
        lines = self.lines.folder.lines(part.file)
        try:
            parts = self.new_parts(lines, limits, part.round, part.first, probe=part.probe)
        except BatchInputError:  # too few rows for the provider
            return Fixed(part.number)
        log.info("Part %d is split into %d parts", part.number, len(parts))
        return WasSplit(part.number, parts)

    def _lost(self, part: RunPart) -> Event:
        log.warning(
            "The lines of %d rows in %s are gone, and cannot be made again from the task's rows: %s",
            part.rows,
            self.known.folder,
            "they are not sent. Clear the task to send them."
            if part.round == 1
            else "deciding again which rows to resend.",
        )
        return LinesLost([part.number])

    def new_parts(
        self, lines: Iterator[bytes], limits: Limits, round_: int, first: int | None, *, probe: bool = False
    ) -> list[RunPart]:
        """Put request lines into the folder, as parts within the limits."""
        provider, number = self.known.request.provider, self.known.next_number()
        rows = ((place, read_row(line)) for place, line in enumerate(lines, start=1))
        made: list[RunPart] = []
        with TemporaryDirectory(prefix="bifrost-run-") as local:
            endpoint = self.known.request.endpoint
            parts = write_parts(rows, Path(local), provider=provider, endpoint=endpoint, limits=limits).parts
            self.lines.keep_parts(parts)
            for part in parts:
                made.append(run_part(part, number + len(made), round_, first, probe=probe))
                first = None if first is None else first + part.rows
        return made

    # Reading

    def _read(self) -> RunResults:
        """The results of all batches."""
        if self._results is None:
            output_type = type_of_run(self.output_type, self.known.request.output_schema)
            self._results = RunResults(self.lines, ResultsWriter(output_type), self.allow_incomplete)
            self._results.read(self.client, self.known, self.storage_conn_id)
        return self._results

    def _collect(self) -> Event:
        results, state, now = self._read(), self.known, self.clock()
        survey = results.survey(state)
        plan = plan_resend(state, survey, now)
        if plan.why_not:
            log.warning("Of %d rows that failed for a transient reason: %s", survey.retryable, plan.why_not)
        lines = results.lines_to_resend(state, plan, survey.retryable)
        limits, probe = self.limits(state.request.provider), plan.failed == "probe"
        try:
            parts = self.new_parts(lines, limits, state.round + 1, None, probe=probe)
        except BatchInputError as error:  # too few for the provider
            log.warning("Rows that failed for a transient reason cannot be sent again: %s", error)
            parts = []
        if parts:
            log.info("Sending %d rows again", sum(part.rows for part in parts))
            self._forget_results()
        return Collected(survey.outcomes, parts, now)

    # Ending

    def _cancel(self, batch_ids: Sequence[str]) -> None:
        if batch_ids:
            log.warning("The time is over: cancelling %s", ", ".join(batch_ids))
            cancel_batches(self.client, batch_ids, provider=self.known.request.provider, within=CANCEL_WITHIN)

    def _clean(self) -> None:
        state = self.known
        self.cancel_what_is_left()
        if not state.finished:  # clearing the task goes on with it
            return
        self.record.leave_receipt(state)
        self.lines.folder.remove()
        provider, written = state.request.provider, state.written or {}
        if self.cleanup != "never":
            self._delete([part.input_file_id for part in state.parts if part.ended], provider)
        if self.cleanup == "all":
            files: list[JsonObject] = written["batches"]
            self._delete([batch[name] for batch in files for name in ("output_file_id", "error_file_id")], provider)

    def cancel_what_is_left(self) -> None:
        """Cancel batches that were to be cancelled earlier, and could not be: when a user ended an attempt, or duplicates of a create."""
        if left := self.record.to_cancel():
            provider = self.state.request.provider if self.state is not None else self.provider
            log.warning("These batches were to be cancelled earlier, and could not be: %s", ", ".join(left))
            self.record.keep_to_cancel(cancel_batches(self.client, left, provider=provider, within=CANCEL_WITHIN))

    def _delete(self, file_ids: Sequence[str | None], provider: str) -> None:
        for file_id in filter(None, file_ids):
            try:
                self.client.delete_file(file_id, provider=provider)
            except BifrostError as error:  # the output is written, and this costs nothing
                log.warning("File %s could not be deleted: %s", file_id, error)

    def cancel_if_a_user_ended_it(self) -> None:
        """Cancel what runs, in a thread. What cannot be cancelled is kept for the next attempt."""
        batch_ids = [batch_id for batch_id in self.known.in_flight if batch_id not in self._cancelled]
        if not batch_ids:
            return
        self._cancelled += batch_ids

        def keep(left: list[str]) -> None:
            others = [batch_id for batch_id in self.record.to_cancel() if batch_id not in batch_ids]
            self.record.keep_to_cancel([*others, *left])

        provider = self.known.request.provider
        self._cancelling = cancel_if_a_user_ended_it(
            self.context["ti"], batch_ids, provider=provider, conn_id=self.conn_id, keep=keep
        )

    def _cancel_the_rest(self) -> None:
        """Cancel what was submitted after Airflow had ended the task: by a call that was under way."""
        if self._cancelling is not None:
            self._cancelling.join()
        if self.cancel_on_kill and self.state is not None:
            self.cancel_if_a_user_ended_it()
            if self._cancelling is not None:
                self._cancelling.join()

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _forget_results(self) -> None:
        if self._results is not None:
            self._results.close()
            self._results = None


def run_part(part: Part, number: int, round_: int, first: int | None, *, probe: bool = False) -> RunPart:
    """A part of a run, of a file of request lines."""
    return RunPart(number, round_, file_name(part), part.rows, part.bytes, part.sha256, first, probe)
