"""Rows in, rows out in a real Airflow: whatever is killed on the way, and whenever, each row is paid for once and has its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.local_airflow import LocalAirflow

from airflow_bifrost.results import read_rows
from airflow_bifrost.testing import Fault, LocalGateway

PATIENCE = 240.0  # seconds, for a step that takes five on an idle machine
TEXTS = [f"echo: {word}" for word in ("one", "two", "three", "four", "five")]
PARTS = [2, 2, 1]  # rows of each
UPLOAD = ("POST", "/v1/files")  # method, end of the path
CREATE = ("POST", "/v1/batches")
LIST = ("GET", "/v1/batches")
DOWNLOAD = ("GET", "/content")


@dataclass(frozen=True)
class Run:
    """A DAG run with a gateway of its own, so that faults and batches are its own."""

    airflow: LocalAirflow
    gateway: LocalGateway
    run_id: str
    output: Path

    def task(self) -> dict[str, Any]:
        return self.airflow.task_instance("rows", self.run_id, "run")

    def reaches(self, state: str, timeout: float = PATIENCE) -> dict[str, Any]:
        return self.airflow.wait_for("rows", self.run_id, "run", state, timeout)

    def asked(self, call: tuple[str, str]) -> int:
        """How often the gateway was asked so."""
        method, path = call
        return sum(request.method == method and request.path.endswith(path) for request in self.gateway.requests)

    def has_asked(self, call: tuple[str, str], number: int) -> bool:
        return self.asked(call) >= number

    def has_asked_twice(self, call: tuple[str, str]) -> None:
        """Wait for the second such call."""
        self.airflow.until(lambda: self.asked(call) == 2, f"the second {' '.join(call)}", PATIENCE)

    def has_created(self, number: int) -> None:
        """Wait for so many batches."""
        self.airflow.until(lambda: len(self.gateway.batches) == number, f"{number} batches", PATIENCE)

    def process(self) -> psutil.Process:
        return psutil.Process(self.task()["pid"])


def hold(gateway: LocalGateway, call: tuple[str, str], number: int = 2) -> None:
    """Hold the answer to such a call, the second one unless told otherwise. What it asks for is done at once."""
    method, path = call
    gateway.inject(Fault(delay=0.001, method=method, path_contains=path, times=number - 1))
    gateway.inject(Fault(delay=600, method=method, path_contains=path))


def between_create_and_answer(run: Run) -> None:
    run.has_created(2)
    run.process().kill()


def while_uploading(run: Run) -> None:
    run.has_asked_twice(UPLOAD)
    run.process().kill()


def while_recording(run: Run) -> None:
    """What is recorded goes to Airflow by way of the task's supervisor. While that is stopped, the task is not done with it."""
    run.has_created(2)
    process = run.process()
    supervisor = process.parent()
    assert supervisor is not None
    supervisor.suspend()
    try:
        run.gateway.restart()  # gives the answer that is held
        time.sleep(5)  # for the task, to receive it
        process.kill()
    finally:
        supervisor.resume()


def while_downloading(run: Run) -> None:
    run.has_asked_twice(DOWNLOAD)
    run.process().kill()


def while_joining(run: Run) -> None:
    """All rows are written, and the file has not got its name."""
    held, hold = Path(f"{run.output}.held"), Path(f"{run.output}.hold")
    run.airflow.until(held.exists, "the output to be written", PATIENCE)
    assert not run.output.exists()
    run.process().kill()
    hold.unlink()


def while_waiting(run: Run) -> None:
    run.reaches("deferred")
    run.airflow.kill("triggerer")
    run.airflow.start_component("triggerer")


@dataclass(frozen=True)
class Case:
    """A kill.

    :param strike: waits for the moment, and kills.
    :param held: the call whose second answer is held, which makes the moment certain.
    :param hold_output: the output is held before it gets its name, likewise.
    :param tries: of the task, in the end.
    :param batch_seconds: from the creation of a batch to its end.
    """

    strike: Callable[[Run], None]
    held: tuple[str, str] | None = None
    hold_output: bool = False
    tries: int = 2
    batch_seconds: float = 2.0


CASES = {  # first the one that takes two minutes
    "between create and answer": Case(between_create_and_answer, CREATE),
    "uploading": Case(while_uploading, UPLOAD),
    "recording": Case(while_recording, CREATE),
    "downloading": Case(while_downloading, DOWNLOAD),
    "joining": Case(while_joining, hold_output=True),
    "waiting": Case(while_waiting, tries=1, batch_seconds=60.0),
}


@pytest.fixture(scope="module")
def runs(airflow: LocalAirflow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """A run of each case, in which the killing is done. All are started at once, since one takes two minutes."""
    runs = {}
    with ExitStack() as stack:
        for number, (name, case) in enumerate(CASES.items()):
            gateway = stack.enter_context(LocalGateway(case.batch_seconds))
            if case.held is not None:
                hold(gateway, case.held)
            connection = {"connection_id": f"rows_{number}", "conn_type": "bifrost", "host": gateway.url}
            airflow.request("POST", "/api/v2/connections", json=connection)
            output = tmp_path_factory.mktemp("rows") / "results.jsonl"
            if case.hold_output:
                Path(f"{output}.hold").touch()
            conf = {"conn_id": connection["connection_id"], "output_path": str(output)}
            runs[name] = Run(airflow, gateway, airflow.trigger("rows", conf), output)
        for name, run in runs.items():
            CASES[name].strike(run)
        yield runs


@pytest.mark.parametrize("name", CASES)
def test_each_row_is_paid_for_once_and_has_its_result_if_killed_while(runs: dict[str, Run], name: str) -> None:
    run, case = runs[name], CASES[name]

    task = run.reaches("success", timeout=PATIENCE)

    assert case.tries <= task["try_number"] <= case.tries + 1
    assert run.asked(LIST) >= len(PARTS)  # after each create, to find a twin
    assert [batch["rows"] for batch in run.gateway.batches] == PARTS
    assert [row["text"] for row in read_rows(run.output)] == TEXTS


@dataclass(frozen=True)
class Stopped:
    """A run whose third upload is held, and whose second batch cannot be cancelled, when a user marks the task failed."""

    run: Run
    process: psutil.Process

    def cancels(self, number: int) -> int:
        """How often the gateway was asked to cancel this batch of the run."""
        return self.run.asked(("POST", f"/{self.run.gateway.batches[number]['id']}/cancel"))

    def status(self, number: int) -> str:
        return str(self.run.gateway.batches[number]["status"])


@pytest.fixture
def stopped(airflow: LocalAirflow, tmp_path: Path) -> Iterator[dict[str, Stopped]]:
    """Two such runs: ``answers`` gets the answer to the upload before SIGKILL comes, ``hangs`` does not."""
    with ExitStack() as stack:
        runs, found = {}, {}
        for name in ("answers", "hangs"):
            gateway = stack.enter_context(LocalGateway(batch_seconds=3600.0))
            hold(gateway, UPLOAD, 3)
            connection = {"connection_id": f"stopped_{name}", "conn_type": "bifrost", "host": gateway.url}
            airflow.request("POST", "/api/v2/connections", json=connection)
            output = tmp_path / name / "results.jsonl"
            conf = {"conn_id": connection["connection_id"], "output_path": str(output)}
            runs[name] = Run(airflow, gateway, airflow.trigger("rows", conf), output)
        for name, run in runs.items():
            airflow.until(partial(run.has_asked, UPLOAD, 3), "the third upload", PATIENCE)
            path = f"/{run.gateway.batches[1]['id']}/cancel"
            run.gateway.inject(Fault(status=503, method="POST", path_contains=path, times=None))
            found[name] = Stopped(run, run.process())
        for run in runs.values():
            airflow.mark("rows", run.run_id, "run", "failed")
        yield found


def test_a_user_says_stop_while_parts_are_submitted_and_clears_the_task_later(
    airflow: LocalAirflow, stopped: dict[str, Stopped]
) -> None:
    """Airflow sends SIGTERM, whose handler only calls ``on_kill``, and SIGKILL five seconds later."""
    for name, case in stopped.items():
        airflow.until(partial(case.cancels, 0), "the cancel of the first batch", PATIENCE)
        if name == "answers":
            case.run.gateway.restart()  # gives the answer that is held: now the task would submit its third part
    for case in stopped.values():
        run, gateway = case.run, case.run.gateway
        airflow.until(lambda process=case.process: not process.is_running(), "the end of the task's process", PATIENCE)
        assert len(gateway.batches) == 2, "a batch was created after the user's stop"
        assert case.status(0) == "cancelling"
        assert case.status(1) not in ("cancelling", "cancelled")
        assert case.cancels(1) > 1, "a cancel is repeated as long as there is time"
        assert run.task()["state"] == "failed"

        gateway.clear_faults()
        gateway.set_batch(gateway.batches[0]["id"], status="cancelled")  # one of its two rows was done
        gateway.batch_seconds = 2.0
        gateway.restart()
        airflow.clear("rows", run.run_id, "run")
    for case in stopped.values():
        run, gateway = case.run, case.run.gateway
        airflow.until(
            lambda case=case: case.status(1) == "cancelling", "the next attempt to cancel the other batch", PATIENCE
        )
        gateway.set_batch(gateway.batches[1]["id"], status="cancelled")
        run.reaches("success", timeout=2 * PATIENCE)
        assert [row["text"] for row in read_rows(run.output)] == TEXTS
        assert sum(batch["rows"] for batch in gateway.batches) == len(TEXTS) + 2, (
            "only rows without a result are sent again"
        )
