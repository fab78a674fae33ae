"""The arguments of Airflow's own ``BaseOperator``, for type checkers and editors. Nothing loads this module at run time."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Required, TypedDict

if TYPE_CHECKING:
    from airflow.sdk import DAG, Context
    from airflow.sdk.definitions.taskgroup import TaskGroup


class BaseOperatorArguments(TypedDict, total=False):
    """The arguments of Airflow's ``BaseOperator``. With ``**kwargs: Unpack[...]`` a type checker rejects any other name."""

    owner: str
    email: str | Sequence[str] | None
    email_on_retry: bool
    email_on_failure: bool
    retries: int | None
    retry_delay: timedelta | float
    retry_exponential_backoff: float
    max_retry_delay: timedelta | float | None
    retry_policy: Any  # Airflow 3.3 and later
    start_date: datetime | None
    end_date: datetime | None
    depends_on_past: bool
    ignore_first_depends_on_past: bool
    wait_for_past_depends_before_skipping: bool
    wait_for_downstream: bool
    dag: DAG | None
    params: MutableMapping[str, Any] | None
    default_args: dict[str, Any] | None
    priority_weight: int
    weight_rule: Any
    queue: str
    pool: str | None
    pool_slots: int
    sla: timedelta | None
    execution_timeout: timedelta | None
    on_execute_callback: Callable[[Context], None] | list[Callable[[Context], None]] | None
    on_failure_callback: Callable[[Context], None] | list[Callable[[Context], None]] | None
    on_success_callback: Callable[[Context], None] | list[Callable[[Context], None]] | None
    on_retry_callback: Callable[[Context], None] | list[Callable[[Context], None]] | None
    on_skipped_callback: Callable[[Context], None] | list[Callable[[Context], None]] | None
    pre_execute: Callable[[Context], None] | None
    post_execute: Callable[[Context, Any], None] | None
    trigger_rule: str
    resources: dict[str, Any] | None
    run_as_user: str | None
    map_index_template: str | None
    max_active_tis_per_dag: int | None
    max_active_tis_per_dagrun: int | None
    executor: str | None
    executor_config: dict[str, Any] | None
    do_xcom_push: bool
    multiple_outputs: bool
    inlets: Any
    outlets: Any
    task_group: TaskGroup | None
    doc: str | None
    doc_md: str | None
    doc_json: str | None
    doc_yaml: str | None
    doc_rst: str | None
    task_display_name: str | None
    logger_name: str | None
    allow_nested_operators: bool
    render_template_as_native_obj: bool | None  # Airflow 3.2 and later


class OperatorArguments(BaseOperatorArguments, total=False):
    """The same arguments with a required ``task_id``, for everything but decorators."""

    task_id: Required[str]


class DecoratorArguments(BaseOperatorArguments, total=False):
    """The same arguments with an optional ``task_id``, which defaults to the function's name."""

    task_id: str
