"""A table in, typed answers out: classify each row of CSV or Parquet files, and carry its columns into the results.

``prompt`` names columns in braces, ``id_column`` identifies a row, and ``keep`` carries columns along. The task reads the files as a stream, so
they may be larger than the worker's memory.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any, Literal

from airflow.sdk import Param, dag, task
from pydantic import BaseModel

from airflow_bifrost import BatchRunOperator
from airflow_bifrost.results import read_rows


class Opinion(BaseModel):
    """What a customer thinks of a product."""

    mood: Literal["good", "mixed", "bad"]
    topics: list[str]


@dag(
    schedule=None,
    tags=["bifrost"],
    params={
        "reviews": Param(
            type="string", minLength=1, description="A file, a folder or a pattern, such as s3://bucket/reviews-*.csv"
        ),
        "folder": Param(type="string", minLength=1, description="Folder for the answers; each run writes its own file"),
        "language": Param("English", type="string"),
    },
    default_args={"retries": 5, "retry_delay": timedelta(minutes=1)},
)
def classify_table() -> None:
    classify = BatchRunOperator(
        task_id="classify",
        input_path="{{ params.reviews }}",
        prompt="What does this customer think of the product {product}? {text}",
        id_column="id",
        keep=["product"],
        model="gpt-4o-mini",
        system_prompt="You read reviews of products. Answer in {{ params.language }}.",
        output_type=Opinion,
        output_path="{{ params.folder }}/{{ run_id }}.jsonl",
    )

    @task
    def moods_by_product(manifest: dict[str, Any]) -> dict[str, dict[str, int]]:
        moods: dict[str, Counter[str]] = {}
        for row in read_rows(manifest["output_path"]):
            if row["outcome"] == "succeeded":
                moods.setdefault(row["source"]["product"], Counter())[row["output"]["mood"]] += 1
        return {product: dict(counts) for product, counts in moods.items()}

    moods_by_product(classify.output)


pipeline = classify_table()
