"""Wait for a batch that something else submitted, then pass its summary on.

Trigger the DAG with the batch's ID::

    airflow dags trigger wait_for_batch --conf '{"batch_id": "batch_abc123", "provider": "openai"}'

The sensor occupies no worker while the batch is running. The wait survives restarts of the triggerer, retries, and outages of the
gateway.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_bifrost import BatchRetrieveOperator, BatchSensor

with DAG(
    "wait_for_batch",
    schedule=None,
    tags=["bifrost"],
    params={
        "batch_id": Param(type="string", minLength=1, description="ID of the batch, as the gateway returned it"),
        "provider": Param("openai", type="string", description="Model provider of the batch"),
    },
    default_args={"retries": 5, "retry_delay": timedelta(minutes=1)},
) as pipeline:
    wait = BatchSensor(
        task_id="wait",
        batch_id="{{ params.batch_id }}",
        provider="{{ params.provider }}",
        poke_interval=5,  # seconds, to see progress in a demo; keep the default of 60 for real batches
    )
    retrieve = BatchRetrieveOperator(
        task_id="retrieve",
        batch_id="{{ params.batch_id }}",
        provider="{{ params.provider }}",
    )
    wait >> retrieve
