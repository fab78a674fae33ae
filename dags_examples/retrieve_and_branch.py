"""Decide by a batch's counts what happens next.

``BatchRetrieveOperator`` waits if it is told to, and pushes each part of the batch's summary as an XCom of its own:
here ``request_counts`` chooses the branch, and the branch that repairs reads ``error_file_id``.
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
        "tolerated_percent": Param(5, type="number", minimum=0, description="Rows that may fail, of a hundred"),
    },
    default_args={"retries": 2, "retry_delay": timedelta(seconds=30)},
)
def retrieve_and_branch() -> None:
    batch = BatchRetrieveOperator(
        task_id="retrieve",
        batch_id="{{ params.batch_id }}",
        provider="openai",
        wait_for_completion=True,
    )

    @task.branch
    def raise_unless_accepted(counts: dict[str, int | None], params: dict[str, Any]) -> str:
        total, failed = counts["total"] or 0, counts["failed"] or 0
        return "repair" if failed * 100 > total * params["tolerated_percent"] else "publish"

    @task
    def publish(output_file_id: str) -> str:
        return f"publishing {output_file_id}"

    @task
    def repair(error_file_id: str | None) -> str:
        return f"repairing what is in {error_file_id}"

    verdict = raise_unless_accepted(batch.output["request_counts"])
    verdict >> [publish(batch.output["output_file_id"]), repair(batch.output["error_file_id"])]


pipeline = retrieve_and_branch()
