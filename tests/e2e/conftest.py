"""One gateway process and one real Airflow for all end-to-end tests; all DAG runs are started at once, since they mostly wait."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.end_to_end import GatewayProcess, Wait
from support.local_airflow import LocalAirflow
from support.processes import Processes

DAGS = Path(__file__).parent / "dags"
RUNNING = {"status": "in_progress", "counts": {"total": 10, "completed": 4, "failed": 1}}


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("gateway")
    with Processes(folder) as processes:
        process = processes.start(
            "gateway", [sys.executable, "-m", "airflow_bifrost.testing"], env=os.environ, cwd=folder, capture=True
        )
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        assert url, processes.log_tail("gateway")
        gateway = GatewayProcess(url)
        yield gateway
        gateway.close()


@pytest.fixture(scope="session")
def airflow(gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    settings = {
        "TMPDIR": str(tmp_path_factory.mktemp("tmp")),  # for what killed tasks leave
        "AIRFLOW_CONN_BIFROST_DEFAULT": json.dumps(gateway.connection()),
        "AIRFLOW__BIFROST__PROGRESS_INTERVAL": "1",
        # A killed triggerer's triggers are taken over when its heartbeat is this old.
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "12",
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
        "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
        # The DAG files do not change.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
    }
    with LocalAirflow(DAGS, env=settings) as airflow:
        yield airflow


@pytest.fixture(scope="session")
def waits(airflow: LocalAirflow, gateway: GatewayProcess) -> dict[str, Wait]:
    """A started run of each DAG in ``dags/waits.py``, by the DAG's id; each waits for a running batch of its own."""
    dag_ids = ("times_out", "survives", "skips", "cleared", "marked", "marked_and_cancelled")
    return {dag_id: Wait.start(airflow, gateway, dag_id, RUNNING) for dag_id in dag_ids}


@pytest.fixture
def short_wait(airflow: LocalAirflow, gateway: GatewayProcess) -> Wait:
    """A run whose deferral Airflow ends after seconds, so it starts with the test that needs it."""
    return Wait.start(airflow, gateway, "ended_by_airflow", RUNNING)
