"""The whole cluster of a run, on loopback: PostgreSQL, the gateway, Airflow with several schedulers and triggerers, and with Celery also
Redis, S3 and two workers."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil
from support.local_airflow import COMPONENTS, LocalAirflow
from support.processes import Processes

from endurance import clock
from endurance.disk import SmallDisk
from endurance.evidence import Sample
from endurance.gateway import GatewayServer
from endurance.postgres import Postgres
from endurance.redis import start_redis
from endurance.store import local_store, s3_store

DAGS = Path(__file__).parent / "dags"
CONNECTION = "bifrost_default"

_SETTINGS = {
    "BIFROST__PROGRESS_INTERVAL": "1",
    "CORE__PARALLELISM": "8",
    "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "120",
    # What docs/operations.md recommends, so that an attempt outlives the API server's absence.
    "WORKERS__EXECUTION_API_RETRIES": "12",
    "WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "15",
    "WORKERS__EXECUTION_API_TIMEOUT": "30",
    "WORKERS__MAX_FAILED_HEARTBEATS": "40",
    # Minutes instead of Airflow's five, after which the tasks of dead processes start again.
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
    "SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "5",
    "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
    "TRIGGERER__JOB_HEARTBEAT_SEC": "2",
}


_API_SECONDS = 120.0  # that the API server may take to start

_NO_LOGS = ["--skip-serve-logs"]
_RUNS_TASKS = {"local": "scheduler", "celery": "worker"}

_CELERY = {
    "CORE__EXECUTOR": "CeleryExecutor",
    "CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
    "CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "300",
    # A killed worker takes the tasks that it had fetched with it.
    "SCHEDULER__TASK_QUEUED_TIMEOUT": "40",
    "SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
    "SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES": "50",
}


class Cluster:
    """Starts everything, and stops it however the run ends.

    :param work: the folder for all of it.
    :param executor: ``local``: the schedulers run the tasks; ``celery``: the same number of workers run them, each with its own home.
    :param instances: the number of schedulers, of triggerers and of workers.
    """

    def __init__(self, work: Path, *, executor: str, instances: int, batch_seconds: float) -> None:
        self.work = work
        self.home = work / "airflow"
        self.tokens = [f"sk-bf-endurance-{secrets.token_hex(20)}" for _ in range(2)]
        self._executor, self._batch_seconds = executor, batch_seconds
        numbers = range(1, instances + 1)
        self.components = {
            "api-server": COMPONENTS["api-server"],
            "dag-processor": COMPONENTS["dag-processor"],
            **{f"scheduler-{number}": COMPONENTS["scheduler"] for number in numbers},
            **{f"triggerer-{number}": COMPONENTS["triggerer"] for number in numbers},
        }
        if executor == "celery":
            for number in numbers:
                name = ["--celery-hostname", f"worker-{number}@%h"]
                self.components[f"worker-{number}"] = ["celery", "worker", "--concurrency", "4", *_NO_LOGS, *name]
        self.runs_tasks = [name for name in self.components if name.startswith(_RUNS_TASKS[executor])]
        self.clocked = "triggerer-1" if clock.library() else None
        self.disk: SmallDisk | None = None
        self._starts = dict.fromkeys(self.components, 1)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.work.chmod(0o755)  # PostgreSQL's server may run as another user
            for folder in (self.home, self.work / "servers"):
                folder.mkdir()
            self.processes = stack.enter_context(Processes(self.work / "servers"))
            self.postgres = Postgres(self.work / "postgres", self.processes)
            stack.callback(self.postgres.close)
            self.gateway = GatewayServer(self.work / "gateway", self.processes, self.tokens, self._batch_seconds)
            stack.callback(self.gateway.close)
            self.gateway.start()
            env = self._settings()
            if SmallDisk.available():
                self.disk = SmallDisk(Path(self.machine_of(self.small_disk)["TMPDIR"]))
                stack.callback(self.disk.close)
            dags = shutil.copytree(DAGS, self.work / "dags")  # a change of the checkout does not change the run
            self.airflow = LocalAirflow(
                dags, env=env, home=self.home, components=self.components, component_env=self.machine_of
            )
            stack.enter_context(self.airflow)
            self.put_connection(self.tokens[0])
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _settings(self) -> dict[str, str]:
        settings = {**_SETTINGS, "CORE__FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode()}
        if self._executor == "celery":
            self.store = s3_store(self.processes)
            settings |= {**_CELERY, "CELERY__BROKER_URL": start_redis(self.work / "redis", self.processes)}
            settings["CELERY__RESULT_BACKEND"] = f"db+{self.postgres.url}"
        else:
            self.store = local_store(self.work / "shared")
        named = {f"AIRFLOW__{name}": value for name, value in settings.items()}
        return {**self.postgres.settings, **self.store.env, **named}

    @property
    def small_disk(self) -> str:
        """The component whose temporary folder is a small disk."""
        return self.runs_tasks[-1]

    def left_out(self) -> list[str]:
        """The events that are impossible on this machine, and what would make them possible."""
        found = []
        if self.disk is None:
            found.append("no disk is full: only root may mount a small one")
        if self.clocked is None:
            found.append("no clock jumps: libfaketime is not installed (apt-get install libfaketime)")
        return found

    # Components

    def machine_of(self, component: str) -> dict[str, str]:
        """The environment of a component's machine: folders that no other component has, and perhaps a clock."""
        folder = self.work / "machines" / component
        for name in ("tmp", "home"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        env = {"TMPDIR": str(folder / "tmp"), "HOME": str(folder / "home")}
        if component.startswith("worker"):
            env["AIRFLOW_HOME"] = str(folder / "airflow")
        if component == self.clocked and (preload := clock.library()):
            env |= clock.environment(preload, self.clock_file)
        return env

    @property
    def clock_file(self) -> Path:
        """The file that sets the clock of the component that has its own."""
        return self.work / "clock"

    @property
    def log_folders(self) -> list[Path]:
        """The folders with the logs of tasks."""
        return [self.home / "logs", *(self.work / "machines").glob("*/airflow/logs")]

    def restart(self, component: str) -> None:
        """Start a component that was killed."""
        self._starts[component] += 1
        self.airflow.start_component(component)

    def revive(self) -> list[str]:
        """Restart the components that have ended by themselves, as systemd or Kubernetes does, and return them.

        Airflow's components end when their database is down.
        """
        ended = self.airflow.ended()
        for component in ended:
            self.restart(component)
        return ended

    def task_processes(self, component: str) -> list[int]:
        """The processes of a scheduler or a worker that run a task's code."""
        return [pid for pid in self.airflow.pids(component) if _title(pid).startswith("airflow worker -- 0")]

    def sample(self, now: float) -> list[Sample]:
        """The memory of each component at this moment."""
        found = []
        for component, incarnation in self._starts.items():
            if component.startswith(("scheduler", "worker")):
                continue  # their tasks come and go
            if size := sum(map(_memory, self.airflow.pids(component))):
                found.append(Sample(component, incarnation, now, size))
        return found

    # The connection

    def put_connection(self, token: str) -> None:
        """Set the token of the connection, and create the connection if it does not exist."""
        body = {"connection_id": CONNECTION, "conn_type": "bifrost", "host": self.gateway.url, "password": token}
        if not self._ask("PATCH", f"/api/v2/connections/{CONNECTION}", json=body):
            self._ask("POST", "/api/v2/connections", json=body)

    def delete_connection(self) -> None:
        """Delete the connection."""
        self._ask("DELETE", f"/api/v2/connections/{CONNECTION}")

    def _ask(self, method: str, path: str, **options: Mapping[str, object]) -> bool:
        """Send a request as soon as the API server answers, and return whether its object exists."""
        deadline = time.monotonic() + _API_SECONDS
        while True:
            self.revive()
            try:
                answer = self.airflow.client.request(method, path, **options)
                break
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return False
        answer.raise_for_status()
        return True


def _title(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def _memory(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
