"""BatchRunOperator: rows in, rows out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from airflow_bifrost.operators.base import RowsOperator
from airflow_bifrost.worker.arguments import (
    DEFAULT_ACCEPT,
    DEFAULT_DOWNLOAD_TIMEOUT,
    DEFAULT_NOT_FOUND_GRACE,
    DEFAULT_RESULTS_GRACE,
    DEFAULT_TIMEOUT,
    ON_CHANGED_REQUEST,
    WaitsForBatches,
    checked_accept,
    columns_of,
    one_of,
    only_one_of,
    provider_of,
    rows_or_share,
    seconds_of,
    share_of,
    whole_number,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_bifrost.providers.base import Limits
    from airflow_bifrost.runs.attempt import BatchRun
    from airflow_bifrost.runs.request import RunPolicy, RunRequest
    from airflow_bifrost.runs.steps import Wait
    from airflow_bifrost.worker.airflow_arguments import OperatorArguments
    from airflow_bifrost.worker.wait import BatchWait


class BatchRunOperator(WaitsForBatches, RowsOperator):
    """Rows in, rows out: submits the rows once, waits for their batches, and writes one result for each row.

    The operator splits input that exceeds the limits of one batch into several batches. It sends rows again that failed with a transient
    error (429, 5xx, expired). After a retry, a clear or a crash, the task continues where the last attempt stopped and does not pay twice.
    If there are no rows, the task is skipped.

    Returns the manifest (``output_path``, ``rows``, ``errors``, ``reasons``, ``batches``, ``usage``, ``usage_by_model``, ``duplicates``), and pushes each
    key of it as an XCom.

    :param rows: the requests: prompts (strings), request bodies (dicts), or whole batch lines (dicts with ``custom_id`` and ``body``).
        Or a table, with ``prompt``: a pandas or Polars frame, Arrow data, a database cursor, or a list of dicts or tuples. A list may hold
        outputs of other tasks. Airflow does not render Jinja in the rows; only ``rows`` as a whole may be a template.
    :param input_path: a file of such rows: a URI for Airflow's object storage, or a path on the worker's disk. Also a folder of files, or a
        pattern such as ``s3://bucket/reviews-*.csv``; their rows follow each other in the order of the names. (templated)
    :param input_format: ``jsonl``, ``csv``, ``tsv`` or ``parquet``, also with ``.gz`` or ``.zst``. By default the file's name decides, and a
        name without a known extension means ``jsonl``. CSV, TSV and Parquet are tables and need ``prompt``. (templated)
    :param prompt: what to ask about each row of a table: text with names of columns in braces, ``"Classify: {review}"``, or a function that
        takes the row as a dict and returns a prompt or a request body. The columns of a tuple are numbered from 0: ``{0}``. (templated)
    :param id_column: the column whose value becomes the row's ``custom_id``. By default it is the row's place. (templated)
    :param keep: the columns of a table that each result carries, in its member ``source``.
    :param output_path: the file to write: a URI or a path, as for ``input_path``. It has one JSON object per line, in the order of the
        input (see :class:`airflow_bifrost.results.rows.ResultRow`). While the task runs, a folder next to it holds the input. (templated)
    :param endpoint: the API that each row calls, e.g. ``/v1/embeddings``. (templated)
    :param provider: the model provider. Defaults to the connection's provider. (templated)
    :param model: the model for rows whose body does not name one. Gemini, Bedrock and Vertex require it for the whole batch. (templated)
    :param system_prompt: a system prompt for each row that does not have one. (templated)
    :param request_params: body members for each row that does not set them, e.g. ``{"max_tokens": 200, "temperature": 0}``. (templated)
    :param output_type: a pydantic model. Each request asks for an answer in its JSON schema, and each valid answer becomes the row's
        ``output``. An answer that fails validation makes its row ``failed`` (code ``invalid_output``), and the row is sent again. Not
        supported for Bedrock.
    :param accept: the task succeeds if the outcome of all rows together is one of these. ``partial``: some rows have succeeded.
    :param max_failed_rows: fail if more rows than this have no answer: a number (``10``), or a share of all rows (``0.02``). By default only
        ``accept`` decides.
    :param max_parallel_batches: the maximum number of batches in progress at a time.
    :param max_row_attempts: the maximum number of times that a row is sent.
    :param resend_limit: a share of a round's rows, from 0 to 1. If more rows fail with the same error code, the request itself may be at
        fault. The task then sends 20 of these rows again first, and the others only if one of the 20 succeeds. Applies to rounds of 20
        rows or more.
    :param timeout: time limit of each round, in seconds or as a timedelta. The first round sends every row; each later round sends rows
        again. When the time is over, the task cancels the batches that still run, writes the rows that have an answer, and fails with an
        ``AirflowSensorTimeout`` that reports the rest. Default: 25 h, the provider's 24 hours and an hour for clocks that differ.
    :param run_timeout: time limit of all rounds together, in seconds or as a timedelta. By default only each round is limited. Rows are
        sent again only if another round of ``timeout`` seconds can end before this limit.
    :param on_changed_request: what to do if the DAG file changes the request (``model``, ``endpoint``, ``output_type``, ...) while a run is
        in progress. ``"fail"``: send nothing more, write the results so far, and fail; clearing the task then starts a run with the new
        request. ``"continue"``: finish the run with the old request.
    :param cleanup: which files to delete at the provider once the output is written: ``"input"`` (the uploaded input), ``"all"`` (also the
        results), or ``"never"`` (nothing).
    :param soft_fail: skip the task instead of failing it, except with ``SubmissionInDoubt``.
    :param deferrable: wait in the triggerer; if False, in the worker.
    :param poll_interval: time between two polls of a batch, in seconds or as a timedelta. Defaults to the connection's setting, then to
        ``[bifrost] poll_interval`` (60 s).
    :param poll_backoff: poll less often as a batch ages: every 5 % of its age, but at least every ten minutes.
    :param not_found_grace: how long a waiting task tolerates a 404, in seconds or as a timedelta. Default: 5 minutes.
    :param results_grace: how long to keep polling an ended batch that does not name its results yet, in seconds or as a timedelta. Some
        providers name them only minutes later. Default: 10 minutes.
    :param cancel_on_kill: cancel the batches when a user ends the task.
    :param allow_incomplete: if some of a batch's results are missing or cannot be read, or the gateway no longer finds a batch, write the
        others and log a warning. By default the task fails and writes nothing. The rows are already paid for, and a retry reads their results again.
    :param download_timeout: how long the gateway may take to send one file of results, in seconds or as a timedelta. The gateway reads the
        whole file from the provider before it sends any of it. Default: 10 minutes.
    :param storage_conn_id: the Airflow connection for the object store in which Bedrock and Vertex keep results. Without it, the
        credentials of the worker's environment apply. If they cannot read Vertex's results, the gateway returns them. (templated)
    :param completion_window: the time in which the provider is to finish the batch. Passed on unchanged.
    :param metadata: up to 16 key-value pairs of strings that the provider stores with the batch. (templated)
    :param extra_body: additional members of the create call, e.g. Bedrock's ``role_arn`` and ``output_s3_uri``. (templated)
    :param extra_form: additional form fields of the upload, e.g. Bedrock's ``storage_config[s3][bucket]``. (templated)
    :param max_rows: fail before anything is uploaded if the input has more rows than this.
    :param max_input_bytes: fail before anything is uploaded if the input is larger than this, in bytes.
    :param max_request_body_size_mb: the gateway's setting of the same name, in MiB. The gateway refuses larger uploads, so no batch's input
        exceeds it.
    :param on_bare_body: what to do with a request body that lacks what its endpoint needs, such as ``messages``: ``"fail"`` before anything
        is uploaded, or ``"send"`` it as it is.
    :param on_unknown: what to do if an earlier attempt may have submitted a batch and the task cannot determine whether it did: ``"fail"``
        with an error that says what to check, ``"resubmit"`` and risk paying twice, or continue with ``{"adopt": "<batch ID>"}``. With
        several parts: ``{"adopt": {<part number>: "<batch ID>"}}``.
    :param on_changed_input: what to do with batches that an earlier attempt submitted for a different input: ``"leave"`` or ``"cancel"``
        them.
    :param output_expires_after: time after which the provider deletes the output file, in seconds or as a timedelta. OpenAI and Azure only.
    :param bifrost_conn_id: ID of the Airflow connection. (templated)
    """

    template_fields: Sequence[str] = (*RowsOperator.template_fields, "output_path", "storage_conn_id")
    _rebuilds_input = True  # the same rows can be read again

    def __init__(
        self,
        *,
        output_path: str,
        rows: Any = None,
        input_path: str | None = None,
        input_format: str | None = None,
        prompt: str | Callable[[dict[str, Any]], Any] | None = None,
        id_column: str | None = None,
        keep: Sequence[str] = (),
        endpoint: str = "/v1/chat/completions",
        provider: str | None = None,
        model: str | None = None,
        system_prompt: str | None = None,
        request_params: Mapping[str, Any] | None = None,
        output_type: Any = None,
        accept: Collection[str] = DEFAULT_ACCEPT,
        max_failed_rows: float | None = None,
        max_parallel_batches: int = 4,
        max_row_attempts: int = 3,
        resend_limit: float = 0.5,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        run_timeout: float | timedelta | None = None,
        soft_fail: bool = False,
        deferrable: bool = True,
        poll_interval: float | timedelta | None = None,
        poll_backoff: bool = False,
        not_found_grace: float | timedelta = DEFAULT_NOT_FOUND_GRACE,
        results_grace: float | timedelta = DEFAULT_RESULTS_GRACE,
        cancel_on_kill: bool = True,
        allow_incomplete: bool = False,
        download_timeout: float | timedelta = DEFAULT_DOWNLOAD_TIMEOUT,
        storage_conn_id: str | None = None,
        completion_window: str = "24h",
        metadata: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        extra_form: Mapping[str, str] | None = None,
        max_rows: int | None = None,
        max_input_bytes: int | None = None,
        max_request_body_size_mb: int = 100,
        on_bare_body: str = "fail",
        on_unknown: str | Mapping[str, Any] = "fail",
        on_changed_input: str = "leave",
        on_changed_request: str = "fail",
        cleanup: str = "input",
        output_expires_after: float | timedelta | None = None,
        bifrost_conn_id: str = "bifrost_default",
        **kwargs: Unpack[OperatorArguments],
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)
        super().__init__(
            rows=rows,
            input_path=input_path,
            input_format=input_format,
            prompt=prompt,
            id_column=id_column,
            on_bare_body=on_bare_body,
            endpoint=endpoint,
            provider=provider,
            model=model,
            system_prompt=system_prompt,
            request_params=request_params,
            completion_window=completion_window,
            metadata=metadata,
            extra_body=extra_body,
            extra_form=extra_form,
            max_rows=max_rows,
            max_input_bytes=max_input_bytes,
            max_request_body_size_mb=max_request_body_size_mb,
            on_unknown=on_unknown,
            on_changed_input=on_changed_input,
            cleanup=cleanup,
            output_expires_after=output_expires_after,
            bifrost_conn_id=bifrost_conn_id,
            **kwargs,
        )
        only_one_of(rows=rows, input_path=input_path)
        self.output_path = output_path
        self.keep = columns_of(keep)
        if self.keep and prompt is None:
            raise ValueError("keep needs prompt: it names columns of a table")
        self.output_type = output_type
        self.accept = checked_accept(accept)
        self.max_failed_rows = None if max_failed_rows is None else rows_or_share("max_failed_rows", max_failed_rows)
        self.max_parallel_batches = whole_number("max_parallel_batches", max_parallel_batches)
        self.max_row_attempts = whole_number("max_row_attempts", max_row_attempts)
        self.resend_limit = share_of("resend_limit", resend_limit)
        self.timeout = seconds_of("timeout", timeout)
        self.run_timeout = None if run_timeout is None else seconds_of("run_timeout", run_timeout)
        self.on_changed_request = one_of("on_changed_request", on_changed_request, ON_CHANGED_REQUEST)
        self.soft_fail = soft_fail
        self.deferrable = deferrable
        self.poll_interval = None if poll_interval is None else seconds_of("poll_interval", poll_interval)
        self.poll_backoff = poll_backoff
        self.not_found_grace = seconds_of("not_found_grace", not_found_grace)
        self.results_grace = seconds_of("results_grace", results_grace)
        self.cancel_on_kill = cancel_on_kill
        self.allow_incomplete = allow_incomplete
        self.download_timeout = seconds_of("download_timeout", download_timeout)
        self.storage_conn_id = storage_conn_id
        self._running: BatchRun | None = None
        self._state_folder: str | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow_bifrost.results.storage import covers

        if self.input_path is not None and covers(self.input_path, self.output_path):
            raise ValueError(
                f"input_path ({self.input_path}) includes output_path ({self.output_path}): the task would replace its rows by their results, or"
                " read results as rows. Nothing was submitted. Choose another output_path."
            )
        with self._skipping():
            run = self._run(context)
            return self._finish(context, run, self._begin(run))

    def _begin(self, run: BatchRun) -> dict[str, Any]:
        return run.start()

    def execute_complete(self, context: Context, event: Any = None, state_folder: str | None = None) -> dict[str, Any]:
        """Continue after the deferral, with the trigger's event.

        :param state_folder: where the run keeps its state. The deferral passes it on, because ``output_path`` may render differently now.
        """
        self._state_folder = state_folder or self._state_folder
        with self._skipping():
            run = self._run(context)
            return self._finish(context, run, run.resume(event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        self._state_folder = (next_kwargs or {}).get("state_folder")
        return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        if self._running is not None:
            self._running.on_kill()

    def _params(self, provider: str) -> Mapping[str, Any] | None:
        from airflow_bifrost.submission.output_schema import params_for

        given = dict(super()._params(provider) or {})
        if self.output_type is None:
            return given
        wanted = params_for(self.output_type, provider=provider, endpoint=self.endpoint)
        if taken := sorted(name for name in wanted if name in given and not isinstance(given[name], dict)):
            raise ValueError(
                f"request_params sets {taken[0]}, which output_type needs for its schema: remove one of the two arguments"
            )
        return {
            **given,
            **{
                name: given.get(name, {}) | value if isinstance(value, dict) else value
                for name, value in wanted.items()
            },
        }

    def _run(self, context: Context) -> BatchRun:
        from airflow_bifrost.runs.attempt import BatchRun

        self._running = BatchRun(
            task=self,
            context=context,
            conn_id=self.bifrost_conn_id,
            provider=provider_of(self.provider),
            output_path=self.output_path,
            output_type=self.output_type,
            request=self._request,
            policy=self._policy,
            limits=self._limits,
            write_input=partial(self._write_parts, context),
            recovery=self._recovery(),
            wait=self._wait,
            on_changed_request=self.on_changed_request,
            cleanup=self.cleanup,
            cancel_on_kill=self.cancel_on_kill,
            allow_incomplete=self.allow_incomplete,
            results_grace=self.results_grace,
            download_timeout=self.download_timeout,
            storage_conn_id=self.storage_conn_id,
            state_folder=self._state_folder,
            rebuilds_input=self._rebuilds_input,
        )
        return self._running

    def _request(self, provider: str) -> RunRequest:
        from airflow_bifrost.runs.output import schema_of
        from airflow_bifrost.runs.request import RunRequest, sha256_of

        spec = self._spec()
        return RunRequest(
            provider=provider,
            endpoint=spec.endpoint,
            completion_window=spec.completion_window,
            model=spec.model,
            metadata=dict(spec.metadata),
            extra_body=dict(spec.extra_body),
            extra_form=dict(spec.extra_form),
            output_expires_after=spec.output_expires_after,
            body_digest=sha256_of([self.system_prompt, self._params(provider)]),
            output_schema=schema_of(self.output_type),
        )

    def _policy(self, limits: Limits) -> RunPolicy:
        from airflow_bifrost.runs import request

        return request.RunPolicy(
            max_parallel_batches=self.max_parallel_batches,
            max_row_attempts=self.max_row_attempts,
            resend_limit=self.resend_limit,
            timeout=self.timeout,
            run_timeout=self.run_timeout,
            part_rows=limits.rows,
            part_bytes=limits.bytes,
            min_rows_to_halve=request.MIN_ROWS_TO_HALVE,
        )

    def _current_wait(self, context: Context) -> BatchWait:
        return self._run(context).current_wait()

    def _wait(self, step: Wait, provider: str, state_folder: str) -> BatchWait:
        from airflow_bifrost.runs.record import UNCANCELLED

        wait = self._wait_for(step.batch_ids, provider, any_ended=step.any_ended, state_folder=state_folder)
        return replace(
            wait,
            deadline=step.deadline,
            may_cancel=step.may_cancel,
            uncancelled=f"{state_folder}{UNCANCELLED}",
            resume_with={"state_folder": state_folder},
        )

    def _finish(self, context: Context, run: BatchRun, manifest: dict[str, Any]) -> dict[str, Any]:
        from airflow_bifrost.worker.verdict import raise_unless_rows_accepted

        def raise_unless_accepted() -> None:
            run.raise_if_stopped(manifest)
            raise_unless_rows_accepted(manifest, self.accept, self.max_failed_rows)

        return self._returned(context, manifest, raise_unless_accepted)
