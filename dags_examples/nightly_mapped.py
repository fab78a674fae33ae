"""Send the same prompts to several providers every night, with one mapped task each, and compare the results.

Each provider fails, is retried and is shown separately. ``compare`` runs when all of them have ended, whatever their outcome.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from airflow_bifrost import BatchRunOperator

PROVIDERS = [
    {"provider": "openai", "model": "gpt-4o-mini"},
    {"provider": "anthropic", "model": "claude-haiku-4-5", "request_params": {"max_tokens": 500}},
    {"provider": "gemini", "model": "gemini-2.5-flash"},
]


@dag(
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    tags=["bifrost"],
    params={
        "prompts": Param(
            "s3://my-bucket/prompts.jsonl", type="string", description="A JSONL file with one prompt per line"
        ),
        "folder": Param(
            "s3://my-bucket/nightly", type="string", description="Folder for the answers, with a subfolder per run"
        ),
    },
    default_args={"retries": 5, "retry_delay": timedelta(minutes=5)},
)
def nightly_mapped() -> None:
    ask = BatchRunOperator.partial(
        task_id="ask",
        input_path="{{ params.prompts }}",
        output_path="{{ params.folder }}/{{ run_id }}/{{ task.provider }}.jsonl",
        map_index_template="{{ task.provider }}",
    ).expand_kwargs(PROVIDERS)

    @task(trigger_rule="all_done")
    def compare(manifests: Iterable[dict[str, Any]]) -> dict[str, dict[str, int]]:
        return {
            manifest["batches"][0]["provider"]: {
                "succeeded": manifest["rows"]["succeeded"],
                "rows": manifest["rows"]["total"],
                "tokens": manifest["usage"]["total_tokens"],
            }
            for manifest in manifests
        }

    compare(ask.output)


pipeline = nightly_mapped()
