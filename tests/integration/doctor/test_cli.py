"""The command's two faces, and that the one which every ``airflow`` command loads is cheap."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

import pytest

from airflow_bifrost.doctor import cli
from airflow_bifrost.doctor.findings import Report, ok, problem
from airflow_bifrost.hooks.bifrost import DEFAULT_CONN_ID


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The connections that are examined; that of the name ``bad`` has a problem."""
    ids: list[str] = []

    def examine(conn_id: str) -> Report:
        ids.append(conn_id)
        return Report({"id": conn_id}, [problem("token", "Refused.") if conn_id == "bad" else ok("token", "Accepted.")])

    monkeypatch.setattr("airflow_bifrost.doctor.examination.examine", examine)
    return ids


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    code = ended.value.code
    assert isinstance(code, int)
    return code


def test_the_exit_code_is_0_only_if_all_is_well(asked: list[str]) -> None:
    assert [run("doctor", "--conn-id", "good"), run("doctor", "--conn-id", "bad")] == [0, 1]
    assert asked == ["good", "bad"]


def test_without_an_id_it_is_the_default_connection(asked: list[str]) -> None:
    run("doctor")
    assert asked == [DEFAULT_CONN_ID]


@pytest.mark.parametrize("wrong", [(), ("docter",), ("doctor", "--conn-id"), ("doctor", "--yaml"), ("doctor", "gw")])
def test_wrong_usage_is_2(asked: list[str], wrong: tuple[str, ...]) -> None:
    assert run(*wrong) == 2
    assert asked == []


def test_a_mistyped_option_shows_the_commands_own_usage(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", "--connid", "x") == 2
    told = capsys.readouterr().err
    assert "--conn-id ID" in told
    assert "unrecognized arguments: --connid x" in told
    assert asked == []


def airflows_parser() -> argparse.ArgumentParser:
    """Built of the definition as Airflow builds its own."""
    parser = argparse.ArgumentParser()
    [group] = cli.get_bifrost_cli_commands()
    actions: Any = group
    command = parser.add_subparsers().add_parser(actions.name)
    for action in actions.subcommands:
        below = command.add_subparsers().add_parser(action.name)
        below.set_defaults(func=action.func)
        for argument in action.args:
            argument.add_to_parser(below)
    return parser


@pytest.mark.parametrize(("conn_id", "code"), [("good", 0), ("bad", 1)])
def test_airflows_own_command_does_the_same(
    asked: list[str], capsys: pytest.CaptureFixture[str], conn_id: str, code: int
) -> None:
    arguments = airflows_parser().parse_args(["bifrost", "doctor", "--conn-id", conn_id, "--json"])
    with pytest.raises(SystemExit) as ended:
        arguments.func(arguments)
    assert (ended.value.code, asked) == (code, [conn_id])
    assert capsys.readouterr().out.startswith("{")


NOISY = """
import os, sys
from airflow_bifrost.doctor import cli, examination
from airflow_bifrost.doctor.findings import Report, ok

early = sys.stdout  # as a log handler holds it

def examine(conn_id):
    early.write("a line of log\\n")
    os.system("echo a child speaks")
    return Report({"id": conn_id}, [ok("token", "Accepted.")])

examination.examine = examine
cli.main(["doctor", "--json"])
"""


def test_what_is_logged_meanwhile_does_not_get_into_the_report() -> None:
    done = subprocess.run([sys.executable, "-c", NOISY], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout)["well"] is True
    assert "a line of log" in done.stderr
    assert "a child speaks" in done.stderr


def test_the_definition_loads_nothing_that_a_command_of_airflow_has_not_loaded() -> None:
    script = (
        "import airflow.cli.cli_config, sys\nbefore = set(sys.modules)\n"
        "from airflow_bifrost.doctor.cli import get_bifrost_cli_commands\nget_bifrost_cli_commands()\n"
        "print('loaded:', *(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    [line] = [line for line in done.stdout.splitlines() if line.startswith("loaded:")]
    assert set(line.split()[1:]) <= {"airflow_bifrost", "airflow_bifrost.doctor", "airflow_bifrost.doctor.cli"}
