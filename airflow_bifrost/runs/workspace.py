"""The context of a run's steps: the operator's arguments, the state and its record, the request lines, the client and the results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.hooks.bifrost import BifrostHook
from airflow_bifrost.providers.base import Limits
from airflow_bifrost.results import collect
from airflow_bifrost.results.collect import ReadPolicy
from airflow_bifrost.results.writer import ResultsWriter
from airflow_bifrost.runs.events import (
    Event,
)
from airflow_bifrost.runs.folder import RunFolder, RunLines, file_name
from airflow_bifrost.runs.output import RunResults, type_of_run
from airflow_bifrost.runs.part import RunPart
from airflow_bifrost.runs.record import UNCANCELLED, RunRecord
from airflow_bifrost.runs.request import RunPolicy, RunRequest
from airflow_bifrost.runs.state import RunState
from airflow_bifrost.runs.steps import Wait
from airflow_bifrost.submission.ledger import Whole, may_have_submitted
from airflow_bifrost.submission.parts import Part, RequestFiles, write_parts
from airflow_bifrost.submission.reading import read_row
from airflow_bifrost.worker.batch_spec import BatchSpec, RecoveryPolicy
from airflow_bifrost.worker.kill import StopSignal
from airflow_bifrost.worker.scratch import scratch_folder
from airflow_bifrost.worker.state_store import open_state_store
from airflow_bifrost.worker.submit import origin_of
from airflow_bifrost.worker.wait import BatchWait

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


@dataclass(slots=True)
class RunWorkspace:
    """The context of the steps of one task instance's run: the operator's arguments, the state, and the open client and results.

    :param provider: the provider; None: the connection's provider.
    :param output_type: the type that each answer must have; None: answers are not validated.
    :param request: returns the DAG file's request for a provider.
    :param policy: returns the run's policy for the limits of a provider.
    :param limits: returns the limits of a provider behind the gateway.
    :param write_input: writes the rows for a provider into a local folder.
    :param wait: returns the wait for a step, a provider and a state folder.
    :param allow_incomplete: accept fewer results than a batch counts.
    :param results_grace: seconds for which a batch that has ended is polled again until it names its results.
    :param download_timeout: seconds that the provider may take for a whole file of results.
    :param storage_conn_id: Airflow connection for Bedrock's S3 bucket.
    :param rebuilds_input: whether ``write_input`` may be called again to rebuild lost request lines.
    :param state_folder: URI below which the run keeps its lines and its state; None: next to the output.
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
    results_grace: float
    download_timeout: float
    storage_conn_id: str | None
    state_folder: str | None = None
    rebuilds_input: bool = True
    clock: Callable[[], float] = time.time
    signal: StopSignal = field(default_factory=StopSignal)
    state: RunState | None = None  # the current state; a signal handler may read it
    _client: GatewayClient | None = None
    _results: RunResults | None = None
    _lines: RunLines | None = None

    # Where things are

    @property
    def home(self) -> str:
        """Where the run keeps its lines and, if Airflow has no state store, its state: next to the output, so it needs no setup."""
        return self.state_folder or f"{self.output_path}.bifrost-{origin_of(self.context, 1).key[:12]}"

    @property
    def record(self) -> RunRecord:
        home = self.home
        store = open_state_store(self.context, folder=home)
        return RunRecord(store, f"{home}-receipt.json", f"{home}{UNCANCELLED}")

    @property
    def current(self) -> RunState:
        """The state, once there is one."""
        assert self.state is not None
        return self.state

    @property
    def lines(self) -> RunLines:
        uri, provider = self.current.folder, self.current.request.provider
        if self._lines is None or self._lines.folder.uri != uri:
            again = (lambda local: self.write_input(provider, local)) if self.rebuilds_input else None
            self._lines = RunLines(RunFolder(uri), again)
        return self._lines

    def rebuild_lines_from(self, files: RequestFiles) -> None:
        """Rebuild lost request lines from the input that this attempt has read."""
        self._lines = RunLines(RunFolder(self.current.folder), lambda _: files)

    @property
    def client(self) -> GatewayClient:
        if self._client is None:
            worked = self.state is not None and any(part.batch_id for part in self.state.parts)
            self._client = BifrostHook(self.conn_id).open_client(
                timeout=self.download_timeout, sleep=self.signal.sleep, worked_before=worked
            )
        return self._client

    # The state

    def apply(self, event: Event) -> None:
        self.keep(self.current.after(event))

    def keep(self, state: RunState) -> None:
        self.state = state
        self.record.save(state)

    # What is asked

    def spec(self) -> BatchSpec:
        """The request that the run was started with."""
        request = self.current.request
        return BatchSpec(
            request.endpoint,
            request.completion_window,
            request.model,
            request.metadata,
            request.extra_body,
            request.extra_form,
            request.output_expires_after,
        )

    def whole(self, round_: int) -> Whole:
        """The rows of a round, however they are split."""
        spec, provider = self.spec(), self.current.request.provider
        digests = [spec.digest(provider, part.sha256) for part in self.current.parts]
        return Whole.of(origin_of(self.context, 1), self.current.digest, round_, digests)

    def may_be_submitted(self, part: RunPart) -> bool:
        """Whether a create call may have been made for a part, according to the ledger."""
        digest = self.spec().digest(self.current.request.provider, part.sha256)
        return may_have_submitted(self.record.store, part.number, digest)

    # Lines and results

    def new_parts(
        self, lines: Iterator[bytes], limits: Limits, round_: int, first: int | None, *, probe: bool = False
    ) -> list[RunPart]:
        """Store request lines in the folder, as parts within the limits."""
        provider, number = self.current.request.provider, self.current.next_number()
        rows = ((position, read_row(line)) for position, line in enumerate(lines, start=1))
        made: list[RunPart] = []
        with scratch_folder() as local:
            endpoint = self.current.request.endpoint
            parts = write_parts(rows, local, provider=provider, endpoint=endpoint, limits=limits).parts
            self.lines.keep_parts(parts)
            for part in parts:
                made.append(run_part(part, number + len(made), round_, first, probe=probe))
                first = None if first is None else first + part.rows
        return made

    def read_results(self) -> RunResults:
        """The results of all batches."""
        if self._results is None:
            output_type = type_of_run(self.output_type, self.current.request.output_schema)
            writer = ResultsWriter(output_type, token=self.client.config.token)
            self._results = RunResults(self.lines, writer, self._read_policy())
            self._results.read(self.client, self.current, self.storage_conn_id)
        return self._results

    def _read_policy(self) -> ReadPolicy:
        return replace(collect.POLICY, allow_incomplete=self.allow_incomplete, grace=self.results_grace)

    def disconnect(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def forget_results(self) -> None:
        if self._results is not None:
            self._results.close()
            self._results = None


def run_part(part: Part, number: int, round_: int, first: int | None, *, probe: bool = False) -> RunPart:
    """A part of a run, from a file of request lines."""
    return RunPart(number, round_, file_name(part), part.rows, part.bytes, part.sha256, first, probe)
