"""What an attempt of the task does with a run: start it, continue it, resume it after a deferral, or stop it when Airflow ends the task."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from airflow_bifrost._compat import AirflowSkipException, conf
from airflow_bifrost.results.storage import fingerprint, is_local, locate_file
from airflow_bifrost.runs.begin import Beginning, beginning, covered, new_run, uncovered
from airflow_bifrost.runs.decision import next_step
from airflow_bifrost.runs.driver import RunDriver
from airflow_bifrost.runs.events import RequestChanged
from airflow_bifrost.runs.folder import described
from airflow_bifrost.runs.request import RunInput, RunRequest, run_digest
from airflow_bifrost.runs.state import RunState
from airflow_bifrost.runs.steps import Wait
from airflow_bifrost.runs.verdict import raise_if_stopped
from airflow_bifrost.runs.workspace import run_part
from airflow_bifrost.submission.parts import RequestFiles
from airflow_bifrost.worker.rows import VANISHED
from airflow_bifrost.worker.scratch import scratch_folder
from airflow_bifrost.worker.state_store import is_remembering
from airflow_bifrost.worker.submit import supersede_others
from airflow_bifrost.worker.wait import BatchWait

log = logging.getLogger("airflow.task")


@dataclass(slots=True)
class BatchRun(RunDriver):
    """The run of one task instance. For the parameters see :class:`airflow_bifrost.runs.workspace.RunWorkspace`."""

    def start(self) -> dict[str, Any]:
        """Start a run, or continue the one that an earlier attempt has started for the same rows.

        :return: the manifest.
        """
        # First, so that the store records this attempt even if it fails.
        is_remembering(self.record.store, self.context)
        locate_file(self.output_path)
        _warn_if_local(self.output_path)
        with self.working(), scratch_folder() as local:
            before = self._recall()
            provider = self.client.config.provider_for(self.provider)
            try:
                files = self.write_input(provider, local)
            except VANISHED as error:
                if (manifest := self._without_input(before)) is None:
                    raise
                log.warning("%s The task continued with the rows of an earlier attempt.", error)
                return manifest
            if not files.parts:
                self._supersede(before, provider, {})
                raise AirflowSkipException("There are no rows: nothing to submit.")
            request = self.request(provider)
            known = described(files)
            how = self._beginning(before, request, known)
            if before is not None and how != "new":
                _warn_if_other_sources(before.input, known)
            if how == "new" or before is None:
                self._begin(before, request, known, files)
            elif how == "as_written":
                return self._as_written(before)
            else:
                self._go_on(before, stopped=how == "go_on_stopped")
            if self.current.digest == run_digest(request, known):
                self._complete(files)
            return self.advance()

    def go_on(self) -> dict[str, Any] | None:
        """Continue with the rows of an earlier attempt, without reading the input.

        :return: the manifest; None if the input is needed.
        """
        with self.working():
            before = self._recall()
            if before is not None and before.written is not None and before.lost_rows:
                return None
            return self._without_input(before)

    def resume(self, event: Any) -> dict[str, Any]:
        """Continue after a deferral.

        :param event: the trigger's event.
        """
        with self.working():
            state = self._recorded()
            if self.on_changed_request == "fail" and self._changed():
                self.apply(RequestChanged())
            wait = self._wait_of(state)
            for happened in self.ends(lambda: wait.resume(self.context, event)):
                self.apply(happened)
            return self.advance()

    def current_wait(self) -> BatchWait:
        """The wait that the task was deferred for."""
        return self._wait_of(self._recorded())

    def recall(self) -> RunState | None:
        """The state that an earlier attempt has stored; None if there is no state."""
        return self.record.load()

    def on_kill(self) -> None:
        """Send nothing more, and cancel the running batches if a user ended the task. Airflow calls this in a signal handler."""
        self.signal.set()
        if self.cancel_on_kill and self.state is not None:
            self.cancel_if_a_user_ended_it()

    def raise_if_stopped(self, manifest: Mapping[str, Any]) -> None:
        """Raise if the run was stopped before its end, see :func:`airflow_bifrost.runs.verdict.raise_if_stopped`."""
        if self.current.stop is not None:
            with self.working():
                changed = self._changed()
            raise_if_stopped(self.current, manifest, changed, self.record.to_cancel())

    def _recorded(self) -> RunState:
        self.state = self.record.load()
        if self.state is None:
            raise RuntimeError(
                "The record of this run is missing, although it existed when the task was deferred. The batches keep running and are billed."
                " Clear the task: it then searches the provider's list for them."
            )
        return self.state

    def _wait_of(self, state: RunState) -> BatchWait:
        step = next_step(state, self.clock())
        if not isinstance(step, Wait):  # the deadline has passed
            step = state.wait(any_ended=False, deadline=state.deadline)
        return self.wait(step, state.request.provider, self.home)

    # How an attempt begins

    def _recall(self) -> RunState | None:
        """The state that an earlier attempt has stored. First, cancel the batches that the earlier attempt could not cancel."""
        self.state = before = self.record.load()
        self.cancel_what_is_left()
        return before

    def _without_input(self, before: RunState | None) -> dict[str, Any] | None:
        """Continue with the rows of an earlier attempt. None: it has submitted nothing, or other than what the DAG file asks for."""
        request = self.request(self.client.config.provider_for(self.provider))
        how = self._beginning(before, request, None)
        if how == "new" or before is None:
            return None
        if how == "as_written":
            return self._as_written(before)
        log.info("Continuing with the rows of an earlier attempt")
        self._go_on(before, stopped=how == "go_on_stopped")
        return self.advance()

    def _beginning(self, before: RunState | None, request: RunRequest, known: RunInput | None) -> Beginning:
        return beginning(
            before,
            request,
            known,
            begun=before is not None and any(part.batch_id or self.may_be_submitted(part) for part in before.parts),
            intact=before is not None and before.written is not None and self._is_intact(before),
            wait_id=self.context["ti"].max_tries,
            on_changed_request=self.on_changed_request,
        )

    def _is_intact(self, before: RunState) -> bool:
        return bool(before.fingerprint) and fingerprint(self.output_path) == before.fingerprint

    def _begin(self, before: RunState | None, request: RunRequest, known: RunInput, files: RequestFiles) -> None:
        ti, first, made = self.context["ti"], 0, []
        for number, part in enumerate(files.parts, start=1):
            made.append(run_part(part, number, 1, first))
            first += part.rows
        self.state = new_run(
            before,
            request,
            known,
            made,
            self.policy(self.limits(request.provider)),
            folder=f"{self.home}-parts",
            output_path=self.output_path,
            attempt=ti.try_number,
            wait_id=ti.max_tries,
            now=self.clock(),
        )
        self.lines.keep_parts(files.parts)
        self.lines.keep_sources(known, files)
        digests = {part.number: self.spec().digest(request.provider, part.sha256) for part in self.current.parts}
        self._supersede(before, request.provider, digests)
        self.keep(self.current)

    def _go_on(self, before: RunState, *, stopped: bool) -> None:
        ti = self.context["ti"]
        state = before.started_again(
            policy=self.policy(self.limits(before.request.provider)),
            output_path=self.output_path,
            attempt=ti.try_number,
            wait_id=ti.max_tries,
            now=self.clock(),
        )
        self.keep(state.after(RequestChanged()) if stopped else state)

    def _complete(self, files: RequestFiles) -> None:
        """Add parts for rows that an earlier attempt could not send because their request lines were lost.

        :param files: the same rows, as this attempt has read them.
        """
        self.rebuild_lines_from(files)
        for first, rows in uncovered(self.current.parts, self.current.input.rows):
            if self.lines.has_input(self.current.input):
                lines = islice(self.lines.input(self.current.input), first, first + rows)
                limits = self.limits(self.current.request.provider)
                self.keep(covered(self.current, self.new_parts(lines, limits, 1, first)))

    def _as_written(self, before: RunState) -> dict[str, Any]:
        log.info(
            "An earlier attempt has written %s, so nothing is submitted. To run the rows again, delete the file or start another DAG run",
            self.output_path,
        )
        self.state = replace(before, stop=None)  # the earlier reason to stop is obsolete: every row has its result
        return {"output_path": self.output_path, **(before.written or {})}

    def _supersede(self, before: RunState | None, provider: str, wanted: Mapping[int, str]) -> None:
        """Leave or cancel the batches that earlier attempts have submitted for other rows.

        :param wanted: digests of the current parts, by number.
        """
        numbers = {1, *(part.number for part in before.parts)} if before is not None else {1}
        digests: dict[int, str | None] = {**dict.fromkeys(numbers), **wanted}
        whole = self.whole(1) if wanted else None
        supersede_others(
            self.context,
            self.client,
            provider,
            self.recovery,
            digests,
            self.record.store,
            whole=whole,
            cleanup=self.cleanup,
        )

    def _changed(self) -> list[str]:
        """Names of the arguments that differ between the DAG file and the run."""
        return self.current.request.differences(self.request(self.client.config.provider_for(self.provider)))


def _warn_if_other_sources(of_run: RunInput, known: RunInput) -> None:
    """Warn if the same request lines come with other columns for the results."""
    if of_run.digest == known.digest and of_run.sources != known.sources:
        log.warning(
            "The columns that keep names, or their values, differ from those of the earlier attempt, and the requests are the same. The"
            " task continues with the batches of that attempt, so nothing is paid for twice, and its results carry the earlier columns in"
            " `source`. To get other columns, start another DAG run."
        )


def _warn_if_local(uri: str) -> None:
    """Warn if the output is on a local disk, but tasks may run on several machines."""
    executor = conf.get("core", "executor", fallback="LocalExecutor")
    if is_local(uri) and any("Local" not in name and "Sequential" not in name for name in executor.split(",")):
        log.warning(
            "%s is on the disk of this worker. With %s, another worker may resume the task or run its next attempt, and would not find the"
            " run's folder. Use a path that all workers share, such as an object store.",
            uri,
            executor,
        )
