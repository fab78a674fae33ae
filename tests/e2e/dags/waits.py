"""One DAG for each way in which a wait can go."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param

from airflow_bifrost import BatchRetrieveOperator, BatchSensor


class EndedByAirflow(BatchSensor):
    """Airflow ends its deferral long before its trigger polls again, as it does if no triggerer runs."""

    def defer(self, *, timeout: Any = None, **arguments: Any) -> None:
        super().defer(timeout=timedelta(seconds=15), **arguments)


def waiting_dag(dag_id: str, sensor: type[BatchSensor] = BatchSensor, **sensor_arguments: Any) -> DAG:
    with DAG(
        dag_id,
        schedule=None,
        params={"batch_id": Param(type="string")},
        default_args={"retries": 2, "retry_delay": timedelta(seconds=1), "batch_id": "{{ params.batch_id }}"},
    ) as dag:
        arguments = {"poke_interval": 5, **sensor_arguments}
        sensor(task_id="wait", **arguments)
    return dag


survives = waiting_dag("survives")
with survives:
    survives.get_task("wait") >> BatchRetrieveOperator(task_id="retrieve")
times_out = waiting_dag("times_out", timeout=25)
skips = waiting_dag("skips", soft_fail=True)
cleared = waiting_dag("cleared")
marked = waiting_dag("marked")
marked_and_cancelled = waiting_dag("marked_and_cancelled", cancel_on_kill=True)
ended_by_airflow = waiting_dag("ended_by_airflow", EndedByAirflow, poke_interval=3600)
