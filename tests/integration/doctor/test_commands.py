"""The command as a process: its exit code, its stdout, and where it finds the connection."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.odd_gateway import TOKEN

from airflow_bifrost.testing import LocalGateway

MODULE = (sys.executable, "-m", "airflow_bifrost")
AIRFLOW = (sys.executable, "-m", "airflow", "bifrost")


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def connection(gateway: LocalGateway) -> dict[str, str]:
    return {"AIRFLOW_CONN_GW": gateway.connection_json(token=TOKEN)}


def airflow_takes_commands_of_providers() -> bool:
    from airflow.providers_manager import ProvidersManager

    return hasattr(ProvidersManager, "cli_command_functions")


def test_the_module_prints_a_plain_table_where_there_is_no_terminal(connection: dict[str, str]) -> None:
    done = run(*MODULE, "doctor", "--conn-id", "gw", **connection)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("All is well.\n")
    assert "\x1b" not in done.stdout
    assert TOKEN not in done.stdout + done.stderr


def test_a_problem_is_exit_code_1_and_json_is_all_that_is_printed(gateway: LocalGateway) -> None:
    done = run(*MODULE, "doctor", "--conn-id", "gw", "--json", AIRFLOW_CONN_GW=gateway.connection_json())
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert [check["name"] for check in report["checks"] if check["state"] == "problem"] == ["token"]


def test_there_are_colors_on_a_terminal(connection: dict[str, str], tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    typescript = tmp_path / "typescript"
    command = [*MODULE, "doctor", "--conn-id", "gw"]
    script = (
        "import os, pty, sys\n"
        f"out = open({str(typescript)!r}, 'wb')\n"
        "def read(fd):\n    data = os.read(fd, 1024)\n    out.write(data)\n    return data\n"
        f"code = pty.spawn({command!r}, read)\nout.close()\nsys.exit(os.waitstatus_to_exitcode(code))\n"
    )
    assert pty
    done = run(sys.executable, "-c", script, TERM="xterm-256color", **connection)
    assert done.returncode == 0, done.stdout
    assert b"\x1b[32mok" in typescript.read_bytes()


@pytest.mark.skipif(not airflow_takes_commands_of_providers(), reason="Airflow 3.1 takes no commands of providers")
def test_airflows_own_command_line_has_the_command(connection: dict[str, str]) -> None:
    done = run(*AIRFLOW, "doctor", "--conn-id", "gw", "--json", **connection)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["well"] is True


@pytest.mark.usefixtures("airflow_db")
def test_a_connection_in_airflows_database_is_found(gateway: LocalGateway) -> None:
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    fields: Any = {**json.loads(gateway.connection_json(token=TOKEN)), "conn_id": "gw_in_the_database"}
    with create_session() as session:
        session.add(Connection(**fields))
    done = run(*MODULE, "doctor", "--conn-id", "gw_in_the_database", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
