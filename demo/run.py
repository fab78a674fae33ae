"""What ``make demo`` runs: a batch is submitted, and a real Airflow waits for it.

Settings come from the environment, never from arguments, so that the token is in no process list:

- ``GATEWAY``, ``TOKEN``, ``BATCH_ID``, ``PROVIDER``: wait for a batch of your own on your own gateway. Without ``GATEWAY`` a local
  gateway is started, and 200 requests are submitted to it.
- ``KEEP=1``: leave Airflow up until Ctrl-C.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from airflow_bifrost.testing.local_airflow import FINISHED, LocalAirflow, LocalAirflowError
from airflow_bifrost.testing.processes import ProcessDied, Processes

EXAMPLES = Path(__file__).resolve().parent.parent / "dags_examples"
DAG_ID = "wait_for_batch"
TASKS = ("wait", "retrieve")
ROWS = 200
BATCH_SECONDS = 40
PATIENCE_SECONDS = 150.0
CONNECTION_VARIABLE = "AIRFLOW_CONN_BIFROST_DEFAULT"


class DemoError(RuntimeError):
    """The demo cannot go on. The message is for the user."""


@dataclass(frozen=True)
class Settings:
    """What the user asked for."""

    gateway: str | None
    token: str | None = field(repr=False)
    batch_id: str | None
    provider: str
    keep: bool

    @classmethod
    def take(cls) -> Settings:
        """Take the settings out of the environment, so that no other process inherits them.

        :raises DemoError: if some of them are missing.
        """
        values = {name: os.environ.pop(name, "") for name in ("GATEWAY", "TOKEN", "BATCH_ID", "PROVIDER", "KEEP")}
        for name in ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS"):  # make repeats its command line in them
            os.environ.pop(name, None)
        if values["BATCH_ID"] and not values["GATEWAY"]:
            raise DemoError("BATCH_ID needs GATEWAY: the URL of the gateway that runs the batch")
        if values["GATEWAY"] and not values["BATCH_ID"]:
            raise DemoError("GATEWAY needs BATCH_ID: the id of a batch on it to wait for")
        own = bool(values["GATEWAY"])
        return cls(
            gateway=values["GATEWAY"] or None,
            token=values["TOKEN"] or None if own else None,
            batch_id=values["BATCH_ID"] or None,
            provider=values["PROVIDER"] if own and values["PROVIDER"] else "openai",
            keep=values["KEEP"].lower() not in ("", "0", "no", "false"),
        )

    def connection(self, gateway_url: str) -> str:
        """The Airflow connection to a gateway, as JSON."""
        connection = {
            "conn_type": "bifrost",
            "host": gateway_url,
            "password": self.token,
            "extra": {"provider": self.provider},
        }
        return json.dumps({name: value for name, value in connection.items() if value is not None})


def main() -> int:
    """Run the demo; return the exit code."""
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        run(Settings.take(), console)
    except KeyboardInterrupt:
        console.print("Interrupted; everything that the demo started is stopped.")
        return 130
    except (DemoError, LocalAirflowError, ProcessDied) as error:
        console.print(f"The demo failed: {error}", markup=False, style="red")
        return 1
    console.print("Everything that the demo started is stopped.")
    return 0


def run(settings: Settings, console: Console) -> None:
    """Do the demo's steps; whatever they start ends with this function."""
    began = time.monotonic()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bifrost-demo-")))
        url = settings.gateway or start_gateway(stack.enter_context(Processes(scratch)), scratch)
        connection = settings.connection(url)
        console.print(f"Gateway: {url}" + ("" if settings.gateway else " (local, in a process of its own)"))
        # The demo's own use of the hook must neither read nor create the user's AIRFLOW_HOME.
        os.environ |= {
            "AIRFLOW_HOME": str(scratch / "hook"),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            CONNECTION_VARIABLE: connection,
        }
        if settings.batch_id:
            console.print(f"Batch: {settings.batch_id} is {look_up(settings.batch_id, settings.provider)}")

        with console.status("Starting Airflow: scheduler, DAG processor, triggerer, API server"):
            airflow = stack.enter_context(
                LocalAirflow(
                    EXAMPLES, env={CONNECTION_VARIABLE: connection, "AIRFLOW__BIFROST__PROGRESS_INTERVAL": "1"}
                )
            )
        console.print(f"Airflow: {airflow.url} after {time.monotonic() - began:.0f} s")

        batch_id = settings.batch_id or submit(scratch / "requests.jsonl", console)
        run_id = airflow.trigger(DAG_ID, {"batch_id": batch_id, "provider": settings.provider})
        run_url = airflow.run_url(DAG_ID, run_id)
        console.print(f"DAG run: {run_url}")

        follow(airflow, run_id, console, patience=math.inf if settings.gateway else PATIENCE_SECONDS)
        show_xcoms(airflow, run_id, console)
        console.print(f"The run, in Airflow's UI: {run_url}")
        console.print(f"Took {time.monotonic() - began:.0f} s.")
        if settings.keep:
            console.print("Airflow stays up until Ctrl-C.")
            signal.pause()
        else:
            console.print("Stopping Airflow now; make demo KEEP=1 leaves it up.")


def start_gateway(processes: Processes, scratch: Path) -> str:
    """Start the local gateway and return its URL, which is the one line that it prints."""
    command = [sys.executable, "-m", "airflow_bifrost.testing", "--port", "0", "--batch-seconds", str(BATCH_SECONDS)]
    state = ["--state", str(scratch / "gateway.sqlite")]
    process = processes.start("gateway", [*command, *state], env=os.environ, cwd=scratch, capture=True)
    assert process.stdout is not None
    url = process.stdout.readline().decode().strip()
    if not url:
        raise DemoError(f"the local gateway did not start\n{processes.log_tail('gateway')}")
    return url


def look_up(batch_id: str, provider: str) -> str:
    """Return the status of a batch, before anything expensive is started for it.

    :raises DemoError: with the gateway's reason.
    """
    from airflow_bifrost.exceptions import BifrostError
    from airflow_bifrost.hooks.bifrost import BifrostHook

    try:
        with BifrostHook() as hook:
            ok, reason = (
                hook.test_connection()
            )  # asks once, where the hook's own calls would sit out an outage of a minute
            if not ok and reason.startswith("Unreachable"):
                raise DemoError(reason)
            return hook.get_batch(batch_id, provider=provider).status
    except (BifrostError, ValueError) as error:
        raise DemoError(str(error)) from error


def submit(path: Path, console: Console) -> str:
    """Write the requests, upload and submit them; return the batch's id."""
    from airflow_bifrost.exceptions import BifrostError
    from airflow_bifrost.hooks.bifrost import BifrostHook

    path.write_text("".join(json.dumps(request(number)) + "\n" for number in range(ROWS)))
    try:
        with BifrostHook() as hook:
            file = hook.upload_file(path, purpose="batch")
            batch = hook.create_batch(
                input_file_id=file.id, endpoint="/v1/chat/completions", metadata={"submitted_by": "make demo"}
            )
    except BifrostError as error:
        raise DemoError(str(error)) from error
    console.print(f"Uploaded {ROWS} requests as {file.id}, submitted them as {batch.id}")
    return batch.id


def request(number: int) -> dict[str, Any]:
    """Return a line of the input. The local gateway lets those with ``!fail`` fail, so that there is an error file."""
    prompt = "!fail" if number % 50 == 49 else f"In one sentence: what is special about the number {number}?"
    return {
        "custom_id": f"number-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": prompt}]},
    }


def follow(airflow: LocalAirflow, run_id: str, console: Console, patience: float) -> None:
    """Show the sensor's ``progress`` XCom until the DAG run is over.

    :param patience: seconds.
    :raises DemoError: if a task did not succeed.
    """
    shown = ""
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    rows = bar.add_task("", total=None)

    def over() -> bool:
        nonlocal shown
        states = {task_id: airflow.task_instance(DAG_ID, run_id, task_id)["state"] for task_id in TASKS}
        progress = airflow.xcom(DAG_ID, run_id, "wait", key="progress") or {}
        tasks = ", ".join(f"{task_id} {_in_words(state)}" for task_id, state in states.items() if state)
        text = f"batch {progress.get('status') or 'not looked at yet'}; {tasks or 'no task started'}"
        bar.update(rows, description=text, total=progress.get("total"), completed=_processed(progress))
        line = f"{text}: {_processed(progress)} of {progress.get('total') or '?'} rows"
        if line != shown and not console.is_terminal:
            console.print(line, markup=False)
        shown = line
        return airflow.dag_run(DAG_ID, run_id)["state"] in FINISHED

    with bar:
        airflow.until(over, "the DAG run to be over", patience)
    for task_id in TASKS:
        state = airflow.task_instance(DAG_ID, run_id, task_id)["state"]
        if state != "success":
            raise DemoError(f"the task {task_id} is {state}\n{airflow.logs(DAG_ID, run_id, task_id)}")


def show_xcoms(airflow: LocalAirflow, run_id: str, console: Console) -> None:
    """Print what the tasks have left for others."""
    table = Table("task", "key", "value", title="XComs", title_justify="left")
    for task_id in TASKS:
        for key, value in sorted(airflow.xcoms(DAG_ID, run_id, task_id).items()):
            table.add_row(task_id, key, value if isinstance(value, str) else json.dumps(value))
        table.add_section()
    console.print(table, markup=False, soft_wrap=False)


def _processed(progress: dict[str, Any]) -> int:
    return (progress.get("completed") or 0) + (progress.get("failed") or 0)


def _in_words(state: str) -> str:
    return "asleep in the triggerer" if state == "deferred" else state.replace("_", " ")


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
