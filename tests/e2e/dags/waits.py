"""One DAG for each way in which a wait can go."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param

from airflow_bifrost import BatchRetrieveOperator, BatchSensor


def waiting_dag(dag_id: str, **sensor_arguments: Any) -> DAG:
    with DAG(
        dag_id,
        schedule=None,
        params={"batch_id": Param(type="string")},
        default_args={"retries": 2, "retry_delay": timedelta(seconds=1), "batch_id": "{{ params.batch_id }}"},
    ) as dag:
        BatchSensor(task_id="wait", poke_interval=5, **sensor_arguments) >> BatchRetrieveOperator(task_id="retrieve")
    return dag


survives = waiting_dag("survives")
times_out = waiting_dag("times_out", timeout=25)
skips = waiting_dag("skips", soft_fail=True)
cleared = waiting_dag("cleared")
marked = waiting_dag("marked")
marked_and_cancelled = waiting_dag("marked_and_cancelled", cancel_on_kill=True)
