"""What the operators share: those of one batch, and those that submit rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_bifrost.worker.arguments import (
    batch_ids_of,
    provider_of,
    whole_number,
)
from airflow_bifrost.worker.rows import after_the_tasks_that_make, rows_of
from airflow_bifrost.worker.submit import BatchSpec, RecoveryPolicy

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_bifrost.gateway.summary import BatchSummary
    from airflow_bifrost.hooks.bifrost import BifrostHook
    from airflow_bifrost.submission.limits import Limits
    from airflow_bifrost.submission.requests_file import Part


class OneBatchOperator(BaseOperator):
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


class RowsOperator(BaseOperator):
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


def push_all(context: Context, task: BaseOperator, value: Mapping[str, Any]) -> None:
    """Push what a task that fails would have returned, for whoever looks into the failure."""
    if task.do_xcom_push:
        for key, item in (*value.items(), ("return_value", value)):
            context["ti"].xcom_push(key, item)
