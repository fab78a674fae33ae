"""The report: as a table, as JSON, and without the token."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from airflow_bifrost.doctor.checks import checks_for
from airflow_bifrost.doctor.findings import Finding, Report, State, note, ok, problem
from airflow_bifrost.doctor.report import show, show_json

TOKEN = "sk-bf-0123456789abcdef"
FORM = {"asked": "GET /x", "status_code": 200, "unknown": ["priority"], "answer": {"priority": "<string of 4>"}}


def report(*findings: Finding, forms: Any = ()) -> Report:
    return Report({"id": "gw"}, findings, forms)


def printed(shown: Report, *, terminal: bool = False, as_json: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, color_system="standard" if terminal else None)
    (show_json if as_json else show)(shown, console)
    return out.getvalue()


@pytest.mark.parametrize(
    ("states", "well"),
    [
        ([State.OK], True),
        ([State.OK, State.NOTE], True),
        ([State.OK, State.PROBLEM], False),
        ([State.PROBLEM, State.SKIPPED], False),
    ],
)
def test_only_a_problem_spoils_the_verdict(states: list[State], *, well: bool) -> None:
    assert report(*(Finding("check", state, "found") for state in states)).well is well


def test_the_table_has_each_finding_with_what_to_do_and_the_verdict() -> None:
    text = printed(report(ok("reachable", "It answers."), problem("token", "Refused.", "Correct it.")))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "reachable ok It answers." in lines
    assert "token problem Refused." in lines
    assert "Correct it." in lines
    assert lines[-1] == "1 problem."


def test_the_verdict_counts_problems_or_says_that_there_are_none() -> None:
    assert printed(report(problem("a", "x"), problem("b", "y"))).endswith("2 problems.\n")
    assert printed(report(note("a", "x"))).endswith("All is well.\n")


def test_there_are_colors_on_a_terminal_alone() -> None:
    assert "\x1b[" in printed(report(problem("a", "x")), terminal=True)
    assert "\x1b[" not in printed(report(problem("a", "x")))


def test_words_in_brackets_are_no_markup() -> None:
    assert "[SSL: CERTIFICATE_VERIFY_FAILED] [/red]" in printed(
        report(problem("reachable", "[SSL: CERTIFICATE_VERIFY_FAILED] [/red]", "[bold]"))
    )


def test_an_unknown_form_is_printed_as_json_that_can_be_copied() -> None:
    long = {**FORM, "asked": "GET /" + "x" * 300}
    text = printed(report(note("forms", "Unknown: priority."), forms=[long]))
    assert json.loads(text[text.index("{") : text.rindex("}") + 1]) == long


def test_unknown_forms_stand_below_a_heading_and_apart_from_the_verdict() -> None:
    text = printed(report(note("forms", "Unknown: priority."), forms=[FORM]))
    assert "Unknown to this version. You can copy it into a bug report:\n\n{" in text
    assert text.endswith("}\n\nAll is well.\n")
    assert "Not known to this version" not in printed(report(ok("forms", "known")))


SKIPPED = [Finding(name, State.SKIPPED, "Skipped: first fix 'token'.") for name in ("provider", "listing")]


def test_what_is_skipped_for_one_reason_is_one_row_and_stays_whole_in_json() -> None:
    full = report(problem("token", "Refused."), *SKIPPED, ok("clock", "They agree."))
    rows = [" ".join(line.split()) for line in printed(full).splitlines()]
    assert "2 more checks skipped Skipped: first fix 'token'." in rows
    assert not any(row.startswith(("provider", "listing")) for row in rows)
    shown = json.loads(printed(full, as_json=True))
    assert [check["name"] for check in shown["checks"]] == ["token", "provider", "listing", "clock"]


def test_what_is_skipped_alone_or_for_several_reasons_has_a_row_each() -> None:
    other = Finding("latency", State.SKIPPED, "Skipped: first fix 'provider'.")
    for findings in ([SKIPPED[0]], [*SKIPPED, other]):
        text = printed(report(problem("token", "Refused."), *findings))
        assert "more checks" not in text
        assert all(f" {finding.name} " in text for finding in findings)


def test_json_has_these_keys() -> None:
    text = printed(report(ok("latency", "2 ms", median_ms=2.0), forms=[FORM]), as_json=True, terminal=True)
    shown = json.loads(text)
    assert sorted(shown) == ["checked_at", "checks", "connection", "forms", "package_version", "well"]
    assert shown["checks"] == [
        {"name": "latency", "state": "ok", "finding": "2 ms", "advice": None, "values": {"median_ms": 2.0}}
    ]
    assert (shown["well"], shown["connection"], shown["forms"]) == (True, {"id": "gw"}, [FORM])


def test_the_token_is_struck_out_anywhere() -> None:
    finding = problem("gateway", f"It says {TOKEN}", f"Keep {TOKEN} secret", version=TOKEN, lists=[TOKEN])
    full = Report({"id": "gw", "url": f"http://{TOKEN}"}, [finding], [{**FORM, "answer": {TOKEN: [TOKEN]}}])
    struck = full.without(TOKEN)
    for text in (printed(struck), printed(struck, as_json=True)):
        assert TOKEN not in text
        assert "It says ***" in text


def test_a_connection_without_a_token_has_nothing_to_strike_out() -> None:
    full = report(ok("a", "found"))
    assert full.without(None) is full


def test_every_check_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[3] / "docs" / "doctor.md").read_text()
    for name in checks_for("openai"):
        assert f"| `{name.partition('.')[0]}{'.<name>' if '.' in name else ''}` |" in page
