"""One gateway process and one real Airflow for all end-to-end tests; all DAG runs are started at once, since they mostly wait."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.local_airflow import LocalAirflow
from support.processes import Processes

DAGS = Path(__file__).parent / "dags"
PATIENCE = 90.0  # seconds, for a step that takes five on an idle machine
RUNNING = {"status": "in_progress", "counts": {"total": 10, "completed": 4, "failed": 1}}


class GatewayProcess:
    """The local gateway in another process, through its control routes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=f"{url}/_local", trust_env=False)

    def connection(self) -> dict[str, Any]:
        return {"conn_type": "bifrost", "host": self.url}

    def add_batch(self, **fields: Any) -> str:
        return str(self._send("POST", "/batches", fields).json()["id"])

    def set_batch(self, batch_id: str, **fields: Any) -> None:
        self._send("PATCH", f"/batches/{batch_id}", fields)

    def asked(self, method: str, batch_id: str) -> int:
        """How often there was a request with this method about a batch."""
        requests = self._send("GET", "/requests").json()
        return sum(request["method"] == method and batch_id in request["path"] for request in requests)

    def close(self) -> None:
        self._client.close()

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        return self._client.request(method, path, json=body).raise_for_status()


@dataclass(frozen=True)
class Wait:
    """A DAG run whose task ``wait`` waits for a batch."""

    airflow: LocalAirflow
    dag_id: str
    run_id: str
    batch_id: str

    def reaches(self, states: str | Collection[str], task_id: str = "wait") -> dict[str, Any]:
        return self.airflow.wait_for(self.dag_id, self.run_id, task_id, states, timeout=PATIENCE)

    def instance(self) -> dict[str, Any]:
        return self.airflow.task_instance(self.dag_id, self.run_id, "wait")

    def mark_failed(self) -> None:
        self.airflow.mark(self.dag_id, self.run_id, "wait", "failed")

    def clear(self) -> None:
        self.airflow.clear(self.dag_id, self.run_id, "wait")

    def xcom(self, task_id: str, key: str = "return_value") -> Any:
        return self.airflow.xcom(self.dag_id, self.run_id, task_id, key)

    def xcoms(self, task_id: str) -> dict[str, Any]:
        return self.airflow.xcoms(self.dag_id, self.run_id, task_id)

    def logs(self) -> str:
        return self.airflow.logs(self.dag_id, self.run_id, "wait")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep all end-to-end tests in one process of pytest-xdist, since they share one Airflow."""
    for item in items:
        if DAGS.parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("e2e"))


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
    }
    with LocalAirflow(DAGS, env=settings) as airflow:
        yield airflow


@pytest.fixture(scope="session")
def waits(airflow: LocalAirflow, gateway: GatewayProcess) -> dict[str, Wait]:
    """A started run of each DAG in ``dags/waits.py``, by the DAG's id; each waits for a running batch of its own."""
    waits = {}
    dag_ids = ("times_out", "survives", "skips", "cleared", "marked", "marked_and_cancelled", "ended_by_airflow")
    for dag_id in dag_ids:
        batch_id = gateway.add_batch(**RUNNING)
        waits[dag_id] = Wait(airflow, dag_id, airflow.trigger(dag_id, {"batch_id": batch_id}), batch_id)
    return waits
