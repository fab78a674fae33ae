"""The command as users see it: its exit code, its output, and where it finds the connection."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from support.odd_gateway import TOKEN

from airflow_bifrost.doctor import cli
from airflow_bifrost.testing import LocalGateway

MODULE = (sys.executable, "-m", "airflow_bifrost")
AIRFLOW = (sys.executable, "-m", "airflow", "bifrost")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


def examine_gw() -> object:
    """Run the command in this process, and give its exit code."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["doctor", "--conn-id", "gw"])
    return ended.value.code


@pytest.fixture
def connection(gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    variable = {"AIRFLOW_CONN_GW": gateway.connection_json(token=TOKEN)}
    monkeypatch.setenv(*next(iter(variable.items())))
    return variable


def airflow_takes_commands_of_providers() -> bool:
    from airflow.providers_manager import ProvidersManager

    return hasattr(ProvidersManager, "cli_command_functions")


@pytest.mark.usefixtures("connection")
def test_a_plain_table_is_printed_if_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    assert examine_gw() == 0
    printed = capfd.readouterr()
    assert printed.out.endswith("All is well.\n")
    assert "\x1b" not in printed.out
    assert TOKEN not in printed.out + printed.err


@pytest.mark.usefixtures("connection")
def test_there_are_colors_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    assert examine_gw() == 0
    assert "\x1b[32mok" in terminal.getvalue()


@pytest.mark.skipif(not airflow_takes_commands_of_providers(), reason="Airflow 3.1 takes no commands of providers")
def test_airflows_own_command_line_has_the_command(connection: dict[str, str]) -> None:
    done = run(*AIRFLOW, "doctor", "--conn-id", "gw", "--json", **connection)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["well"] is True


@pytest.mark.usefixtures("airflow_db")
def test_the_module_finds_a_connection_in_airflows_database_and_exits_with_1_after_a_problem(
    gateway: LocalGateway,
) -> None:
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    fields: Any = {**json.loads(gateway.connection_json()), "conn_id": "gw_in_the_database"}
    with create_session() as session:
        session.add(Connection(**fields))
    done = run(*MODULE, "doctor", "--conn-id", "gw_in_the_database", "--json")
    assert done.returncode == 1, done.stdout + done.stderr
    report = json.loads(done.stdout)  # all that is printed
    assert [check["name"] for check in report["checks"] if check["state"] == "problem"] == ["token"]
