"""Arguments come from the task, else from the ``default_args`` of the DAG, else they are the operator's defaults."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_bifrost import (
    BatchCancelOperator,
    BatchDownloadOperator,
    BatchRetrieveOperator,
    BatchRunOperator,
    BatchSensor,
    BatchSubmitOperator,
)
from airflow_bifrost.decorators.batch import bifrost_batch_task


def decorated(**arguments: Any) -> Any:
    return bifrost_batch_task(list, output_path="out.jsonl", **arguments)().operator  # type: ignore[operator]


def operator_of(kind: Any, **required: Any) -> Any:
    return lambda **arguments: kind(task_id="task", **required, **arguments)


MAKERS = {
    "cancel": operator_of(BatchCancelOperator, batch_id="b"),
    "download": operator_of(BatchDownloadOperator, batch_id="b", output_path="out.jsonl"),
    "retrieve": operator_of(BatchRetrieveOperator, batch_id="b"),
    "run": operator_of(BatchRunOperator, rows=["hi"], output_path="out.jsonl"),
    "sensor": operator_of(BatchSensor, batch_id="b"),
    "submit": operator_of(BatchSubmitOperator, rows=["hi"]),
    "decorator": decorated,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_task_wins_over_the_dag_and_the_dag_over_the_defaults(make: Any) -> None:
    with DAG("defaults", schedule=None, default_args={"bifrost_conn_id": "of_the_dag", "retries": 7}):
        task = make()
        assert (task.bifrost_conn_id, task.retries, task.provider) == ("of_the_dag", 7, None)
    with DAG("given", schedule=None, default_args={"bifrost_conn_id": "of_the_dag", "provider": "azure"}):
        task = make(bifrost_conn_id="bifrost_default")  # the default, and yet given
        assert (task.bifrost_conn_id, task.provider) == ("bifrost_default", "azure")


def test_a_required_argument_may_come_from_the_dag() -> None:
    with DAG("required", schedule=None, default_args={"output_path": "of_the_dag.jsonl", "max_row_attempts": 5}):
        task = bifrost_batch_task(list)().operator  # type: ignore[operator]
    assert (task.output_path, task.max_row_attempts) == ("of_the_dag.jsonl", 5)


@pytest.mark.parametrize("make", [MAKERS["run"], decorated], ids=["run", "decorator"])
def test_what_airflow_does_not_know_is_refused_when_the_dag_is_parsed(make: Any) -> None:
    with DAG("wrong", schedule=None), pytest.raises(TypeError, match="max_row_atempts"):
        make(max_row_atempts=2)
