"""``@task.bifrost_batch``: a function that gives rows, and a task that gives their results."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, task_decorator_factory
from airflow.sdk.definitions.context import context_merge

from airflow_bifrost._compat import keyword_arguments
from airflow_bifrost.operators.run import BatchRunOperator
from airflow_bifrost.worker.verdict import outcome_of_rows

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_bifrost.worker.run import BatchRun


class _BatchDecoratedOperator(DecoratedOperator, BatchRunOperator):
    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *BatchRunOperator.template_fields)
    custom_operator_name = "@task.bifrost_batch"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        for name in ("rows", "input_path"):
            if name in kwargs:
                raise ValueError(f"{name}: the decorated function gives the rows")
        super().__init__(python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, rows=(), **kwargs)

    def _begin(self, context: Context, run: BatchRun) -> dict[str, Any]:
        """The function may give other rows each time it is called; so it is not called when its rows are submitted already. If they ended
        as nobody accepts, others are wanted, or the same once more: then its rows decide, as those of an operator do."""
        record = run.recall()
        ended = record.written if record is not None else None
        in_vain = ended is not None and outcome_of_rows(ended["rows"]) not in self.accept
        if record is not None and not in_vain and (manifest := run.go_on(record)) is not None:
            return manifest
        context_merge(context, self.op_kwargs)
        kwargs = keyword_arguments(self.python_callable, self.op_args, context)
        self.rows = self.python_callable(*self.op_args, **kwargs)
        return super()._begin(context, run)


def bifrost_batch_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Make a task of a function that returns or yields rows: see :class:`~airflow_bifrost.operators.batch.BatchRunOperator` for the
    arguments. The function is called once: when its rows are submitted, a retry or a clear goes on with them. It is called again only if
    the task is cleared after an end that it does not accept, or after the output is gone.

    Usage::

        @task.bifrost_batch(model="gpt-4o-mini", output_path="s3://bucket/{{ run_id }}.jsonl")
        def classify(reviews: list[str]) -> Iterator[str]:
            for review in reviews:
                yield f"Is this review good or bad? {review}"
    """
    kwargs.setdefault("multiple_outputs", True)  # else Airflow asks the function's annotation, which is about rows
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_BatchDecoratedOperator, **kwargs
    )
