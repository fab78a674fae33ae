"""One task that asks a model for many rows, and writes one result for each into a file.

OpenAI takes 50,000 rows in a batch; so it becomes three batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from airflow.sdk import DAG, Param, task

with DAG(
    "rows_in_rows_out",
    schedule=None,
    tags=["bifrost"],
    params={
        "rows": Param(120_000, type="integer", minimum=1),
        "output_path": Param(type="string", minLength=1, description="Where the results go, one JSON object a line"),
    },
) as pipeline:

    @task.bifrost_batch(
        model="gpt-4o-mini",
        output_path="{{ params.output_path }}",
        poll_interval=2,  # seconds, to have something to see in a demo; the default of 60 is right for real batches
        retries=2,
        retry_delay=timedelta(seconds=1),
    )
    def ask(params: dict[str, int]) -> Iterator[str]:
        for number in range(params["rows"]):
            # The local gateway lets rows with !fail fail, so that there is something to see.
            yield "!fail" if number % 40_000 == 39_999 else f"In one sentence: what is special about {number:,}?"

    ask()
