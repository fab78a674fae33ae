"""The local gateway in another process, and DAG runs that wait for its batches in a real Airflow."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import httpx

from support.local_airflow import LocalAirflow

PATIENCE = 240.0  # seconds, for a step that takes five on an idle machine


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

    @classmethod
    def start(cls, airflow: LocalAirflow, gateway: GatewayProcess, dag_id: str, batch: dict[str, Any]) -> Wait:
        """Start a run of a DAG that waits for a new batch."""
        batch_id = gateway.add_batch(**batch)
        return cls(airflow, dag_id, airflow.trigger(dag_id, {"batch_id": batch_id}), batch_id)

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
