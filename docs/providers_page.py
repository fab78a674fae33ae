"""Writes docs/providers.md from the tables that the conformance tests use: `python docs/providers_page.py`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from airflow_bifrost.gateway.faults import FAULTS, Fault
from airflow_bifrost.gateway.versions import ALL, FIELDS, READ, RECORDED, Field

DOCS = Path(__file__).parent
CONFORMANCE = DOCS.parent / "tests" / "conformance"
TABLE = CONFORMANCE / "providers.json"
PAGE = DOCS / "providers.md"

COLUMNS = ", ".join(f"{version} ({recorded})" for version, recorded in RECORDED.items())
HEAD = f"""\
<!-- Written by docs/providers_page.py from tests/conformance/providers.json and airflow_bifrost/gateway: change it there. -->
# What each provider says

This page lists each provider's own word for a batch's status, the gateway's translation, and the [outcome](outcomes.md) that this package derives. If
there is no outcome, the batch is still running and a wait continues. At the end, it lists the gateway's own errors.

The column *Recorded* names the versions of the gateway whose recorded answers show a row: {COLUMNS}. The tests replay these answers. The
other rows rest on what the providers publish. The facts about version 2 come from the source of {READ}. Nothing about it is recorded.

*Trust* names the counts of `request_counts` that mean what they say. The others are absent, not yet counted, or count something
else. For Gemini, an absent count is 0. *Results* names the fields that lead to rows.
"""
ERRORS = """
## The gateway's own errors

One error has different HTTP statuses in different versions of the gateway, and some versions use other words for it. This package recognizes the words of
every version, because an answer does not name the version. It judges any other error by its status alone.

"""
FIELDS_HEAD = """
## Fields of some versions

| Where | Field | Versions |
|---|---|---|
"""


def page(table: dict[str, Any]) -> str:
    """The page, in Markdown."""
    return HEAD + "".join(section(provider) for provider in table.values()) + ERRORS + errors() + FIELDS_HEAD + fields()


def section(provider: dict[str, Any]) -> str:
    lines = "".join(line(row) for row in provider["statuses"])
    return (
        f"\n## {provider['name']}\n\n{provider['about']}\n\n"
        f"| {provider['name']} says | When | Gateway | Outcome | Trust | Results | Recorded |\n|---|---|---|---|---|---|---|\n{lines}\n"
        f"Results: {provider['results']}\n{differences(provider)}"
    )


def line(row: dict[str, Any]) -> str:
    return cells(
        code(row["said"]),
        row.get("when", ""),
        code(row["status"]),
        code(row["outcome"]) if row["outcome"] else "",
        ", ".join(row["trusted"]) or "none",
        ", ".join(map(code, row["results"])),
        ", ".join(versions_of(row["shown_by"])),
    )


def versions_of(names: Iterable[str]) -> list[str]:
    """The versions that have one of these recordings."""
    return [version for version, recorded in RECORDED.items() if set(names) & recordings(recorded)]


def recordings(version: str) -> set[str]:
    """The names of a version's recordings."""
    folder = CONFORMANCE / "recordings" / version
    changes = folder / "changes.json"
    changed = json.loads(changes.read_text()) if changes.exists() else {}
    return {str(path.relative_to(folder).with_suffix("")) for path in folder.glob("*/*.json")} | set(changed)


def differences(provider: dict[str, Any]) -> str:
    """What the versions say differently about this provider."""
    rows = provider.get("differences", ())
    if not rows:
        return ""
    names = (*RECORDED, *(f"{version} (read, not recorded)" for version in ALL if version not in RECORDED))
    head = cells("Differs by version", *names) + "|---" * (1 + len(ALL)) + "|\n"
    return f"\n{head}" + "".join(cells(row["what"], *(row[version] for version in ALL)) for row in rows)


def errors() -> str:
    head = cells("Error", "Recognized by", *ALL, "Becomes") + "|---" * (3 + len(ALL)) + "|\n"
    return head + "".join(dict.fromkeys(map(error, FAULTS)))  # a word may be a type or a code, in two rows


def error(fault: Fault) -> str:
    words = code(fault.type or fault.code or "") if fault.message is None else "its message"
    statuses = (", ".join(map(str, fault.answers.get(version, ()))) for version in ALL)
    what = fault.what[0].upper() + fault.what[1:]
    return cells(what, words, *statuses, code(fault.kind.__name__))


def fields() -> str:
    return "".join(field(row) for row in FIELDS if row.versions != ALL)


def field(row: Field) -> str:
    return cells(row.where, code(row.name), ", ".join(row.versions))


def cells(*texts: str) -> str:
    return f"| {' | '.join(texts)} |\n"


def code(word: str) -> str:
    return f"`{word}`"


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(TABLE.read_text())))
