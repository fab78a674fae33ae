"""The command ``python -m airflow_bifrost doctor``, which is also ``airflow bifrost doctor`` from Airflow 3.2 on.

Every ``airflow`` command loads this module, so it imports what it needs only when it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.cli.cli_config import CLICommand

_GROUP_HELP = "Commands of the Bifrost provider package"
_HELP = "Check a gateway without changing anything"
_DESCRIPTION = "Check the gateway behind a connection without changing anything. Exits with 0 if there is no problem, otherwise with 1."
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "--conn-id": {
        "default": "bifrost_default",
        "metavar": "ID",
        "help": "ID of the Airflow connection (default: %(default)s)",
    },
    "--json": {"action": "store_true", "help": "print one JSON object instead of a table"},
}


def get_bifrost_cli_commands() -> list[CLICommand]:
    """The commands for Airflow's own command line."""
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand, lazy_load_command

    doctor = ActionCommand(
        name="doctor",
        help=_HELP,
        description=_DESCRIPTION,
        func=lazy_load_command("airflow_bifrost.doctor.cli.doctor"),
        args=[Arg((flag,), **options) for flag, options in _ARGUMENTS.items()],
    )
    return [GroupCommand(name="bifrost", help=_GROUP_HELP, subcommands=[doctor])]


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m airflow_bifrost``."""
    parser = argparse.ArgumentParser(prog="python -m airflow_bifrost", description=_GROUP_HELP)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    command = commands.add_parser("doctor", help=_HELP, description=_DESCRIPTION)
    for flag, options in _ARGUMENTS.items():
        command.add_argument(flag, **options)
    given, unknown = parser.parse_known_args(arguments)
    if unknown:
        # Show the usage of the subcommand, which has the options.
        command.error(f"unrecognized arguments: {' '.join(unknown)}")
    doctor(given)


def doctor(arguments: argparse.Namespace) -> None:
    """Check, print, and exit with 0 or 1."""
    with _stdout_for_the_report_alone():
        from rich.console import Console

        from airflow_bifrost.doctor.examination import examine
        from airflow_bifrost.doctor.report import show, show_json, stdout

        with Console(stderr=True).status(f"Asking the gateway of {arguments.conn_id!r} ..."):
            report = examine(arguments.conn_id)
    (show_json if arguments.json else show)(report, stdout())
    raise SystemExit(0 if report.well else 1)


@contextmanager
def _stdout_for_the_report_alone() -> Iterator[None]:
    """Send to stderr what Airflow and its plugins log or print, even through handlers that already hold stdout."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
