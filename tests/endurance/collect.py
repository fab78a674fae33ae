"""Gathers the evidence of a run: from the gateway's ledger, Airflow's database, files and logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from support import tokens
from support.tokens import Sighting

from endurance import logs
from endurance.cluster import Cluster
from endurance.evidence import Evidence, Job, LoggedError, OutputFile, TaskEnd

_NEXT_TASK = """
from airflow_bifrost.worker.scratch import scratch_folder
with scratch_folder():
    pass
"""
TASKS = "SELECT dag_id, run_id, task_id, map_index, state, try_number FROM task_instance ORDER BY run_id, task_id, map_index"
XCOMS = "SELECT run_id, task_id, map_index, key, CAST(value AS text) AS value FROM xcom WHERE key IN ('return_value', 'progress')"
UNFINISHED = "SELECT run_id, state FROM dag_run WHERE state IN ('queued', 'running')"


def gather(cluster: Cluster, evidence: Evidence) -> None:
    """Add everything that the cluster has to the evidence. Airflow must be running, but no task."""
    evidence.batches = cluster.gateway.batches()
    evidence.tasks = [_task(row) for row in cluster.postgres.rows(TASKS)]
    evidence.errors = list(_errors(cluster, evidence.jobs))
    evidence.outputs = {
        job.id: read_output(cluster.store.read(f"out/{job.output}")) for job in evidence.jobs if job.output
    }
    for row in cluster.postgres.rows(XCOMS):
        _add_xcom(evidence, row)
    evidence.leftovers = list(_leftovers(cluster, evidence.jobs))
    evidence.sightings = list(_sightings(cluster))


def read_output(content: bytes | None) -> OutputFile:
    """The rows of a file of results."""
    if content is None:
        return OutputFile(None, "it is not there")
    if content and not content.endswith(b"\n"):
        return OutputFile(None, "its last line has no end")
    try:
        return OutputFile(tuple(json.loads(line) for line in content.splitlines()))
    except ValueError as error:
        return OutputFile(None, f"a line is not JSON: {error}")


def _task(row: Mapping[str, Any]) -> TaskEnd:
    return TaskEnd(row["run_id"], row["task_id"], row["map_index"], row["state"], row["try_number"])


def _add_xcom(evidence: Evidence, row: Mapping[str, Any]) -> None:
    value = json.loads(row["value"])
    if isinstance(value, str) and value.startswith(("{", "[", '"')):  # some routes of Airflow encode a value twice
        value = json.loads(value)
    if row["key"] == "progress":
        evidence.progress[f"{row['run_id']}.{row['task_id']}[{row['map_index']}]"] = value
    elif row["task_id"] == "submit":
        evidence.returned[row["run_id"]] = value


def _errors(cluster: Cluster, jobs: list[Job]) -> Iterator[LoggedError]:
    known = {job.id for job in jobs}
    for path in sorted(path for folder in cluster.log_folders for path in folder.glob("**/attempt=*.log*")):
        job = next((part.removeprefix("run_id=") for part in path.parts if part.startswith("run_id=")), "")
        if job in known:
            yield from logs.task_errors(path, job)
    for component in cluster.components:
        path = cluster.home / f"{component}.log"
        if path.exists():
            yield from logs.component_errors(path)


def _leftovers(cluster: Cluster, jobs: list[Job]) -> Iterator[str]:
    """This package's files in the temporary folders that the next task on that machine does not remove, and files next to the outputs that are not outputs."""
    for folder in (cluster.work / "machines").glob("*/tmp"):
        subprocess.run([sys.executable, "-c", _NEXT_TASK], env={**os.environ, "TMPDIR": str(folder)}, check=True)
        yield from (str(path) for path in sorted(folder.iterdir()) if "bifrost" in path.name)
    wanted = {job.output for job in jobs}
    receipt = "-receipt.json"  # lets a clear find a finished run; it stays on purpose
    for name in cluster.store.names("out"):
        if name not in wanted and not name.endswith(receipt):
            yield f"out/{name}"


def _sightings(cluster: Cluster) -> Iterator[Sighting]:
    """The tokens in AIRFLOW_HOME, in the temporary folders, in the outputs, in the database, and in the answers of the REST API."""
    dump = cluster.work / "database.sql"
    cluster.postgres.dump(dump)
    yield from tokens.sightings("the database", dump.read_bytes(), cluster.tokens)
    for folder in (cluster.home, cluster.work / "machines"):
        yield from tokens.in_files(folder, cluster.tokens)
    for name in cluster.store.names("out"):
        yield from tokens.sightings(name, cluster.store.read(f"out/{name}") or b"", cluster.tokens)
    for path in ("connections", "dags", "importErrors", "eventLogs?limit=1000", "dags/~/dagRuns?limit=1000"):
        answer = cluster.airflow.client.get(f"/api/v2/{path}")
        yield from tokens.sightings(f"GET {path}", answer.content, cluster.tokens)
