"""The local gateway in a separate process, and the calls by which the demo controls it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import httpx
from support.processes import ProcessDied, Processes


class DemoGateway:
    """A running local gateway; it stops with ``processes``.

    :param batch_seconds: seconds from the creation of a batch to its end.
    """

    def __init__(self, processes: Processes, scratch: Path, batch_seconds: float) -> None:
        command = [
            sys.executable,
            "-m",
            "airflow_bifrost.testing",
            "--port",
            "0",
            "--batch-seconds",
            str(batch_seconds),
        ]
        state = ["--state", str(scratch / "gateway.sqlite")]
        process = processes.start("gateway", [*command, *state], env=os.environ, cwd=scratch, capture=True)
        assert process.stdout is not None
        self.url = process.stdout.readline().decode().strip()  # the one line that it prints
        if not self.url:
            raise ProcessDied(f"the local gateway did not start\n{processes.log_tail('gateway')}")

    def hold(self, number: int, method: str, path_contains: str) -> None:
        """Delay the answer to the n-th matching call for ten minutes, longer than its caller lives."""
        call = {"method": method, "path_contains": path_contains}
        if number > 1:
            self._ask("POST", "/faults", {**call, "delay": 0.001, "times": number - 1})
        self._ask("POST", "/faults", {**call, "delay": 600})

    def is_holding(self) -> bool:
        """Whether the call that :meth:`hold` delays has arrived."""
        return not self._ask("GET", "/faults").json()

    def batches(self) -> list[dict[str, Any]]:
        """Every batch that was created, and so is paid for."""
        batches: list[dict[str, Any]] = self._ask("GET", "/batches").json()
        return batches

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        url = f"{self.url}/_local{path}"
        return httpx.request(method, url, json=body, timeout=30, trust_env=False).raise_for_status()
