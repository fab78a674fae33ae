"""What ``make demo`` runs: a task in a real Airflow turns 120,000 rows into batches and then a file of results, and is killed twice.

Settings come from the environment, never from arguments, so that the token is in no process list:

- ``GATEWAY``, ``TOKEN``, ``BATCH_ID``, ``PROVIDER``: wait for your own batch on your own gateway instead. Nothing is submitted.
- ``KEEP=1``: leave Airflow running until Ctrl-C.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

import own_batch
import rows
from gateway import DemoGateway
from rich.console import Console
from support.local_airflow import LocalAirflow, LocalAirflowError
from support.processes import ProcessDied, Processes
from watching import DemoError

CONNECTION_VARIABLE = "AIRFLOW_CONN_BIFROST_DEFAULT"
OUTPUT = Path(__file__).resolve().parent.parent / ".demo" / "results.jsonl"


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
        """Remove the settings from the environment, so that no other process inherits them, and return them.

        :raises DemoError: one of GATEWAY and BATCH_ID is missing.
        """
        values = {name: os.environ.pop(name, "") for name in ("GATEWAY", "TOKEN", "BATCH_ID", "PROVIDER", "KEEP")}
        for name in ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS"):  # they hold make's command line, with the token
            os.environ.pop(name, None)
        if values["BATCH_ID"] and not values["GATEWAY"]:
            raise DemoError("BATCH_ID needs GATEWAY: the URL of the gateway that runs the batch")
        if values["GATEWAY"] and not values["BATCH_ID"]:
            raise DemoError("GATEWAY needs BATCH_ID: the ID of a batch on that gateway")
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
        console.print("Interrupted. Everything that the demo started is stopped.")
        return 130
    except (DemoError, LocalAirflowError, ProcessDied) as error:
        console.print(f"The demo failed: {error}", markup=False, style="red")
        return 1
    console.print("Everything that the demo started is stopped.")
    return 0


def run(settings: Settings, console: Console) -> None:
    """Run the demo's steps. Every process that they start ends with this function."""
    began = time.monotonic()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bifrost-demo-")))
        local = None
        if not settings.gateway:
            local = DemoGateway(stack.enter_context(Processes(scratch)), scratch, rows.BATCH_SECONDS)
        url = local.url if local else settings.gateway
        assert url is not None
        connection = settings.connection(url)
        console.print(f"Gateway: {url}" + (" (local, in a separate process)" if local else ""))
        # The demo's own use of the package must neither read nor create the user's AIRFLOW_HOME.
        os.environ |= {
            "AIRFLOW_HOME": str(scratch / "hook"),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            CONNECTION_VARIABLE: connection,
        }
        if settings.batch_id:
            status = own_batch.look_up(settings.batch_id, settings.provider)
            console.print(f"Batch: {settings.batch_id} is {status}")

        env = {
            CONNECTION_VARIABLE: connection,
            "AIRFLOW__BIFROST__PROGRESS_INTERVAL": "1",
            "TMPDIR": str(scratch),  # so that files of a killed task are removed, too
        }
        with console.status("Starting Airflow: scheduler, DAG processor, triggerer, API server"):
            airflow = stack.enter_context(LocalAirflow(rows.DAGS if local else own_batch.DAGS, env=env))
        console.print(f"Airflow: {airflow.url} after {time.monotonic() - began:.0f} s")

        if local:
            shown = rows.rows_in_rows_out(airflow, local, OUTPUT, console)
        else:
            assert settings.batch_id is not None
            shown = own_batch.wait_for(airflow, settings.batch_id, settings.provider, console)
        console.print(f"The run, in Airflow's UI: {shown.url}")
        console.print(f"Took {time.monotonic() - began:.0f} s.")
        if settings.keep:
            console.print("Airflow keeps running until Ctrl-C.")
            signal.pause()
        else:
            console.print("Stopping Airflow now. To keep it running, use make demo KEEP=1.")


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
