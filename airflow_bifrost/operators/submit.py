"""Submit one batch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airflow_bifrost._compat import AirflowSkipException
from airflow_bifrost.exceptions import BatchInputError
from airflow_bifrost.operators.base import RowsOperator
from airflow_bifrost.worker.arguments import (
    checked_accept,
    only_one_of,
    provider_of,
)
from airflow_bifrost.worker.submit import submit_file, submit_part

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_bifrost.submission.requests_file import Part


class BatchSubmitOperator(RowsOperator):
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

    template_fields: Sequence[str] = (*RowsOperator.template_fields, "input_file_id")

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
