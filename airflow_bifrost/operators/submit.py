"""BatchSubmitOperator: submit one batch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Unpack

from airflow_bifrost._compat import AirflowSkipException
from airflow_bifrost.exceptions import BatchInputError
from airflow_bifrost.operators.base import RowsOperator
from airflow_bifrost.worker.arguments import checked_accept, only_one_of, provider_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_bifrost.submission.parts import Part
    from airflow_bifrost.worker.airflow_arguments import OperatorArguments
    from airflow_bifrost.worker.kill import StopSignal


class BatchSubmitOperator(RowsOperator):
    """Submits one batch exactly once, and returns its ID: ``BatchSensor(batch_id=submit.output)`` waits for it.

    After a retry, a clear, or a crash between the call and its answer, the task continues with the batch that is already paid for. It finds
    the batch by a record that outlives the attempt (Airflow 3.3's task state, or ``[bifrost] state_path``) and, where the provider stores
    metadata (OpenAI, Azure), by a tag in the batch's metadata. If there are no rows, the task is skipped.

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
    :param input_file_id: ID of a file that is already at the provider. (templated)
    :param endpoint: the API that each row calls, e.g. ``/v1/embeddings``. (templated)
    :param provider: the model provider. Defaults to the connection's provider. (templated)
    :param model: the model for rows whose body does not name one. Gemini, Bedrock and Vertex require it for the whole batch. (templated)
    :param system_prompt: a system prompt for each row that does not have one. (templated)
    :param request_params: body members for each row that does not set them, e.g. ``{"max_tokens": 200, "temperature": 0}``. (templated)
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
        with an error that says what to check, ``"resubmit"`` and risk paying twice, or continue with ``{"adopt": "<batch ID>"}``.
    :param on_changed_input: what to do with a batch that an earlier attempt submitted for a different input: ``"leave"`` or ``"cancel"`` it.
    :param cleanup: what to do with the uploaded file if the provider refuses to create the batch: ``"never"`` keeps it, ``"input"`` and
        ``"all"`` delete it.
    :param output_expires_after: time after which the provider deletes the output file, in seconds or as a timedelta. OpenAI and Azure only.
    :param resubmit: if an earlier attempt's batch has one of these outcomes, a retry or a clear submits again, e.g. ``("failed",)``.
    :param bifrost_conn_id: ID of the Airflow connection. (templated)
    """

    template_fields: Sequence[str] = (*RowsOperator.template_fields, "input_file_id")
    waits_for_batches = False

    def __init__(
        self,
        *,
        rows: Any = None,
        input_path: str | None = None,
        input_format: str | None = None,
        prompt: str | Callable[[dict[str, Any]], Any] | None = None,
        id_column: str | None = None,
        input_file_id: str | None = None,
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
        max_request_body_size_mb: int = 100,
        on_bare_body: str = "fail",
        on_unknown: str | Mapping[str, Any] = "fail",
        on_changed_input: str = "leave",
        cleanup: str = "input",
        output_expires_after: float | timedelta | None = None,
        resubmit: Collection[str] = (),
        bifrost_conn_id: str = "bifrost_default",
        **kwargs: Unpack[OperatorArguments],
    ) -> None:
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
        self.input_file_id = input_file_id
        self.resubmit = checked_accept(resubmit, "resubmit")
        only_one_of(rows=rows, input_path=input_path, input_file_id=input_file_id)
        self._stop: StopSignal | None = None

    def execute(self, context: Context) -> str:
        from airflow_bifrost.hooks.bifrost import BifrostHook
        from airflow_bifrost.worker.kill import StopSignal
        from airflow_bifrost.worker.scratch import scratch_folder
        from airflow_bifrost.worker.state_store import is_remembering, open_state_store
        from airflow_bifrost.worker.submit import (
            cancelled_on_stop,
            check_twins,
            submit_file,
            submit_part,
            supersede_others,
        )

        self._stop = stop = StopSignal()
        store = open_state_store(context)
        is_remembering(store, context)  # first, so that the store records this attempt even if it fails
        hook = BifrostHook(self.bifrost_conn_id)
        with hook.open_client(sleep=stop.sleep) as client, scratch_folder() as folder:
            provider = client.config.provider_for(provider_of(self.provider))
            spec, recovery = self._spec(), self._recovery()
            arguments = (context, client, provider, spec, recovery)
            with cancelled_on_stop(stop, context, store, provider, self.bifrost_conn_id):
                if self.input_file_id is not None:
                    submission = submit_file(*arguments, self.input_file_id, store=store, check_stop=stop.check)
                else:
                    part = self._only_part(self._write_parts(context, provider, folder).parts, provider)
                    if part is None:
                        supersede_others(context, client, provider, recovery, {1: None}, store, cleanup=self.cleanup)
                        raise AirflowSkipException("There are no rows, so nothing was submitted.")
                    submission = submit_part(*arguments, part, store=store, check_stop=stop.check, cleanup=self.cleanup)
            check_twins(submission)
            return submission.batch_id

    def on_kill(self) -> None:
        """Submit nothing more. If a user ended the task, cancel the batch that it was about to return."""
        if self._stop is not None:
            self._stop.set()

    def _only_part(self, parts: list[Part], provider: str) -> Part | None:
        """The input, which must fit into one batch; None if there are no rows."""
        if len(parts) > 1:
            raise BatchInputError(
                f"The input exceeds the limits of one batch of {provider}: it needs {len(parts)} batches, but BatchSubmitOperator submits one."
                " Nothing was submitted, and nothing is billed. Use BatchRunOperator, which splits the input, or split it yourself."
            )
        return parts[0] if parts else None
