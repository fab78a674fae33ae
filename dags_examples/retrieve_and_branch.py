"""Branch on a batch's counts.

``BatchRetrieveOperator`` can wait for the batch, and pushes each key of its summary as a separate XCom. Here ``request_counts`` decides the branch, and
``repair`` reads ``error_file_id``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from airflow_bifrost import BatchRetrieveOperator


@dag(
    schedule=None,
    tags=["bifrost"],
    params={
        "batch_id": Param(type="string", minLength=1),
        "tolerated_percent": Param(5, type="number", minimum=0, description="Percentage of rows that may fail"),
    },
    default_args={"retries": 5, "retry_delay": timedelta(minutes=1)},
)
def retrieve_and_branch() -> None:
    batch = BatchRetrieveOperator(
        task_id="retrieve",
        batch_id="{{ params.batch_id }}",
        provider="openai",
        wait_for_completion=True,
    )

    @task.branch
    def choose(counts: dict[str, int | None], params: dict[str, Any]) -> str:
        total, failed = counts["total"] or 0, counts["failed"] or 0
        return "repair" if failed * 100 > total * params["tolerated_percent"] else "publish"

    @task
    def publish(output_file_id: str) -> str:
        return f"publishing {output_file_id}"

    @task
    def repair(error_file_id: str | None) -> str:
        return f"repairing the rows in {error_file_id}"

    branch = choose(batch.output["request_counts"])
    branch >> [publish(batch.output["output_file_id"]), repair(batch.output["error_file_id"])]


pipeline = retrieve_and_branch()
