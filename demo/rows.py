"""Rows in, rows out, with a task that is killed twice on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
from itertools import islice
from pathlib import Path
from typing import Any

from gateway import DemoGateway
from rich.console import Console
from rich.table import Table
from support.local_airflow import LocalAirflow
from watching import DemoError, Run

from airflow_bifrost.results import read_rows

DAGS = Path(__file__).parent / "dags"
DAG_ID = "rows_in_rows_out"
ROWS = 120_000
BATCHES = 3
BATCH_SECONDS = 15
PATIENCE_SECONDS = 150.0  # for each step
SHOWN_ROWS = 3


def rows_in_rows_out(airflow: LocalAirflow, gateway: DemoGateway, output: Path, console: Console) -> Run:
    """Run the DAG, kill its task twice, and show the results.

    :raises DemoError: a result is not as promised.
    """
    shutil.rmtree(output.parent, ignore_errors=True)  # left by an earlier demo
    gateway.hold(BATCHES, "POST", "/v1/files")
    conf = {"rows": ROWS, "output_path": str(output)}
    run = Run(airflow, DAG_ID, airflow.trigger(DAG_ID, conf), ["ask"], console)
    console.print(
        f"DAG run: {run.url}\nA task with {ROWS:,} rows: {BATCHES} batches, because OpenAI takes 50,000 per batch"
    )

    run.follow(gateway.is_holding, "the upload of the last batch's rows", PATIENCE_SECONDS)
    kill(run, f"while it uploads the rows of the last batch; {len(gateway.batches())} batches are paid for")

    gateway.hold(1, "GET", "/content")
    run.follow(gateway.is_holding, "the first download of results", PATIENCE_SECONDS)
    kill(run, f"while it downloads results; {len(gateway.batches())} batches are paid for")

    run.follow(run.is_over, "the DAG run to be over", PATIENCE_SECONDS)
    run.must_have_succeeded()
    manifest = airflow.xcom(DAG_ID, run.run_id, "ask")
    check(run, gateway.batches(), manifest, output)
    show(run, gateway.batches(), manifest, output)
    return run


def kill(run: Run, when: str) -> None:
    """Kill the task's process with SIGKILL, as the kernel does when it is out of memory, and wait until Airflow retries the task."""
    task = run.waiter()
    os.kill(task["pid"], signal.SIGKILL)
    run.console.print(f"Killed process {task['pid']} of the task with SIGKILL {when}", style="yellow")
    run.airflow.until(lambda: run.waiter()["try_number"] > task["try_number"], "the retry", PATIENCE_SECONDS)


def check(run: Run, batches: list[dict[str, Any]], manifest: dict[str, Any], output: Path) -> None:
    """:raises DemoError: a row was submitted twice or not at all, or has no result or another row's; or the task was not killed twice."""
    submitted = [batch["rows"] for batch in batches]
    if len(batches) != BATCHES or sum(submitted) != ROWS:
        raise DemoError(f"{ROWS:,} rows were submitted as {len(batches)} batches with {submitted} rows")
    if {batch["id"] for batch in batches} != {batch["batch_id"] for batch in manifest["batches"]}:
        raise DemoError("the batches in the manifest are not those that were created")
    results = 0
    for results, row in enumerate(read_rows(str(output)), start=1):
        if row["custom_id"] != f"row-{results:09}" or row["outcome"] not in ("succeeded", "failed"):
            raise DemoError(f"result {results:,} belongs to {row['custom_id']} and is {row['outcome']}")
        if row["outcome"] == "succeeded" and not row["text"].endswith(f" {results - 1:,}?"):
            raise DemoError(f"result {results:,} answers another row: {row['text']}")
    if results != ROWS or manifest["rows"]["total"] != ROWS:
        raise DemoError(f"there are {results:,} results for {ROWS:,} rows; the manifest has {manifest['rows']}")
    if (attempts := run.waiter()["try_number"]) != 3:
        raise DemoError(f"the task was killed twice, so it should have needed 3 attempts, not {attempts}")


def show(run: Run, batches: list[dict[str, Any]], manifest: dict[str, Any], output: Path) -> None:
    """Print the batches, the manifest and the first rows."""
    created = Table("batch", "rows", "status", title="Batches that were created", title_justify="left")
    for batch in batches:
        created.add_row(batch["id"], f"{batch['rows']:,}", batch["status"])
    run.console.print(created, markup=False, soft_wrap=False)
    run.console.print(
        f"{run.waiter()['try_number']} attempts of the task, {len(batches)} batches. Their rows add up to {ROWS:,}, and each of the"
        f" {ROWS:,} rows has its result, so no row was submitted twice.",
        style="green",
    )
    run.console.print("The manifest, which the task returns:")
    shown = {**manifest, "batches": [f"... {len(manifest['batches'])} summaries ..."]}
    run.console.print(json.dumps(shown, indent=2), markup=False)
    rows = Table("custom_id", "outcome", "text", "total_tokens", title="The first result rows", title_justify="left")
    for row in islice(read_rows(str(output)), SHOWN_ROWS):
        rows.add_row(row["custom_id"], row["outcome"], row["text"], str(row["usage"]["total_tokens"]))
    run.console.print(rows, markup=False, soft_wrap=False)
    run.console.print(f"All results: {output} ({output.stat().st_size / 1e6:.0f} MB)", markup=False)
