"""Rows in, rows out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_bifrost._compat import AirflowSensorTimeout, TaskDeferralTimeout
from airflow_bifrost.exceptions import BatchFailed
from airflow_bifrost.operators.base import RowsOperator, push_all
from airflow_bifrost.worker.arguments import (
    DEFAULT_ACCEPT,
    checked_accept,
    only_one_of,
    provider_of,
    seconds_of,
    whole_number,
)
from airflow_bifrost.worker.download import DOWNLOAD_TIMEOUT
from airflow_bifrost.worker.kill import cancel_if_a_user_ended_it
from airflow_bifrost.worker.verdict import raise_unless_rows_accepted, skipping
from airflow_bifrost.worker.wait import DEFAULT_NOT_FOUND_GRACE, DEFAULT_TIMEOUT, BatchWait

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_bifrost.worker.run import BatchRun


class BatchRunOperator(RowsOperator):
    """Rows in, rows out: submits the rows once, waits for their batches at no cost, and writes one result for each row.

    What is too large for one batch is split by the provider's limits. Rows that failed for a reason that may pass (429, 5xx, expired) are
    sent again. A retry, a clear or a crash goes on where the last try stood, and pays for nothing twice. No rows at all: the task is
    skipped. The return value is the manifest (``output_path``, ``rows``, ``batches``, ``usage``, ``usage_by_model``, ``duplicates``), and
    each key of it is an XCom of its own.

    :param rows: the requests: prompts (strings), request bodies (dicts), or whole batch lines (dicts with ``custom_id`` and ``body``).
        A list, or the output of another task; no Jinja is rendered in them.
    :param input_path: JSONL of such rows at any URI that Airflow's object storage reads, or on the worker's disk. (templated)
    :param output_path: a file at any such URI for the result rows, one JSON object a line, in the order of the input; see
        :class:`airflow_bifrost.results.rows.ResultRow`. While the task runs, a folder beside it holds the input. (templated)
    :param endpoint: what each row asks for, e.g. ``/v1/embeddings``. (templated)
    :param provider: provider; None is the connection's. (templated)
    :param model: for rows whose body names none; Gemini and Bedrock need it for the batch. (templated)
    :param system_prompt: a system prompt for each row that has none.
    :param request_params: members of a body that a row may leave out, e.g. ``{"max_tokens": 200, "temperature": 0}``. (templated)
    :param output_type: a pydantic model. Each request asks for its JSON schema, and each answer is validated into the row's ``output``; one
        that is not of it has failed (``invalid_output``) and is sent again. Not for Bedrock, where each model has its own way to ask.
    :param accept: outcomes of all rows together with which the task succeeds; ``partial``: some rows have.
    :param max_parallel_batches: how many batches are on their way at a time.
    :param max_row_attempts: how often a row is sent at most.
    :param timeout: seconds, or a timedelta, for the waits of the task altogether; then ``AirflowSensorTimeout``.
    :param soft_fail: skip the task where it would fail, unless it is in doubt about money.
    :param deferrable: wait in the triggerer; False: in the worker.
    :param poll_interval: seconds, or a timedelta, between two looks; None: as the connection says, else ``[bifrost] poll_interval`` (60).
    :param poll_backoff: look the less often the older a batch is: after a twentieth of its age, at most every ten minutes.
    :param not_found_grace: seconds, or a timedelta, for which a 404 is borne while waiting.
    :param cancel_on_kill: cancel the batches when a user ends the task.
    :param download_timeout: seconds that the provider may take for a whole file of results.
    :param storage_conn_id: Airflow connection for Bedrock's S3 bucket; None: the credentials of the worker's environment. (templated)
    :param completion_window: passed on to the provider.
    :param metadata: passed on to the provider; text to text. (templated)
    :param extra_body: members of the create call that this package does not know, e.g. Bedrock's ``role_arn`` and ``output_s3_uri``. (templated)
    :param extra_form: the same for the upload, e.g. Bedrock's ``storage_config[s3][bucket]``. (templated)
    :param max_rows: an error above so many rows, before anything is uploaded.
    :param max_input_bytes: the same for the size of the input.
    :param max_request_body_size_mb: the gateway's own setting of this name: it takes no larger upload, and so no larger part.
    :param on_unknown: what to do where an earlier try may have submitted and nobody can tell: ``"fail"``, with an error that says what to
        check, or ``"resubmit"``, and perhaps pay twice.
    :param on_changed_input: what becomes of the batches of an earlier try with another input: ``"leave"`` or ``"cancel"``.
    :param bifrost_conn_id: id of the Airflow connection. (templated)
    """

    template_fields: Sequence[str] = (*RowsOperator.template_fields, "output_path", "storage_conn_id")

    def __init__(
        self,
        *,
        output_path: str,
        output_type: Any = None,
        accept: Collection[str] = DEFAULT_ACCEPT,
        max_parallel_batches: int = 4,
        max_row_attempts: int = 3,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        soft_fail: bool = False,
        deferrable: bool = True,
        poll_interval: float | timedelta | None = None,
        poll_backoff: bool = False,
        not_found_grace: float | timedelta = DEFAULT_NOT_FOUND_GRACE,
        cancel_on_kill: bool = True,
        download_timeout: float | timedelta = DOWNLOAD_TIMEOUT,
        storage_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)
        super().__init__(**kwargs)
        only_one_of(rows=self.rows, input_path=self.input_path)
        self.output_path = output_path
        self.output_type = output_type
        self.accept = checked_accept(accept)
        self.max_parallel_batches = whole_number("max_parallel_batches", max_parallel_batches)
        self.max_row_attempts = whole_number("max_row_attempts", max_row_attempts)
        self.timeout = seconds_of("timeout", timeout)
        self.soft_fail = soft_fail
        self.deferrable = deferrable
        self.poll_interval = None if poll_interval is None else seconds_of("poll_interval", poll_interval)
        self.poll_backoff = poll_backoff
        self.not_found_grace = seconds_of("not_found_grace", not_found_grace)
        self.cancel_on_kill = cancel_on_kill
        self.download_timeout = seconds_of("download_timeout", download_timeout)
        self.storage_conn_id = storage_conn_id
        self._running: BatchRun | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        if self.input_path is not None and self.input_path == self.output_path:
            raise ValueError(f"input_path and output_path are both {self.input_path}: the rows would be lost")
        with skipping(soft_fail=self.soft_fail, never_fail=False):
            run = self._run(context)
            return self._finish(context, run, self._begin(context, run))

    def _begin(self, context: Context, run: BatchRun) -> dict[str, Any]:
        return run.start(partial(self._write_parts, context))

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Go on after a deferral."""
        with skipping(soft_fail=self.soft_fail, never_fail=False):
            run = self._run(context)
            return self._finish(context, run, run.resume(event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """As a sensor does: the deferral that Airflow itself ended, because the trigger did not, is a timeout like any other."""
        with skipping(soft_fail=self.soft_fail, never_fail=False):
            try:
                return super().resume_execution(next_method, next_kwargs, context)
            except TaskDeferralTimeout as error:
                raise AirflowSensorTimeout(*error.args) from error

    def on_kill(self) -> None:
        run = self._running
        if not self.cancel_on_kill or run is None or (record := run.record) is None:
            return
        cancel_if_a_user_ended_it(
            run.context["ti"], record.in_flight, provider=record.provider, conn_id=self.bifrost_conn_id
        )

    def _params(self, provider: str) -> Mapping[str, Any] | None:
        from airflow_bifrost.submission.output_schema import params_for

        given = dict(super()._params(provider) or {})
        if self.output_type is None:
            return given
        wanted = params_for(self.output_type, provider=provider, endpoint=self.endpoint)
        if taken := sorted(name for name in wanted if name in given and not isinstance(given[name], dict)):
            raise ValueError(f"request_params has {taken[0]}, which output_type asks for its schema with")
        return {
            **given,
            **{
                name: given.get(name, {}) | value if isinstance(value, dict) else value
                for name, value in wanted.items()
            },
        }

    def _run(self, context: Context) -> BatchRun:
        from airflow_bifrost.worker.run import BatchRun

        self._running = BatchRun(
            task=self,
            context=context,
            conn_id=self.bifrost_conn_id,
            provider=provider_of(self.provider),
            output_path=self.output_path,
            output_type=self.output_type,
            row_members=lambda provider: [self.system_prompt, self._params(provider)],
            limits=self._limits,
            order=self._order(),
            recovery=self.recovery,
            wait=self._wait,
            max_parallel_batches=self.max_parallel_batches,
            max_row_attempts=self.max_row_attempts,
            download_timeout=self.download_timeout,
            storage_conn_id=self.storage_conn_id,
        )
        return self._running

    def _wait(self, run: BatchRun, provider: str, batch_ids: list[str], any_ended: bool) -> BatchWait:
        return BatchWait(
            batch_ids=batch_ids,
            provider=provider,
            conn_id=self.bifrost_conn_id,
            mode="deferrable" if self.deferrable else "poke",
            poll_interval=self.poll_interval,
            timeout=self.timeout,
            execution_timeout=self.execution_timeout,
            not_found_grace=self.not_found_grace,
            cancel_on_kill=self.cancel_on_kill,
            poll_backoff=self.poll_backoff,
            any_ended=any_ended,
            state_folder=run.state_folder,
        )

    def _finish(self, context: Context, run: BatchRun, manifest: dict[str, Any]) -> dict[str, Any]:
        if not manifest["rows"]["cancelled"]:  # else a clear sends them again
            run.folder.remove()
        try:
            raise_unless_rows_accepted(manifest, self.accept)
        except BatchFailed:
            push_all(context, self, manifest)
            raise
        return manifest
