"""Rows in, rows out, in batches of two rows; a file ``<output>.hold`` holds the task when it has written the output and not named it yet."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param

from airflow_bifrost import BatchRunOperator, providers
from airflow_bifrost.results import storage
from airflow_bifrost.submission.ledger.calls import LedgerTiming
from airflow_bifrost.worker import submit

# In each process that runs this file's tasks:
openai = providers.get("openai")
providers.ALL["openai"] = replace(openai, limits=replace(openai.limits, rows=2))  # instead of 50,000
# Seconds; instead of the 10 minutes in which a gateway may repeat a create.
submit.TIMING = LedgerTiming(settle=10.0, late=10.0)
rename = storage._rename


def held(fs: Any, part: str, path: str) -> None:
    hold = Path(f"{path}.hold")
    if hold.exists():
        Path(f"{path}.held").touch()
    while hold.exists():
        time.sleep(0.05)
    rename(fs, part, path)


storage._rename = held

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
