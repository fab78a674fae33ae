"""Submit, wait and download in separate tasks, and submit rows again that have not succeeded.

``BatchRunOperator`` does this on its own for rows that failed with a transient error. Here the DAG decides which rows to send again.
Each row of the input is a batch line with a ``custom_id``. If all rows have succeeded, ``submit_again`` and the tasks after it are skipped.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from airflow.sdk import ObjectStoragePath, Param, dag, task

from airflow_bifrost import BatchDownloadOperator, BatchSensor, BatchSubmitOperator
from airflow_bifrost.results import read_rows

ANY_ROWS = ("succeeded", "partial", "failed", "expired")


@dag(
    schedule=None,
    tags=["bifrost"],
    params={
        "input_path": Param(type="string", minLength=1, description="A JSONL file of batch lines"),
        "folder": Param(type="string", minLength=1, description="Folder for the results, with a subfolder per run"),
    },
    default_args={"retries": 5, "retry_delay": timedelta(minutes=1)},
)
def resubmit_failed_rows() -> None:
    folder = "{{ params.folder }}/{{ run_id }}"

    submit = BatchSubmitOperator(task_id="submit", input_path="{{ params.input_path }}", model="gpt-4o-mini")
    wait = BatchSensor(task_id="wait", batch_id=submit.output, accept=ANY_ROWS)
    download = BatchDownloadOperator(task_id="download", batch_id=submit.output, output_path=f"{folder}/first.jsonl")

    @task
    def pick(results: str, again: str, params: dict[str, Any]) -> str:
        """Write the input lines that have not succeeded, and return the path. Rows do not belong in XComs."""
        done = {row["custom_id"] for row in read_rows(results) if row["outcome"] == "succeeded"}
        with ObjectStoragePath(params["input_path"]).open() as lines, ObjectStoragePath(again).open("w") as file:
            file.writelines(line for line in lines if json.loads(line)["custom_id"] not in done)
        return again

    failed = pick(download.output["output_path"], again=f"{folder}/again.jsonl")
    submit_again = BatchSubmitOperator(task_id="submit_again", input_path=failed, model="gpt-4o-mini")
    wait_again = BatchSensor(task_id="wait_again", batch_id=submit_again.output, accept=ANY_ROWS)
    download_again = BatchDownloadOperator(
        task_id="download_again", batch_id=submit_again.output, output_path=f"{folder}/second.jsonl"
    )

    wait >> download
    wait_again >> download_again


pipeline = resubmit_failed_rows()
