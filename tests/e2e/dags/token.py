"""Everything that reads an answer of the gateway, on batches of the gateway that repeats the token."""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_bifrost import (
    BatchCancelOperator,
    BatchDownloadOperator,
    BatchRetrieveOperator,
    BatchRunOperator,
    BatchSensor,
    BatchSubmitOperator,
    BifrostHook,
)
from airflow_bifrost.exceptions import BifrostError

IDS = [
    *("batch_done", "batch_failed", "batch_html", "batch_text", "batch_redirect", "batch_other", "batch_list"),
    *(f"batch_{status}" for status in (400, 401, 402, 403, 404, 409, 418, 429, 500, 503)),
]
ROWS: dict[str, Any] = {"rows": ["one", "two", "three"], "model": "echo-1"}

with DAG(
    "token",
    schedule=None,
    params={"folder": Param(type="string")},
    default_args={"bifrost_conn_id": "echoing"},
    max_active_tasks=3,
):
    BatchSensor(task_id="wait", batch_id="batch_running", poke_interval=2, timeout=60)
    BatchRetrieveOperator.partial(task_id="retrieve").expand(batch_id=["batch_done", "batch_400"])
    BatchCancelOperator(task_id="cancel", batch_id="batch_done")
    BatchDownloadOperator(task_id="download", batch_id="batch_html", output_path="{{ params.folder }}/download.jsonl")
    BatchSubmitOperator(task_id="submit", metadata={"note": "echo the id"}, **ROWS)
    BatchRunOperator(task_id="run", output_path="{{ params.folder }}/run.jsonl", poll_interval=2, **ROWS)

    @task
    def answers() -> dict[str, Any]:
        """What each answer becomes: a batch, or an error in the log. In one task, since a task costs seconds."""
        hook, found = BifrostHook("echoing"), {}
        for batch_id in IDS:
            try:
                found[batch_id] = hook.get_batch(batch_id).model_dump(mode="json")
            except BifrostError:
                logging.getLogger("airflow.task").exception("%s", batch_id)
        return found

    answers()
