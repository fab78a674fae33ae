"""Rows in, rows out: classify a table of reviews in one batch, and get each answer as a typed object.

The decorated function yields one row per review. Its ``custom_id`` leads from the answer back to the review. The batch may take hours, and
the task sleeps in the triggerer until it has ended.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Literal

from airflow.sdk import ObjectStoragePath, Param, dag, task
from pydantic import BaseModel

from airflow_bifrost.results import read_rows


class Opinion(BaseModel):
    """What a customer thinks of a product."""

    mood: Literal["good", "mixed", "bad"]
    topics: list[str]


@dag(
    schedule=None,
    tags=["bifrost"],
    params={
        "reviews": Param(type="string", minLength=1, description="A CSV with the columns id and text"),
        "folder": Param(type="string", minLength=1, description="Folder for the answers; each run writes its own file"),
    },
    default_args={"retries": 5, "retry_delay": timedelta(minutes=1)},
)
def classify_reviews() -> None:
    @task.bifrost_batch(
        model="gpt-4o-mini",
        system_prompt="You read reviews of products. Say what the customer thinks.",
        output_type=Opinion,
        output_path="{{ params.folder }}/{{ run_id }}.jsonl",
    )
    def classify(params: dict[str, Any]) -> Iterator[dict[str, Any]]:
        with ObjectStoragePath(params["reviews"]).open("r", newline="") as file:
            for review in csv.DictReader(file):
                yield {
                    "custom_id": review["id"],
                    "body": {"messages": [{"role": "user", "content": review["text"]}]},
                }

    @task
    def moods(manifest: dict[str, Any]) -> dict[str, int]:
        rows = read_rows(manifest["output_path"])
        return dict(Counter(row["output"]["mood"] for row in rows if row["outcome"] == "succeeded"))

    moods(classify())


pipeline = classify_reviews()
