"""One task that sends many rows to a model and writes one result for each to a file.

OpenAI takes 50,000 rows per batch, so the default 120,000 rows become three batches.
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
        "output_path": Param(
            type="string", minLength=1, description="The file for the results, one JSON object per line"
        ),
    },
) as pipeline:

    @task.bifrost_batch(
        model="gpt-4o-mini",
        output_path="{{ params.output_path }}",
        poll_interval=2,  # seconds, so that the demo shows progress; keep the default of 60 for real batches
        retries=2,
        retry_delay=timedelta(seconds=1),
    )
    def ask(params: dict[str, int]) -> Iterator[str]:
        for number in range(params["rows"]):
            # The local gateway fails rows with !fail, so that the results show failed rows, too.
            yield "!fail" if number % 40_000 == 39_999 else f"In one sentence: what is special about {number:,}?"

    ask()
