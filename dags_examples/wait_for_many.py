"""Wait for any number of batches, with one mapped sensor task each, and add up their rows.

A failed batch fails only its own task. A thousand waits are a thousand sleeping triggers, which share one client.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from airflow_bifrost import BatchSensor


@dag(
    schedule=None,
    tags=["bifrost"],
    params={"batch_ids": Param(type="array", items={"type": "string"}, minItems=1)},
    default_args={"retries": 5, "retry_delay": timedelta(minutes=1)},
)
def wait_for_many() -> None:
    @task
    def batch_ids(params: dict[str, Any]) -> list[str]:
        return list(params["batch_ids"])

    @task
    def completed_rows(summaries: list[dict[str, Any]]) -> int:
        return sum(summary["request_counts"]["completed"] or 0 for summary in summaries)

    wait = BatchSensor.partial(
        task_id="wait",
        provider="openai",
        poke_interval=60,
        map_index_template="{{ task.batch_id }}",
    ).expand(batch_id=batch_ids())
    completed_rows(wait.output)


pipeline = wait_for_many()
