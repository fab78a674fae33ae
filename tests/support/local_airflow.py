"""A real Airflow on this machine, for the demo and for end-to-end tests.

Scheduler, DAG processor, triggerer and API server run as separate processes on SQLite with the LocalExecutor, in an
AIRFLOW_HOME of their own; nothing of the user's Airflow is read or changed. The tests talk to it over its REST API.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import httpx

from support.processes import Processes

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

T = TypeVar("T")

COMPONENTS: dict[str, list[str]] = {
    "api-server": ["api-server", "--host", "127.0.0.1", "--workers", "1"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
"""Arguments of the ``airflow`` command for each component."""

FINISHED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
"""States in which a task instance stays."""

_START_SECONDS = 180.0
_POLL_SECONDS = 0.5
LOCKED_PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds before asking again


class LocalAirflowError(RuntimeError):
    """Airflow did not do what was asked of it. The message ends with the last lines of its components' logs."""


class LocalAirflow:
    """A running Airflow, as a context manager.

    However the owner ends (return, exception, Ctrl-C, SIGTERM, SIGKILL), all processes end within about ten seconds.

    :param dags_folder: the folder with the DAG files.
    :param env: environment variables for all components, e.g. ``AIRFLOW_CONN_...`` or ``AIRFLOW__TRIGGERER__...``;
        they win over the settings of this class. The caller's own ``AIRFLOW...`` variables are not passed on.
    :param home: the AIRFLOW_HOME; kept afterwards. None: a temporary one, deleted by :meth:`stop`.
    :param components: arguments of the ``airflow`` command by the name of the component, e.g. for a second scheduler.
    :param component_env: returns environment variables for one component alone.
    """

    def __init__(
        self,
        dags_folder: str | Path,
        env: Mapping[str, str] | None = None,
        home: str | Path | None = None,
        components: Mapping[str, list[str]] = COMPONENTS,
        component_env: Callable[[str], Mapping[str, str]] = lambda component: {},
    ) -> None:
        self._components = components
        self._component_env = component_env
        self._dags_folder = Path(dags_folder).resolve()
        self._given_env = dict(env or {})
        self._given_home = Path(home).resolve() if home is not None else None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def home(self) -> Path:
        """The AIRFLOW_HOME, once it has started."""
        return self._home

    def start(self) -> Self:
        """Create the database, start the components and return when all of them are healthy.

        :raises LocalAirflowError: if one of them is not, after three minutes.
        :raises ProcessDied: if one of them ended.
        """
        with ExitStack() as stack:
            self._home = self._make_home(stack)
            port = _free_port()
            self.url = f"http://127.0.0.1:{port}"
            self._env = self._make_env(port)
            self._processes = stack.enter_context(Processes(self._home))
            self.client = stack.enter_context(httpx.Client(base_url=self.url, timeout=30, trust_env=False))
            self.cli("db", "migrate")
            for component in self._components:
                self.start_component(component)
            self.until(self._healthy, "Airflow to be healthy", _START_SECONDS)
            self.client.headers["Authorization"] = f"Bearer {self.client.get('/auth/token').json()['access_token']}"
            self._stack = stack.pop_all()
        return self

    def stop(self) -> None:
        """End all processes and delete a temporary home. May be called twice."""
        self._stack.close()

    def start_component(self, component: str) -> None:
        """Start one of the components, e.g. again after :meth:`kill`; does not wait until it is healthy."""
        command, env = self._command(*self._components[component]), {**self._env, **self._component_env(component)}
        self._processes.start(component, command, env=env, cwd=self._home)

    def kill(self, component: str) -> None:
        """SIGKILL a component with all of its processes."""
        self._processes.kill(component)

    def signal(self, component: str, number: int) -> None:
        """Send a signal to a component and all of its processes, e.g. SIGSTOP."""
        self._processes.signal(component, number)

    def ended(self) -> list[str]:
        """Return the components that have ended by themselves."""
        return self._processes.ended()

    def pids(self, component: str) -> list[int]:
        """Return the IDs of a component's processes, including those of its tasks; empty after a kill."""
        return self._processes.pids(component)

    def cli(self, *arguments: str, timeout: float = 120) -> str:
        """Run the ``airflow`` command in this Airflow's environment and return its stdout.

        :param timeout: seconds.
        :raises LocalAirflowError: if it fails.
        """
        result = subprocess.run(
            self._command(*arguments), env=self._env, cwd=self._home, capture_output=True, text=True, timeout=timeout
        )
        if result.returncode:
            raise LocalAirflowError(f"airflow {' '.join(arguments)}: exit code {result.returncode}\n{result.stderr}")
        return result.stdout

    def request(self, method: str, path: str, **options: Any) -> Any:
        """Send a request to the API server and return the decoded JSON of its answer.

        Ask again if SQLite was locked; nothing was done then. The API server writes its audit log in the event loop, and may wait there
        for a task's transaction that cannot end without the loop (``airflow.api_fastapi.logging.decorators``, Airflow 3.3).

        :param path: the full path, e.g. ``/api/v2/providers``.
        :param options: what ``httpx.Client.request`` takes, e.g. ``params`` or ``json``.
        :raises LocalAirflowError: if the answer is an error.
        """
        response = self.client.request(method, path, **options)
        for pause in LOCKED_PAUSES:
            if response.status_code != httpx.codes.INTERNAL_SERVER_ERROR or "Database error" not in response.text:
                break
            time.sleep(pause)
            response = self.client.request(method, path, **options)
        if response.is_error:
            raise self._error(f"{method} {path}: {response.status_code} {response.text}")
        return response.json()

    def trigger(
        self, dag_id: str, conf: Mapping[str, Any] | None = None, run_id: str | None = None, timeout: float = 60
    ) -> str:
        """Unpause a DAG, start a run of it and return the run's id.

        :param timeout: seconds that the DAG processor may take to find the DAG.
        """
        dag = f"/api/v2/dags/{quote(dag_id)}"
        self.until(lambda: self._dag_is_there(dag), f"the DAG {dag_id}", timeout)
        self.request("PATCH", dag, json={"is_paused": False})
        body: dict[str, Any] = {"logical_date": None, "conf": dict(conf or {})}
        if run_id is not None:
            body["dag_run_id"] = run_id
        return str(self.request("POST", f"{dag}/dagRuns", json=body)["dag_run_id"])

    def run_url(self, dag_id: str, run_id: str) -> str:
        """Return the address of a DAG run in the UI."""
        return f"{self.url}/dags/{quote(dag_id)}/runs/{quote(run_id, safe='')}"

    def dag_run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return a DAG run as the API describes it."""
        return dict(self.request("GET", _run_path(dag_id, run_id)))

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """Return a task instance as the API describes it."""
        return dict(self.request("GET", _task_path(dag_id, run_id, task_id, map_index)))

    def wait_for(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        states: str | Collection[str],
        timeout: float,
        map_index: int = -1,
    ) -> dict[str, Any]:
        """Wait until a task instance is in one of the states, and return it.

        :param timeout: seconds.
        :raises LocalAirflowError: after the timeout, or as soon as the task has finished in another state.
        """
        wanted = {states} if isinstance(states, str) else set(states)

        def reached() -> dict[str, Any] | None:
            instance = self.task_instance(dag_id, run_id, task_id, map_index)
            if instance["state"] in wanted:
                return instance
            if instance["state"] in FINISHED:
                logs = self.logs(dag_id, run_id, task_id, map_index=map_index)
                raise self._error(f"{dag_id}.{task_id} is {instance['state']}, not {sorted(wanted)}\n{logs}")
            return None

        return self.until(reached, f"{dag_id}.{task_id} to be in {sorted(wanted)}", timeout)

    def until(self, condition: Callable[[], T | None], what: str, timeout: float) -> T:
        """Ask again and again until the condition gives something true, and return that.

        :param what: what is waited for, in words.
        :param timeout: seconds; ``math.inf`` for no limit.
        :raises LocalAirflowError: after the timeout.
        :raises ProcessDied: as soon as a component has ended.
        """
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            self._processes.check()
            if time.monotonic() > deadline:
                raise self._error(f"waited {timeout:.0f} s for {what}")
            time.sleep(_POLL_SECONDS)
        return value

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """Return the value of an XCom, or None if there is none."""
        path = f"{_task_path(dag_id, run_id, task_id)}/xcomEntries/{quote(key)}"
        response = self.client.get(path, params={"map_index": map_index})
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        if response.is_error:
            raise self._error(f"GET {path}: {response.status_code} {response.text}")
        return response.json()["value"]

    def xcoms(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Return all XComs of a task instance that is not mapped, by key."""
        entries = self.request("GET", f"{_task_path(dag_id, run_id, task_id)}/xcomEntries")["xcom_entries"]
        return {entry["key"]: self.xcom(dag_id, run_id, task_id, entry["key"]) for entry in entries}

    def mark(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Set a task instance to ``success``, ``failed`` or ``skipped``, as the button in the UI does."""
        self.request("PATCH", _task_path(dag_id, run_id, task_id), json={"new_state": state})

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Clear a task instance, as the button in the UI does."""
        body = {"dry_run": False, "only_failed": False, "dag_run_id": run_id, "task_ids": [task_id]}
        self.request("POST", f"/api/v2/dags/{quote(dag_id)}/clearTaskInstances", json=body)

    def logs(self, dag_id: str, run_id: str, task_id: str, try_number: int | None = None, map_index: int = -1) -> str:
        """Return the log of one try of a task instance (None: of its last): a line per event, errors included."""
        if try_number is None:
            try_number = self.task_instance(dag_id, run_id, task_id, map_index)["try_number"]
        path = f"{_task_path(dag_id, run_id, task_id)}/logs/{try_number}"
        answer = self.request(
            "GET",
            path,
            params={"map_index": map_index, "full_content": True},
            headers={"Accept": "application/json"},
        )
        content = answer["content"]
        return content if isinstance(content, str) else "\n".join(map(_log_line, content))

    def _make_home(self, stack: ExitStack) -> Path:
        if self._given_home is not None:
            self._given_home.mkdir(parents=True, exist_ok=True)
            return self._given_home
        home = Path(tempfile.mkdtemp(prefix="local-airflow-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        return home

    def _make_env(self, port: int) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if "AIRFLOW" not in name.upper()}
        no_proxy = ",".join(
            filter(None, ["127.0.0.1,localhost", inherited.get("NO_PROXY") or inherited.get("no_proxy")])
        )
        settings = {
            "CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
            "CORE__DAGS_FOLDER": str(self._dags_folder),
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__HOSTNAME_CALLABLE": "socket.gethostname",
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__PARALLELISM": "4",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "CORE__TEST_CONNECTION": "Enabled",
            "API__BASE_URL": self.url,
            "API__PORT": str(port),
            "API__SECRET_KEY": secrets.token_hex(16),
            "API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "LOGGING__COLORED_CONSOLE_LOG": "False",
            "USAGE_DATA_COLLECTION__ENABLED": "False",
        }
        return {
            **inherited,
            "AIRFLOW_HOME": str(self._home),
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
            "NO_PROXY": no_proxy,
            "no_proxy": no_proxy,
            "PYTHONUNBUFFERED": "1",
            **self._given_env,
        }

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "airflow", *arguments]

    def _healthy(self) -> bool:
        try:
            response = self.client.get("/api/v2/monitor/health")
        except httpx.TransportError:
            return False
        if response.is_error:
            return False
        health = response.json()
        parts = ("metadatabase", "scheduler", "dag_processor", "triggerer")
        return all(health[part]["status"] == "healthy" for part in parts)

    def _dag_is_there(self, dag_path: str) -> bool:
        if self.client.get(dag_path).is_success:
            return True
        broken = self.request("GET", "/api/v2/importErrors")["import_errors"]
        if broken:
            raise self._error("\n".join(f"{each['filename']}: {each['stack_trace']}" for each in broken))
        return False

    def _error(self, message: str) -> LocalAirflowError:
        tails = [self._processes.log_tail(component) for component in self._components]
        return LocalAirflowError("\n".join([message, *tails]))


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}"


def _task_path(dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str:
    path = f"{_run_path(dag_id, run_id)}/taskInstances/{quote(task_id)}"
    return path if map_index < 0 else f"{path}/{map_index}"


def _log_line(entry: dict[str, Any]) -> str:
    parts = [entry.get("timestamp"), entry.get("level"), entry["event"]]
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or ()]
    return " ".join(str(part) for part in (*parts, *errors) if part)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
