"""Operators of the batch API."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryDirectory, TemporaryFile
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_bifrost._compat import AirflowSensorTimeout, AirflowSkipException, TaskDeferralTimeout
from airflow_bifrost.exceptions import BatchFailed, BatchInputError, BifrostGatewayError
from airflow_bifrost.worker.arguments import (
    DEFAULT_ACCEPT,
    batch_ids_of,
    checked_accept,
    only_one_of,
    provider_of,
    seconds_of,
    whole_number,
)
from airflow_bifrost.worker.download import DOWNLOAD_TIMEOUT, manifest, report, results_of
from airflow_bifrost.worker.kill import cancel_if_a_user_ended_it
from airflow_bifrost.worker.rows import after_the_tasks_that_make, rows_of
from airflow_bifrost.worker.submit import BatchSpec, RecoveryPolicy, submit_file, submit_part
from airflow_bifrost.worker.verdict import raise_unless_accepted, raise_unless_rows_accepted, skipping
from airflow_bifrost.worker.wait import DEFAULT_NOT_FOUND_GRACE, DEFAULT_TIMEOUT, BatchWait

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_bifrost.gateway.summary import BatchSummary
    from airflow_bifrost.hooks.bifrost import BifrostHook
    from airflow_bifrost.submission.limits import Limits
    from airflow_bifrost.submission.requests_file import Part
    from airflow_bifrost.worker.run import BatchRun


class _BatchOperator(BaseOperator):
    """What operators of one batch share: which batch it is, and its summary, each key of which becomes an XCom of its own."""

    template_fields: Sequence[str] = ("batch_id", "provider", "bifrost_conn_id")
    ui_color = "#d9f2e6"

    def __init__(
        self,
        *,
        batch_id: str,
        provider: str | None = None,
        bifrost_conn_id: str = "bifrost_default",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)
        super().__init__(**kwargs)
        self.batch_id = batch_id
        self.provider = provider
        self.bifrost_conn_id = bifrost_conn_id

    def _checked_id(self) -> str:
        batch_ids = batch_ids_of(self.batch_id)
        if len(batch_ids) != 1:
            raise ValueError(
                f"batch_id has {len(batch_ids)} ids and {type(self).__name__} takes one: expand it over the ids"
            )
        return batch_ids[0]

    def _retrieve(self, hook: BifrostHook) -> BatchSummary:
        from airflow_bifrost.gateway.summary import BatchSummary

        batch_id, requested = self._checked_id(), provider_of(self.provider)
        batch = hook.get_batch(batch_id, provider=requested)
        provider = hook.get_conn().config.provider_for(requested)
        summary = BatchSummary.of(batch, batch_id=batch_id, provider=provider)
        self.log.info("Batch %s of %s is %s, outcome %s", batch_id, provider, summary.status, summary.outcome)
        return summary


class BatchRetrieveOperator(_BatchOperator):
    """Retrieves a batch, and pushes each key of its summary as an XCom of its own, so that
    ``retrieve.output["output_file_id"]`` works; the whole summary is the return value.

    :param batch_id: id of the batch. (templated)
    :param provider: provider of the batch, as it was created with; None is the connection's. (templated)
    :param bifrost_conn_id: id of the Airflow connection. (templated)
    :param wait_for_completion: wait until the batch is terminal, as :class:`~airflow_bifrost.sensors.batch.BatchSensor` does.
    :param accept: outcomes that let the task succeed when it waits; the XComs are there in any case. Without waiting, nothing is judged.
    :param deferrable: wait in the triggerer; False: in the worker.
    :param poll_interval: seconds, or a timedelta, between two looks; None: as the connection says, else ``[bifrost] poll_interval`` (60).
    :param poll_backoff: look the less often the older a batch is: after a twentieth of its age, at most every ten minutes.
    :param timeout: seconds, or a timedelta, after which the wait gives up with ``AirflowSensorTimeout``.
    :param not_found_grace: seconds, or a timedelta, for which a 404 is borne while waiting.
    :param cancel_on_kill: cancel the batch when a user ends the task while it waits.
    """

    def __init__(
        self,
        *,
        batch_id: str,
        provider: str | None = None,
        bifrost_conn_id: str = "bifrost_default",
        wait_for_completion: bool = False,
        accept: Collection[str] = DEFAULT_ACCEPT,
        deferrable: bool = True,
        poll_interval: float | timedelta | None = None,
        poll_backoff: bool = False,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        not_found_grace: float | timedelta = DEFAULT_NOT_FOUND_GRACE,
        cancel_on_kill: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_id=batch_id, provider=provider, bifrost_conn_id=bifrost_conn_id, **kwargs)
        self.wait_for_completion = wait_for_completion
        self.accept = checked_accept(accept)
        self.deferrable = deferrable
        self.poll_interval = None if poll_interval is None else seconds_of("poll_interval", poll_interval)
        self.poll_backoff = poll_backoff
        self.timeout = seconds_of("timeout", timeout)
        self.not_found_grace = seconds_of("not_found_grace", not_found_grace)
        self.cancel_on_kill = cancel_on_kill
        self._ti: Any = None

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow_bifrost.hooks.bifrost import BifrostHook

        if not self.wait_for_completion:
            with BifrostHook(self.bifrost_conn_id) as hook:
                return self._retrieve(hook).to_xcom()
        self._ti = context["ti"]
        return self._finish(context, self._wait().run(context, self))

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Go on after the deferral."""
        return self._finish(context, self._wait().resume(context, event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """As a sensor does: the deferral that Airflow itself ended, because the trigger did not, is a timeout like any other."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout as error:
            raise AirflowSensorTimeout(*error.args) from error

    def on_kill(self) -> None:
        if self.cancel_on_kill and self._ti is not None:
            cancel_if_a_user_ended_it(
                self._ti, [self._checked_id()], provider=self.provider, conn_id=self.bifrost_conn_id
            )

    def _wait(self) -> BatchWait:
        return BatchWait(
            batch_ids=[self._checked_id()],
            provider=provider_of(self.provider),
            conn_id=self.bifrost_conn_id,
            mode="deferrable" if self.deferrable else "poke",
            poll_interval=self.poll_interval,
            timeout=self.timeout,
            execution_timeout=self.execution_timeout,
            not_found_grace=self.not_found_grace,
            cancel_on_kill=self.cancel_on_kill,
            poll_backoff=self.poll_backoff,
        )

    def _finish(self, context: Context, summaries: list[dict[str, Any]]) -> dict[str, Any]:
        [summary] = summaries
        try:
            raise_unless_accepted(summaries, self.accept)
        except BatchFailed:
            push_all(context, self, summary)
            raise
        return summary


class BatchCancelOperator(_BatchOperator):
    """Asks the provider to cancel a batch, and pushes the summary of what it is then, as :class:`BatchRetrieveOperator` does.

    A batch that is cancelling or terminal is left alone, so that cancelling twice is the same as once, and cancelling one that
    has just ended is no error. The task does not wait for the end: a :class:`~airflow_bifrost.sensors.batch.BatchSensor` after it
    does, with ``"cancelled"`` in its ``accept``. The rows that were done by then are billed.

    :param batch_id: id of the batch. (templated)
    :param provider: provider of the batch, as it was created with; None is the connection's. (templated)
    :param bifrost_conn_id: id of the Airflow connection. (templated)
    """

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow_bifrost.hooks.bifrost import BifrostHook

        with BifrostHook(self.bifrost_conn_id) as hook:
            summary = self._retrieve(hook)
            if _needs_no_cancel(summary):
                self.log.info("It is left alone: there is nothing to cancel")
            else:
                summary = self._cancel(hook)
        return summary.to_xcom()

    def _cancel(self, hook: BifrostHook) -> BatchSummary:
        try:
            hook.cancel_batch(self._checked_id(), provider=provider_of(self.provider))
        except BifrostGatewayError as error:
            # The batch may have ended meanwhile, or be cancelling, with only the answer lost. Status codes do not tell: providers
            # differ, and of several keys behind the gateway the last one's refusal comes through. So look at the batch itself.
            with suppress(BifrostGatewayError):
                summary = self._retrieve(hook)
                if _needs_no_cancel(summary):
                    self.log.info("That the cancel met an error does not matter now: %s", error)
                    return summary
            raise
        return self._retrieve(hook)


class _RowsOperator(BaseOperator):
    """What operators that submit rows share: the rows, what is asked for, and what to do in doubt."""

    template_fields: Sequence[str] = (
        "input_path",
        "endpoint",
        "provider",
        "model",
        "request_params",
        "metadata",
        "extra_body",
        "extra_form",
        "bifrost_conn_id",
    )
    ui_color = "#d9f2e6"

    def __init__(
        self,
        *,
        rows: Any = None,
        input_path: str | None = None,
        endpoint: str = "/v1/chat/completions",
        provider: str | None = None,
        model: str | None = None,
        system_prompt: str | None = None,
        request_params: Mapping[str, Any] | None = None,
        completion_window: str = "24h",
        metadata: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        extra_form: Mapping[str, str] | None = None,
        max_rows: int | None = None,
        max_input_bytes: int | None = None,
        on_unknown: str = "fail",
        on_changed_input: str = "leave",
        max_request_body_size_mb: int = 100,
        bifrost_conn_id: str = "bifrost_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rows = rows
        self.input_path = input_path
        self.endpoint = endpoint
        self.provider = provider
        self.model = model
        self.system_prompt = system_prompt
        self.request_params = request_params
        self.completion_window = completion_window
        self.metadata = metadata
        self.extra_body = extra_body
        self.extra_form = extra_form
        self.max_rows = max_rows
        self.max_input_bytes = max_input_bytes
        self.recovery = RecoveryPolicy(on_unknown, on_changed_input)
        self.max_request_body_size_mb = whole_number("max_request_body_size_mb", max_request_body_size_mb)
        self.bifrost_conn_id = bifrost_conn_id
        after_the_tasks_that_make(self, rows)

    def _params(self, provider: str) -> Mapping[str, Any] | None:
        """Members of a body that a row may leave out."""
        if not isinstance(self.request_params or {}, Mapping):
            raise ValueError(f"request_params must be a dict, not {type(self.request_params).__name__}")
        return self.request_params

    def _order(self) -> BatchSpec:
        return BatchSpec(
            self.endpoint,
            self.completion_window,
            self.model,
            self.metadata or {},
            self.extra_body or {},
            self.extra_form or {},
        )

    def _limits(self, provider: str) -> Limits:
        from airflow_bifrost.submission.limits import limits_of

        return limits_of(provider, self.max_request_body_size_mb * 2**20)

    def _write_parts(self, context: Context, provider: str, folder: Path) -> list[Part]:
        from airflow_bifrost.submission.requests_file import write_parts

        with rows_of(self.rows, self.input_path, context) as rows:
            return write_parts(
                rows,
                folder,
                provider=provider,
                endpoint=self.endpoint,
                model=self.model,
                system_prompt=self.system_prompt,
                request_params=self._params(provider),
                limits=self._limits(provider),
                max_rows=self.max_rows,
                max_input_bytes=self.max_input_bytes,
                unit="line" if self.input_path is not None else "row",
            )


class BatchSubmitOperator(_RowsOperator):
    """Submits one batch exactly once, and returns its id: ``BatchSensor(batch_id=submit.output)`` waits for it.

    A retry, a clear, or a crash between the call and its answer goes on with the batch that was paid for: it is known by a record that
    outlives the attempt (Airflow 3.3's task state, or ``[bifrost] state_path``), and by a tag in its metadata, where the provider keeps
    any (OpenAI, Azure). No rows at all: the task is skipped.

    :param rows: the requests: prompts (strings), request bodies (dicts), or whole batch lines (dicts with ``custom_id`` and ``body``).
        A list, or the output of another task; no Jinja is rendered in them.
    :param input_path: JSONL of such rows at any URI that Airflow's object storage reads, or on the worker's disk. (templated)
    :param input_file_id: id of a file that the provider has already. (templated)
    :param endpoint: what each row asks for, e.g. ``/v1/embeddings``. (templated)
    :param provider: provider; None is the connection's. (templated)
    :param model: for rows whose body names none; Gemini and Bedrock need it for the batch. (templated)
    :param system_prompt: a system prompt for each row that has none.
    :param request_params: members of a body that a row may leave out, e.g. ``{"max_tokens": 200, "temperature": 0}``. (templated)
    :param completion_window: passed on to the provider.
    :param metadata: passed on to the provider; text to text. (templated)
    :param extra_body: members of the create call that this package does not know, e.g. Bedrock's ``role_arn`` and ``output_s3_uri``. (templated)
    :param extra_form: the same for the upload, e.g. Bedrock's ``storage_config[s3][bucket]``. (templated)
    :param max_rows: an error above so many rows, before anything is uploaded.
    :param max_input_bytes: the same for the size of the input.
    :param max_request_body_size_mb: the gateway's own setting of this name: it takes no larger upload, and so no larger part.
    :param on_unknown: what to do where an earlier try may have submitted and nobody can tell: ``"fail"``, with an error that says what to
        check, or ``"resubmit"``, and perhaps pay twice.
    :param on_changed_input: what becomes of the batch of an earlier try with another input: ``"leave"`` or ``"cancel"``.
    :param resubmit: outcomes of an earlier try's batch with which a retry or a clear submits once more, e.g. ``("failed",)``.
    :param bifrost_conn_id: id of the Airflow connection. (templated)
    """

    template_fields: Sequence[str] = (*_RowsOperator.template_fields, "input_file_id")

    def __init__(self, *, input_file_id: str | None = None, resubmit: Collection[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.input_file_id = input_file_id
        self.recovery = replace(self.recovery, resubmit=checked_accept(resubmit, "resubmit"))
        only_one_of(rows=self.rows, input_path=self.input_path, input_file_id=input_file_id)

    def execute(self, context: Context) -> str:
        from airflow_bifrost.hooks.bifrost import BifrostHook

        with BifrostHook(self.bifrost_conn_id) as hook, TemporaryDirectory(prefix="bifrost-submit-") as folder:
            client = hook.get_conn()
            provider = client.config.provider_for(provider_of(self.provider))
            if self.input_file_id is not None:
                submission = submit_file(context, client, provider, self._order(), self.recovery, self.input_file_id)
            else:
                part = self._only_part(context, provider, Path(folder))
                submission = submit_part(context, client, provider, self._order(), self.recovery, part)
        return submission.batch_id

    def _only_part(self, context: Context, provider: str, folder: Path) -> Part:
        parts = self._write_parts(context, provider, folder)
        if not parts:
            raise AirflowSkipException("There are no rows: nothing to submit.")
        if len(parts) > 1:
            raise BatchInputError(
                f"The input makes {len(parts)} batches of {provider}, and BatchSubmitOperator submits one. Use BatchRunOperator, which splits"
                " it, or give each its own input. Nothing was submitted, and nothing is billed."
            )
        return parts[0]


class BatchRunOperator(_RowsOperator):
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

    template_fields: Sequence[str] = (*_RowsOperator.template_fields, "output_path", "storage_conn_id")

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


class BatchDownloadOperator(_BatchOperator):
    """Writes the results of a terminal batch to a file, and returns what they amount to.

    One JSON object a line, the same for every provider (see :class:`airflow_bifrost.results.rows.ResultRow`), in the order in which the
    provider gives them; of output and error file each row once. The file gets its name when it is whole.

    :param batch_id: id of the batch. (templated)
    :param output_path: a file at any URI that Airflow's object storage writes, or on the worker's disk. It is replaced. (templated)
    :param provider: provider of the batch, as it was created with; None is the connection's. (templated)
    :param raw: the provider's own lines, as they came: first those of the output, then those of the errors.
    :param download_timeout: seconds that the provider may take for a whole file: the gateway reads all of it before it sends any.
    :param storage_conn_id: Airflow connection for Bedrock's S3 bucket; None: the credentials of the worker's environment. (templated)
    :param bifrost_conn_id: id of the Airflow connection. (templated)
    """

    template_fields: Sequence[str] = (*_BatchOperator.template_fields, "output_path", "storage_conn_id")

    def __init__(
        self,
        *,
        batch_id: str,
        output_path: str,
        provider: str | None = None,
        raw: bool = False,
        download_timeout: float | timedelta = DOWNLOAD_TIMEOUT,
        storage_conn_id: str | None = None,
        bifrost_conn_id: str = "bifrost_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_id=batch_id, provider=provider, bifrost_conn_id=bifrost_conn_id, **kwargs)
        self.output_path = output_path
        self.raw = raw
        self.download_timeout = seconds_of("download_timeout", download_timeout)
        self.storage_conn_id = storage_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow_bifrost.gateway.summary import BatchSummary
        from airflow_bifrost.hooks.bifrost import BifrostHook
        from airflow_bifrost.results.storage import locate_file, whole_file
        from airflow_bifrost.results.tally import differences
        from airflow_bifrost.results.writer import ResultsWriter

        batch_id = self._checked_id()
        locate_file(self.output_path)
        with BifrostHook(self.bifrost_conn_id).open_client(timeout=self.download_timeout) as client:
            provider = client.config.provider_for(provider_of(self.provider))
            batch, sources = results_of(client, batch_id, provider, self.storage_conn_id)
            summary = BatchSummary.of(batch, batch_id=batch_id, provider=provider).to_xcom()
            if self.raw:
                with whole_file(self.output_path) as file:
                    for source in sources:
                        with TemporaryFile() as local:
                            source.copy_to(local)
                            local.seek(0)
                            copyfileobj(local, file)
                return manifest(self.output_path, [summary], None)
            with ResultsWriter() as results:
                for source in sources:
                    source.add_to(results)
                came = results.came()
                tally = results.write(results.custom_ids(), self.output_path)
        report(tally, self.output_path, differences(came, tally.total, batch.request_counts, provider))
        return manifest(self.output_path, [summary], tally)


def push_all(context: Context, task: BaseOperator, value: Mapping[str, Any]) -> None:
    """Push what a task that fails would have returned, for whoever looks into the failure."""
    if task.do_xcom_push:
        for key, item in (*value.items(), ("return_value", value)):
            context["ti"].xcom_push(key, item)


def _needs_no_cancel(summary: BatchSummary) -> bool:
    """Whether the batch is cancelling or terminal."""
    from airflow_bifrost.gateway.outcome import BatchStatus

    return summary.outcome is not None or BatchStatus.of(summary.status) is BatchStatus.CANCELLING
