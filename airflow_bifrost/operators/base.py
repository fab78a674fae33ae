"""Base classes of the operators: one for those that work on an existing batch, one for those that submit rows.

Airflow parses DAG files over and over, and each parse imports the operators. Modules that a task needs only in its worker are therefore
imported in the methods that run there. The same holds for ``sensors`` and ``decorators``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from airflow.sdk import BaseOperator, XComArg

from airflow_bifrost.worker.arguments import (
    CLEANUP,
    ON_BARE_BODY,
    ON_CHANGED_INPUT,
    batch_ids_of,
    checked_on_unknown,
    is_resolved_later,
    one_of,
    provider_of,
    seconds_of,
    whole_number,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_bifrost.gateway.summary import BatchSummary
    from airflow_bifrost.hooks.bifrost import BifrostHook
    from airflow_bifrost.providers.base import Limits
    from airflow_bifrost.submission.parts import RequestFiles
    from airflow_bifrost.worker.airflow_arguments import OperatorArguments
    from airflow_bifrost.worker.batch_spec import BatchSpec, RecoveryPolicy


class OneBatchOperator(BaseOperator):
    """Works on one existing batch. Returns a dict (the batch's summary, or a manifest), and pushes each key as an XCom."""

    template_fields: Sequence[str] = ("batch_id", "provider", "bifrost_conn_id")
    ui_color = "#d9f2e6"

    def __init__(
        self,
        *,
        batch_id: str,
        provider: str | None = None,
        bifrost_conn_id: str = "bifrost_default",
        **kwargs: Unpack[OperatorArguments],
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
                f"batch_id has {len(batch_ids)} IDs, but {type(self).__name__} takes one: map the task over the IDs with expand()"
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
    """Submits rows. Holds where they come from, what each request asks of the provider, and what a retry does."""

    template_fields: Sequence[str] = (
        "input_path",
        "endpoint",
        "provider",
        "model",
        "system_prompt",
        "id_column",
        "request_params",
        "metadata",
        "extra_body",
        "extra_form",
        "bifrost_conn_id",
    )
    ui_color = "#d9f2e6"
    waits_for_batches = True

    def __init__(
        self,
        *,
        rows: Any,
        input_path: str | None,
        input_format: str | None,
        prompt: str | Callable[[dict[str, Any]], Any] | None,
        id_column: str | None,
        on_bare_body: str,
        endpoint: str,
        provider: str | None,
        model: str | None,
        system_prompt: str | None,
        request_params: Mapping[str, Any] | None,
        completion_window: str,
        metadata: Mapping[str, str] | None,
        extra_body: Mapping[str, Any] | None,
        extra_form: Mapping[str, str] | None,
        max_rows: int | None,
        max_input_bytes: int | None,
        max_request_body_size_mb: int,
        on_unknown: str | Mapping[str, Any],
        on_changed_input: str,
        cleanup: str,
        output_expires_after: float | timedelta | None,
        bifrost_conn_id: str,
        **kwargs: Unpack[OperatorArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.rows = rows
        self.input_path = input_path
        self.input_format = input_format
        self.prompt = prompt
        self.id_column = id_column
        self.keep: tuple[str, ...] = ()
        self.on_bare_body = one_of("on_bare_body", on_bare_body, ON_BARE_BODY)
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
        self.max_request_body_size_mb = whole_number("max_request_body_size_mb", max_request_body_size_mb)
        self.on_unknown = checked_on_unknown(on_unknown)
        self.on_changed_input = one_of("on_changed_input", on_changed_input, ON_CHANGED_INPUT)
        self.cleanup = one_of("cleanup", cleanup, CLEANUP)
        self.output_expires_after = (
            None if output_expires_after is None else round(seconds_of("output_expires_after", output_expires_after))
        )
        self.resubmit: Collection[str] = ()
        self.bifrost_conn_id = bifrost_conn_id
        if id_column is not None and prompt is None:
            raise ValueError("id_column needs prompt: without one, a row names its own custom_id")
        if is_resolved_later(rows) or (isinstance(rows, list | tuple) and any(map(is_resolved_later, rows))):
            # Airflow sets this dependency for templated fields only. `rows` is not templated: Airflow would render `{{` in prompts,
            # and would store the prompts in its metadata database.
            XComArg.apply_upstream_relationship(self, rows)

    def _params(self, provider: str) -> Mapping[str, Any] | None:
        """The members that each row's request body gets unless it sets them."""
        if not isinstance(self.request_params or {}, Mapping):
            raise ValueError(f"request_params must be a dict, not {type(self.request_params).__name__}")
        return self.request_params

    def _spec(self) -> BatchSpec:
        from airflow_bifrost.worker.batch_spec import BatchSpec

        return BatchSpec(
            self.endpoint,
            self.completion_window,
            self.model,
            self.metadata or {},
            self.extra_body or {},
            self.extra_form or {},
            self.output_expires_after,
        )

    def _recovery(self) -> RecoveryPolicy:
        from airflow_bifrost.worker.batch_spec import RecoveryPolicy

        return RecoveryPolicy(self.on_unknown, self.on_changed_input, self.resubmit, self.waits_for_batches)

    def _limits(self, provider: str) -> Limits:
        from airflow_bifrost.submission.limits import limits_of

        return limits_of(provider, self.max_request_body_size_mb * 2**20)

    def _write_parts(self, context: Context, provider: str, folder: Path) -> RequestFiles:
        from airflow_bifrost.submission.parts import SOURCES, write_parts
        from airflow_bifrost.worker.rows import requests_of, resolved, rows_of

        # Not in `template_fields`: Airflow would call a function there with arguments of its own.
        prompt = self.render_template(self.prompt, context) if isinstance(self.prompt, str) else self.prompt
        with (
            rows_of(resolved(self.rows, self, context), self.input_path, self.input_format) as given,
            requests_of(given, folder, prompt=prompt, id_column=self.id_column, keep=self.keep) as requests,
        ):
            files = write_parts(
                requests,
                folder,
                provider=provider,
                endpoint=self.endpoint,
                model=self.model,
                system_prompt=self.system_prompt,
                request_params=self._params(provider),
                limits=self._limits(provider),
                max_rows=self.max_rows,
                max_input_bytes=self.max_input_bytes,
                unit=given.unit,
                bare_bodies=self.on_bare_body == "send",
            )
        return replace(files, sources=folder / SOURCES if self.keep else None)
