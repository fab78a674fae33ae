"""Embed the documents of a JSONL file of any size. The operator splits what is too large for one batch.

Each line is a JSON string, or a whole batch line with your own ID::

    "The first document."
    {"custom_id": "doc-2", "body": {"input": "The second document."}}
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Param, dag, task

from airflow_bifrost import BatchRunOperator
from airflow_bifrost.results import read_rows


@dag(
    schedule=None,
    tags=["bifrost"],
    params={
        "documents": Param(type="string", minLength=1, description="A JSONL file"),
        "folder": Param(type="string", minLength=1, description="Folder for the vectors; each run writes its own file"),
    },
    default_args={"retries": 5, "retry_delay": timedelta(minutes=1)},
)
def embed_documents() -> None:
    embed = BatchRunOperator(
        task_id="embed",
        input_path="{{ params.documents }}",
        output_path="{{ params.folder }}/{{ run_id }}.jsonl",
        endpoint="/v1/embeddings",
        model="text-embedding-3-small",
        request_params={"dimensions": 256},
    )

    @task
    def load(output_path: str) -> int:
        vectors = {
            row["custom_id"]: row["response"]["data"][0]["embedding"]
            for row in read_rows(output_path)
            if row["outcome"] == "succeeded"
        }
        return len(vectors)  # load them into a vector store here

    load(embed.output["output_path"])


pipeline = embed_documents()
