"""The command, as a module and as a command of Airflow."""

from __future__ import annotations

import argparse
import json
import os
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


def test_what_is_logged_meanwhile_does_not_get_into_the_report(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    early = os.fdopen(1, "w", closefd=False)  # as a log handler holds it

    def examine(conn_id: str) -> Report:
        early.write("a line of log\n")
        early.flush()
        os.system("echo a child speaks")
        return Report({"id": conn_id}, [ok("token", "Accepted.")])

    monkeypatch.setattr("airflow_bifrost.doctor.examination.examine", examine)
    assert run("doctor", "--json") == 0
    printed = capfd.readouterr()
    assert json.loads(printed.out)["well"] is True
    assert "a line of log" in printed.err
    assert "a child speaks" in printed.err
