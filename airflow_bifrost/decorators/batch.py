"""``@task.bifrost_batch``: a function that returns or yields rows becomes a task that returns their results."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Unpack

from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, task_decorator_factory
from airflow.sdk.definitions.context import context_merge

from airflow_bifrost._compat import keyword_arguments
from airflow_bifrost.operators.run import BatchRunOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_bifrost.runs.attempt import BatchRun
    from airflow_bifrost.submission.parts import RequestFiles
    from airflow_bifrost.worker.airflow_arguments import DecoratorArguments

NOT_GIVEN: Final[Any] = ...  # not passed on: the DAG's `default_args` apply, then the operator's default


class _BatchDecoratedOperator(DecoratedOperator, BatchRunOperator):
    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *BatchRunOperator.template_fields)
    custom_operator_name = "@task.bifrost_batch"
    _rebuilds_input = False  # the function may return other rows, or fail

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        for name in ("rows", "input_path", "input_format"):
            if name in kwargs:
                raise ValueError(
                    f"@task.bifrost_batch does not take {name}: the decorated function returns the rows. Remove the argument"
                )
        super().__init__(python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, rows=(), **kwargs)

    def _begin(self, run: BatchRun) -> dict[str, Any]:
        """Call the function, unless an earlier attempt has submitted its rows: it may return different rows each time.

        If those rows ended with an outcome that is not accepted, call it again. Its new rows then decide how to begin, as the rows of a
        ``BatchRunOperator`` do.
        """
        from airflow_bifrost.worker.verdict import why_not_accepted

        before = run.recall()
        written = before.written if before is not None else None
        rejected = (
            written is not None and why_not_accepted(written["rows"], self.accept, self.max_failed_rows) is not None
        )
        if before is not None and not rejected and (manifest := run.go_on()) is not None:
            return manifest
        return super()._begin(run)

    def _write_parts(self, context: Context, provider: str, folder: Path) -> RequestFiles:
        context_merge(context, self.op_kwargs)
        kwargs = keyword_arguments(self.python_callable, self.op_args, context)
        self.rows = self.python_callable(*self.op_args, **kwargs)
        return super()._write_parts(context, provider, folder)


def bifrost_batch_task(
    python_callable: Callable[..., Any] | None = None,
    *,
    output_path: str = NOT_GIVEN,
    prompt: str | Callable[[dict[str, Any]], Any] | None = NOT_GIVEN,
    id_column: str | None = NOT_GIVEN,
    keep: Sequence[str] = NOT_GIVEN,
    endpoint: str = NOT_GIVEN,
    provider: str | None = NOT_GIVEN,
    model: str | None = NOT_GIVEN,
    system_prompt: str | None = NOT_GIVEN,
    request_params: Mapping[str, Any] | None = NOT_GIVEN,
    output_type: Any = NOT_GIVEN,
    accept: Collection[str] = NOT_GIVEN,
    max_failed_rows: float | None = NOT_GIVEN,
    max_parallel_batches: int = NOT_GIVEN,
    max_row_attempts: int = NOT_GIVEN,
    resend_limit: float = NOT_GIVEN,
    timeout: float | timedelta = NOT_GIVEN,
    run_timeout: float | timedelta | None = NOT_GIVEN,
    soft_fail: bool = NOT_GIVEN,
    deferrable: bool = NOT_GIVEN,
    poll_interval: float | timedelta | None = NOT_GIVEN,
    poll_backoff: bool = NOT_GIVEN,
    not_found_grace: float | timedelta = NOT_GIVEN,
    results_grace: float | timedelta = NOT_GIVEN,
    cancel_on_kill: bool = NOT_GIVEN,
    allow_incomplete: bool = NOT_GIVEN,
    download_timeout: float | timedelta = NOT_GIVEN,
    storage_conn_id: str | None = NOT_GIVEN,
    completion_window: str = NOT_GIVEN,
    metadata: Mapping[str, str] | None = NOT_GIVEN,
    extra_body: Mapping[str, Any] | None = NOT_GIVEN,
    extra_form: Mapping[str, str] | None = NOT_GIVEN,
    max_rows: int | None = NOT_GIVEN,
    max_input_bytes: int | None = NOT_GIVEN,
    max_request_body_size_mb: int = NOT_GIVEN,
    on_bare_body: str = NOT_GIVEN,
    on_unknown: str | Mapping[str, Any] = NOT_GIVEN,
    on_changed_input: str = NOT_GIVEN,
    on_changed_request: str = NOT_GIVEN,
    cleanup: str = NOT_GIVEN,
    output_expires_after: float | timedelta | None = NOT_GIVEN,
    bifrost_conn_id: str = NOT_GIVEN,
    **kwargs: Unpack[DecoratorArguments],
) -> TaskDecorator:
    """Turn a function that returns or yields rows, or returns a table, into a task.

    The arguments, their meaning and their defaults are those of :class:`~airflow_bifrost.operators.batch.BatchRunOperator`, without ``rows``,
    ``input_path`` and ``input_format``; ``output_path`` is required. Once the function's rows are submitted, a retry or a clear continues
    with them. The function is called again only if the task is cleared after an outcome that it does not accept, or after the output was
    deleted.

    Usage::

        @task.bifrost_batch(model="gpt-4o-mini", output_path="s3://bucket/{{ run_id }}.jsonl")
        def classify(reviews: list[str]) -> Iterator[str]:
            for review in reviews:
                yield f"Is this review good or bad? {review}"
    """
    own = {name: value for name, value in locals().items() if name not in ("python_callable", "kwargs")}
    # Otherwise Airflow infers it from the function's return annotation, which describes the rows.
    kwargs.setdefault("multiple_outputs", True)
    return task_decorator_factory(
        python_callable=python_callable,
        decorated_operator_class=_BatchDecoratedOperator,
        **{name: value for name, value in own.items() if value is not NOT_GIVEN},
        **kwargs,
    )
