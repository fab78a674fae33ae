"""The local gateway as a process that may be killed, and its ledger: which batches it created, with which rows, and how they ended."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
from support.processes import Processes

from airflow_bifrost.testing.model import Row as RequestLine
from endurance.evidence import Batch, SentRow
from endurance.machine import free_port

VERSIONS = ("1.4", "1.5", "2")  # of the gateway, each an upgrade of the one before
_INPUTS = "SELECT batches.seq AS seq, files.blob AS blob FROM batches JOIN files ON files.seq = batches.input_file"
_ENDED_AS = {"ok": "ok", "fail": "failed", "expire": "expired", "missing": "missing", "garble": "garbled"}


class GatewayServer:
    """The gateway's process, its control routes, and what is in its database.

    :param folder: for its state and its copies of inputs.
    :param tokens: the virtual keys that it accepts.
    """

    def __init__(self, folder: Path, processes: Processes, tokens: Sequence[str], batch_seconds: float) -> None:
        folder.mkdir(parents=True)
        self._folder, self._processes = folder, processes
        self._state, self._inputs = folder / "gateway.sqlite", folder / "inputs"
        self._inputs.mkdir()
        self._batch_seconds = batch_seconds
        self._port = free_port()
        self.tokens = list(tokens)
        self.version = VERSIONS[0]
        self.url = f"http://127.0.0.1:{self._port}"
        self._control = httpx.Client(base_url=f"{self.url}/_local", trust_env=False, timeout=10)
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep_inputs, daemon=True)

    def start(self) -> None:
        """Start the gateway; returns when it listens."""
        options = ["--port", str(self._port), "--batch-seconds", str(self._batch_seconds), "--state", str(self._state)]
        options += ["--version", self.version]
        tokens = [part for token in self.tokens for part in ("--virtual-key", token)]
        command = [sys.executable, "-m", "airflow_bifrost.testing", *options, *tokens, "--enforce-auth"]
        process = self._processes.start("gateway", command, env=os.environ, cwd=self._folder, capture=True)
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError(f"the gateway did not start\n{self._processes.log_tail('gateway')}")
        if not self._keeper.is_alive():
            self._keeper.start()

    def kill(self) -> None:
        """SIGKILL the gateway."""
        self._processes.kill("gateway")

    def upgrade(self) -> None:
        """Answer like the next version from the next start on."""
        self.version = VERSIONS[min(VERSIONS.index(self.version) + 1, len(VERSIONS) - 1)]

    def close(self) -> None:
        """Stop copying inputs."""
        self._stop.set()
        if self._keeper.is_alive():
            self._keeper.join()
        self._control.close()

    def add_batch(self, provider: str, rows: int) -> str:
        """Add a batch that runs on the clock, and return its ID."""
        answer = self._control.post("/batches", json={"provider": provider, "rows": rows}).raise_for_status()
        return str(answer.json()["id"])

    def inject(self, faults: Sequence[Mapping[str, Any]]) -> None:
        """Let calls fail until :meth:`clear_faults`."""
        for fault in faults:
            self._control.post("/faults", json={"times": None, **fault}).raise_for_status()

    def clear_faults(self) -> None:
        """Let no call fail anymore."""
        self._control.delete("/faults").raise_for_status()

    def batches(self) -> list[Batch]:
        """Every batch, oldest first, with its rows."""
        shown = self._control.get("/batches").raise_for_status().json()
        with closing(self._open()) as state:
            kept = state.execute("SELECT * FROM batches ORDER BY seq").fetchall()
            fates: dict[int, dict[int, str]] = {}
            for row in state.execute("SELECT batch, row, fate FROM odd_rows"):
                fates.setdefault(row["batch"], {})[row["row"]] = _ENDED_AS[row["fate"]]
        return [self._batch(dict(row), wire, fates.get(row["seq"], {})) for row, wire in zip(kept, shown, strict=True)]

    def _batch(self, kept: dict[str, Any], wire: dict[str, Any], fates: dict[int, str]) -> Batch:
        path = self._inputs / str(kept["seq"])
        lines = path.read_bytes().splitlines() if path.exists() else []
        rows = []
        for number, line in enumerate(line for line in lines if line.strip()):
            asked = RequestLine.read(json.loads(line))
            rows.append(SentRow(asked.custom_id, asked.prompt, fates.get(number, "ok")))
        return Batch(
            id=str(wire["id"]),
            provider=kept["provider"],
            created_at=kept["created_at"],
            rows=tuple(rows),
            readable=len(rows) == kept["rows"],
            cancelled=kept["cancel_at"] is not None,
            status=str(wire.get("status")),
        )

    def _keep_inputs(self) -> None:
        """Copy the input of each new batch: the package deletes it at the provider when the rows are written."""
        while not self._stop.wait(0.3):
            with closing(self._open()) as state:
                for seq, blob in state.execute(_INPUTS):
                    copy, source = self._inputs / str(seq), self._state.with_name(f"{self._state.name}.files") / blob
                    if not copy.exists() and source.exists():
                        os.link(source, copy)

    def _open(self) -> sqlite3.Connection:
        state = sqlite3.connect(f"file:{self._state}?mode=ro", uri=True, timeout=30)
        state.row_factory = sqlite3.Row
        return state
