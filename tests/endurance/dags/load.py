"""The DAGs of the load. Each DAG run is one job of ``load.py``, which passes everything in ``conf``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_bifrost import BatchDownloadOperator, BatchRunOperator, BatchSensor, BatchSubmitOperator, providers
from airflow_bifrost.results.storage import locate
from airflow_bifrost.submission.ledger.calls import LedgerTiming
from airflow_bifrost.worker import submit

PART_ROWS = 8

# In each process that runs this file's tasks: small batches, and seconds instead of the 10 minutes in which a gateway may repeat a create.
for name, provider in list(providers.ALL.items()):
    providers.ALL[name] = replace(provider, limits=replace(provider.limits, rows=PART_ROWS))
submit.TIMING = LedgerTiming(settle=10.0, late=10.0)

POLL = 3  # seconds
PARAMS: dict[str, Any] = {
    "provider": Param(type="string"),
    "batch_ids": Param([], type="array"),
    "input_path": Param("", type="string"),
    "output_path": Param("", type="string"),
    "request_params": Param({}, type="object"),
    "extra_body": Param({}, type="object"),
    "extra_form": Param({}, type="object"),
}
OPTIONS: dict[str, Any] = {
    "schedule": None,
    "params": PARAMS,
    "max_active_runs": 100,
    "render_template_as_native_obj": True,
    # Airflow itself uses up attempts when its processes die: this run kills them again and again.
    "default_args": {"retries": 20, "retry_delay": timedelta(seconds=3), "provider": "{{ params.provider }}"},
}
ROWS: dict[str, Any] = {
    "model": "echo-1",
    "request_params": "{{ params.request_params }}",
    "extra_body": "{{ params.extra_body }}",
    "extra_form": "{{ params.extra_form }}",
}

with DAG("mapped_wait", **OPTIONS):

    @task
    def batch_ids(params: dict[str, Any]) -> list[str]:
        return list(params["batch_ids"])

    BatchSensor.partial(task_id="wait", poke_interval=POLL).expand(batch_id=batch_ids())

with DAG("list_wait", **OPTIONS):
    BatchSensor(task_id="wait", batch_id="{{ params.batch_ids }}", poke_interval=POLL)

with DAG("reschedule_wait", **OPTIONS):
    BatchSensor(
        task_id="wait", batch_id="{{ params.batch_ids }}", poke_interval=15, deferrable=False, mode="reschedule"
    )

with DAG("poke_wait", **OPTIONS):
    BatchSensor(task_id="wait", batch_id="{{ params.batch_ids }}", poke_interval=POLL, deferrable=False)

with DAG("chain", **OPTIONS):
    submitted = BatchSubmitOperator(task_id="submit", input_path="{{ params.input_path }}", **ROWS)
    batch_id: Any = submitted.output
    BatchSensor(task_id="wait", batch_id=batch_id, poke_interval=POLL) >> BatchDownloadOperator(
        task_id="download", batch_id=batch_id, output_path="{{ params.output_path }}"
    )

with DAG("run", **OPTIONS):
    BatchRunOperator(
        task_id="submit",
        input_path="{{ params.input_path }}",
        output_path="{{ params.output_path }}",
        poll_interval=POLL,
        **ROWS,
    )

with DAG("table", **OPTIONS):
    BatchRunOperator(
        task_id="submit",
        input_path="{{ params.input_path }}",
        prompt="{ask}",
        id_column="number",
        keep=["ask"],
        output_path="{{ params.output_path }}",
        poll_interval=POLL,
        **ROWS,
    )

with DAG("decorated", **OPTIONS):

    @task.bifrost_batch(task_id="submit", output_path="{{ params.output_path }}", poll_interval=POLL, **ROWS)
    def submit_rows(params: dict[str, Any]) -> Iterator[str]:
        path, fs = locate(params["input_path"])
        with fs.open(path.path, "r") as file:
            yield from map(json.loads, file)

    submit_rows()
