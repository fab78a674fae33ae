"""N mapped waits, and one: of this package or of Airflow itself."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from airflow.sdk import DAG

CASE = json.loads(Path(os.environ["BENCH_CASE"]).read_text())  # contender, interval, batch_ids, moments


def waits(first: int, last: int | None) -> None:
    ids = CASE["batch_ids"][first:last]
    if CASE["contender"] == "ours":
        from airflow_bifrost import BatchSensor

        BatchSensor.partial(
            task_id="wait", bifrost_conn_id="bench", provider="openai", poke_interval=CASE["interval"]
        ).expand(batch_id=ids)
    else:
        from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync

        moments = [datetime.fromtimestamp(moment, UTC).isoformat() for moment in CASE["moments"][first:last]]
        DateTimeSensorAsync.partial(task_id="wait").expand(target_time=moments)


with DAG("waits", schedule=None, max_active_tasks=64):
    waits(0, -1)

with DAG("one_wait", schedule=None):  # before the others, so that what is loaded once is loaded
    waits(-1, None)
