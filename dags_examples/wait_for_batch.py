"""Wait for a batch that something else has submitted, then hand on what came of it.

Start it with the batch's id::

    airflow dags trigger wait_for_batch --conf '{"batch_id": "batch_abc123", "provider": "openai"}'

The sensor occupies no worker while the batch runs. A restart of the triggerer, a retry or an outage of the gateway
changes nothing about the batch; the wait goes on.
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
        "batch_id": Param(type="string", minLength=1, description="The batch to wait for, as the gateway calls it"),
        "provider": Param("openai", type="string", description="The provider that runs the batch"),
    },
    default_args={"retries": 2, "retry_delay": timedelta(seconds=30)},
) as pipeline:
    wait = BatchSensor(
        task_id="wait",
        batch_id="{{ params.batch_id }}",
        provider="{{ params.provider }}",
        poke_interval=5,  # seconds, to have something to see in a demo; the default of 60 is right for real batches
    )
    retrieve = BatchRetrieveOperator(
        task_id="retrieve",
        batch_id="{{ params.batch_id }}",
        provider="{{ params.provider }}",
    )
    wait >> retrieve
