"""The report as a table for people, or as one JSON object for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from airflow_bifrost import __version__
from airflow_bifrost.doctor.findings import Finding, Report, State

_COLORS = {State.OK: "green", State.NOTE: "yellow", State.PROBLEM: "bold red", State.SKIPPED: "dim"}
_ABOUT_FORMS = "Unknown to this version. You can copy it into a bug report:"
_PIPED_WIDTH = 120  # columns, if there is no terminal


def to_json(report: Report) -> dict[str, Any]:
    """The keys are described in docs/doctor.md."""
    return {
        "well": report.well,
        "connection": report.connection,
        "checks": [
            {
                "name": finding.name,
                "state": finding.state,
                "finding": finding.finding,
                "advice": finding.advice,
                "values": finding.values,
            }
            for finding in report.findings
        ],
        "forms": report.forms,
        "package_version": __version__,
        "checked_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def stdout() -> Console:
    """A terminal with its width and colors, or a pipe without."""
    return Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def show_json(report: Report, console: Console) -> None:
    """Print one JSON object and nothing else."""
    console.out(json.dumps(to_json(report), indent=2), highlight=False)


def show(report: Report, console: Console) -> None:
    """Print a table, the answers in an unknown form, and the verdict."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Check", no_wrap=True)
    table.add_column("State", no_wrap=True)
    table.add_column("Finding", overflow="fold")
    for finding in _with_skipped_ones_together(report.findings):
        table.add_row(finding.name, Text(finding.state, _COLORS[finding.state]), _said(finding))
    console.print(table)
    if report.forms:
        console.out(f"{_ABOUT_FORMS}\n", highlight=False)
    for form in report.forms:
        console.out(f"{json.dumps(form, indent=2)}\n", highlight=False)  # never wrapped, so that it can be copied
    problems = sum(finding.state is State.PROBLEM for finding in report.findings)
    verdict = f"{problems} {'problem' if problems == 1 else 'problems'}." if problems else "All is well."
    console.print(Text(verdict, _COLORS[State.PROBLEM if problems else State.OK]))


def _with_skipped_ones_together(findings: Sequence[Finding]) -> list[Finding]:
    """Keep the table short: checks that were skipped for the same reason share one line, the last."""
    skipped = [finding for finding in findings if finding.state is State.SKIPPED]
    if len(skipped) < 2 or len({finding.finding for finding in skipped}) > 1:
        return list(findings)
    together = replace(skipped[0], name=f"{len(skipped)} more checks")
    return [*(finding for finding in findings if finding.state is not State.SKIPPED), together]


def _said(finding: Finding) -> Text:
    """Plain text, because anything that looks like markup comes from the gateway."""
    said = Text(finding.finding, "dim" if finding.state is State.SKIPPED else "")
    return said.append(f"\n{finding.advice}", "italic") if finding.advice else said
