"""Performs the steps of a run, one at a time, and stores the state after each. The decisions are made in ``state`` and ``resend``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Thread
from typing import Any

from airflow_bifrost._compat import AirflowSensorTimeout
from airflow_bifrost.exceptions import (
    BatchInputError,
    BatchNotFound,
    BifrostGatewayError,
    BifrostRateLimited,
)
from airflow_bifrost.results import collect
from airflow_bifrost.runs.cleanup import delete_inputs, delete_outputs
from airflow_bifrost.runs.decision import next_step
from airflow_bifrost.runs.events import (
    BatchLost,
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
from airflow_bifrost.runs.output import unless_allowed
from airflow_bifrost.runs.part import RunPart
from airflow_bifrost.runs.resend import plan_resend
from airflow_bifrost.runs.steps import Blocked, Cancel, Clean, Collect, Done, Split, Step, Submit, Wait, Write
from airflow_bifrost.runs.workspace import RunWorkspace
from airflow_bifrost.submission.full_queue import failed_as_full, refused_as_full
from airflow_bifrost.submission.ledger import Submission
from airflow_bifrost.submission.parts import Part
from airflow_bifrost.worker.kill import TaskStopped, cancel_batches, cancel_if_a_user_ended_it
from airflow_bifrost.worker.part_file import LinesGone
from airflow_bifrost.worker.scratch import scratch_folder
from airflow_bifrost.worker.submit import submit_part

CANCEL_WITHIN = 60.0  # seconds, at the run's deadline

log = logging.getLogger("airflow.task")


@dataclass(slots=True)
class RunDriver(RunWorkspace):
    """Performs the steps of a run. For the parameters see :class:`airflow_bifrost.runs.workspace.RunWorkspace`."""

    _refusal: BifrostGatewayError | None = None
    _cancelling: Thread | None = None
    _cancelled: list[str] = field(default_factory=list)  # batches whose cancellation on_kill() has started

    @contextmanager
    def working(self) -> Iterator[None]:
        """Close what was opened. If Airflow ended the task, also cancel batches that were submitted after that."""
        try:
            yield
        except TaskStopped:
            self._cancel_the_rest()
            raise
        finally:
            self.disconnect()
            self.forget_results()

    # The loop

    def advance(self) -> dict[str, Any]:
        """Perform steps until the run is done, and return the manifest.

        :raises TaskDeferred: the run continues when batches have ended.
        """
        while True:
            step = next_step(self.current, self.clock())
            if isinstance(step, Done):
                return {"output_path": self.current.output_path, **(self.current.written or {})}
            for event in self.perform(step):
                self.apply(event)

    def perform(self, step: Step) -> Sequence[Event]:
        match step:
            case Submit(part):
                return [self._submit(part)]
            case Split(part):
                return [self._split(part)]
            case Wait():
                self.disconnect()
                wait = self.wait(step, self.current.request.provider, self.home)
                return self.ends(lambda: wait.run(self.context, self.task))
            case Cancel(batch_ids):
                self._cancel(batch_ids)
                return [CancelRequested(batch_ids, self.clock())]
            case Collect():
                return [self._collect()]
            case Write():
                return [Written(*self.read_results().write(self.current))]
            case Clean():
                return [Cleaned(self._clean())]
            case Blocked():
                raise self._refusal or BifrostRateLimited(
                    f"The queue of {self.current.request.provider} is full of other batches, so it failed this task's batches before any row"
                    " ran. Nothing is billed for them. A retry of the task submits their rows again: set a retry_delay long enough for"
                    " other batches to end."
                )
            case Done():
                return []

    def ends(self, wait: Callable[[], Sequence[Mapping[str, Any]]]) -> list[Event]:
        """The events that a wait results in."""
        try:
            summaries = wait()
        except AirflowSensorTimeout as error:
            log.warning("%s", error)
            return [DeadlinePassed()]
        except BatchNotFound as error:
            if error.batch_id is None or error.batch_id not in self.current.in_flight:
                raise
            if not self.allow_incomplete:
                raise unless_allowed(error) from error
            log.warning("%s %s", error, collect.ALLOWED)
            return [BatchLost(error.batch_id)]
        full = [summary["batch_id"] for summary in summaries if failed_as_full(summary)]
        for batch_id in full:
            log.warning(
                "Batch %s failed because the provider's queue is full. None of its rows ran, so they are submitted again",
                batch_id,
            )
        return [Ended([summary["batch_id"] for summary in summaries], full)]

    # Submitting

    def _submit(self, part: RunPart) -> Event:
        self.signal.check()
        try:
            submission = self._submission(part)
        except LinesGone:
            return self._lost(part)
        except BifrostGatewayError as error:
            if not refused_as_full(error, self.current.request.provider):
                raise
            if not self.current.in_flight and self.may_be_submitted(part):
                raise  # the next attempt asks the ledger, by the part's number, whether the call made a batch
            log.warning("%s The queue is full, so part %d waits or is split in half.", error, part.number)
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

    def _submission(self, part: RunPart) -> Submission:
        state = self.current
        others = [other.batch_id for other in state.submitted if other.batch_id and other.number != part.number]
        with scratch_folder() as local:
            path = local / part.file

            def fetch() -> None:
                if not self.lines.has_part(state, part):
                    raise LinesGone
                self.lines.folder.fetch(part.file, path)

            return submit_part(
                self.context,
                self.client,
                state.request.provider,
                self.spec(),
                self.recovery,
                Part(part.number, path, part.rows, part.bytes, part.sha256, ()),
                whole=self.whole(part.round),
                store=self.record.store,
                keep_cancelled=True,
                fetch=fetch,
                check_stop=self.signal.check,
                known_ids=others,
                cleanup=self.cleanup,
                storage_conn_id=self.storage_conn_id,
            )

    def _split(self, part: RunPart) -> Event:
        state = self.current
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
        log.info("Split part %d into %d parts", part.number, len(parts))
        return WasSplit(part.number, parts)

    def _lost(self, part: RunPart) -> Event:
        log.warning(
            "The request lines of %d rows are missing in %s, and cannot be rebuilt from the task's rows. %s",
            part.rows,
            self.current.folder,
            "These rows are not sent, and nothing is billed for them. Clear the task to send them."
            if part.round == 1
            else "The run decides again which rows to resend.",
        )
        return LinesLost([part.number])

    def _collect(self) -> Event:
        results, state, now = self.read_results(), self.current, self.clock()
        survey = results.survey(state)
        plan = plan_resend(state, survey, now)
        if plan.why_not:
            log.warning(
                "Of %d rows that are worth sending again (transient error or expired): %s",
                survey.retryable,
                plan.why_not,
            )
        lines = results.lines_to_resend(state, plan, survey.retryable)
        limits, probe = self.limits(state.request.provider), plan.failed == "probe"
        try:
            parts = self.new_parts(lines, limits, state.round + 1, None, probe=probe)
        except BatchInputError as error:  # too few for the provider
            log.warning("Rows that failed with a transient error cannot be sent again: %s", error)
            parts = []
        if parts:
            log.info("Sending %d rows again", sum(part.rows for part in parts))
            self.forget_results()
        lost = (plan.failed != "none" or plan.cancelled) and not self.lines.has_input(state.input)
        resent = sorted(survey.cancelled) if plan.cancelled and parts else ()
        held_back = plan.held_back or lost or not results.complete
        return Collected(survey.outcomes, parts, now, resent, held_back, results.lost)

    # Ending

    def _cancel(self, batch_ids: Sequence[str]) -> None:
        if batch_ids:
            log.warning("The time limit has passed: cancelling %s", ", ".join(batch_ids))
            provider = self.current.request.provider
            if left := cancel_batches(self.client, batch_ids, provider=provider, within=CANCEL_WITHIN):
                self.record.keep_to_cancel([*self.record.to_cancel(), *left])

    def _clean(self) -> list[str]:
        """Delete what is no longer needed. Return the IDs of the deleted input files."""
        state = self.current
        self.cancel_what_is_left()
        deleted = [] if self.cleanup == "never" else delete_inputs(self.client, state)
        if state.written is not None:
            self.record.leave_receipt(state)  # also if the run is not finished: a clear must know its batches
        if not state.finished:  # clearing the task continues with the folder, and reads the results again
            return deleted
        self.lines.folder.remove()
        if self.cleanup == "all":
            delete_outputs(self.client, state)
        return deleted

    def cancel_what_is_left(self) -> None:
        """Cancel batches that could not be cancelled earlier: of an attempt that a user ended, or duplicates of a create call."""
        if left := self.record.to_cancel():
            provider = self.state.request.provider if self.state is not None else self.provider
            log.warning("Cancelling batches that could not be cancelled earlier: %s", ", ".join(left))
            self.record.keep_to_cancel(cancel_batches(self.client, left, provider=provider, within=CANCEL_WITHIN))

    def cancel_if_a_user_ended_it(self) -> None:
        """Cancel the running batches in a thread. Those that cannot be cancelled are recorded for the next attempt."""
        batch_ids = [batch_id for batch_id in self.current.may_cancel if batch_id not in self._cancelled]
        if not batch_ids:
            return
        self._cancelled += batch_ids

        def keep(left: list[str]) -> None:
            others = [batch_id for batch_id in self.record.to_cancel() if batch_id not in batch_ids]
            self.record.keep_to_cancel([*others, *left])

        provider = self.current.request.provider
        self._cancelling = cancel_if_a_user_ended_it(
            self.context["ti"], batch_ids, provider=provider, conn_id=self.conn_id, keep=keep
        )

    def _cancel_the_rest(self) -> None:
        """Cancel batches that were submitted after Airflow had ended the task, by a call that was already in progress."""
        if self._cancelling is not None:
            self._cancelling.join()
        if self.cancel_on_kill and self.state is not None:
            self.cancel_if_a_user_ended_it()
            if self._cancelling is not None:
                self._cancelling.join()
