"""Cancel a late batch, and continue with the rows that were done by then.

The sensor gives up after ``timeout``, but the batch would keep running. So ``cancel`` runs if the wait has failed for any reason. It does
nothing to a batch that has already ended. ``end`` runs in both cases and pushes the summary of how the batch ended.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_bifrost import BatchCancelOperator, BatchRetrieveOperator, BatchSensor

with DAG(
    "cancel_when_late",
    schedule=None,
    tags=["bifrost"],
    params={
        "batch_id": Param(type="string", minLength=1, description="ID of the batch, as the gateway returned it"),
        "provider": Param("openai", type="string", description="Model provider of the batch"),
    },
    default_args={
        "batch_id": "{{ params.batch_id }}",
        "provider": "{{ params.provider }}",
        "retries": 5,
        "retry_delay": timedelta(minutes=1),
    },
) as pipeline:
    wait = BatchSensor(task_id="wait", timeout=timedelta(hours=6))
    cancel = BatchCancelOperator(task_id="cancel", trigger_rule="all_failed")
    end = BatchRetrieveOperator(
        task_id="end",
        wait_for_completion=True,
        accept=("succeeded", "partial", "cancelled"),
        trigger_rule="none_failed",
    )
    wait >> cancel >> end
