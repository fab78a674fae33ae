"""Wait for batches of any provider with the same sensor. Only ``provider`` differs.

Each provider has its own IDs, statuses and counts. The summaries have the same format.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from airflow_bifrost import BatchSensor

PROVIDERS = ["openai", "azure", "anthropic", "gemini", "bedrock", "vertex"]


@dag(
    schedule=None,
    tags=["bifrost"],
    params={
        "batches": Param(
            type="object",
            propertyNames={"enum": PROVIDERS},
            additionalProperties={"type": "string"},
            minProperties=1,
            description="Model provider to batch ID, as the gateway returned it",
        )
    },
    default_args={"retries": 5, "retry_delay": timedelta(minutes=1)},
)
def every_provider() -> None:
    @task
    def waits(params: dict[str, Any]) -> list[dict[str, str]]:
        return [{"provider": provider, "batch_id": batch_id} for provider, batch_id in params["batches"].items()]

    @task
    def outcomes(summaries: list[dict[str, Any]]) -> dict[str, str]:
        return {summary["provider"]: summary["outcome"] for summary in summaries}

    wait = BatchSensor.partial(
        task_id="wait",
        poke_interval=60,
        map_index_template="{{ task.provider }}",
    ).expand_kwargs(waits())
    outcomes(wait.output)


pipeline = every_provider()
