"""Rows in, rows out, in batches of two rows."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from airflow.sdk import DAG, Param

from airflow_bifrost import BatchRunOperator
from airflow_bifrost.submission.limits import LIMITS

LIMITS["openai"] = replace(LIMITS["openai"], rows=2)  # instead of 50,000: in each process that runs this file's tasks

with DAG(
    "rows",
    schedule=None,
    params={"conn_id": Param(type="string"), "output_path": Param(type="string")},
) as dag:
    BatchRunOperator(
        task_id="run",
        rows=["one", "two", "three", "four", "five"],
        model="echo-1",
        output_path="{{ params.output_path }}",
        bifrost_conn_id="{{ params.conn_id }}",
        poll_interval=2,
        retries=2,  # one more than a kill needs: on a busy machine Airflow may lose a try by itself
        retry_delay=timedelta(seconds=1),
    )
