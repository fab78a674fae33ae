"""Writes docs/providers.md from the table that the conformance tests use: `python docs/providers_page.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
TABLE = DOCS.parent / "tests" / "conformance" / "providers.json"
PAGE = DOCS / "providers.md"

HEAD = """\
<!-- Written by docs/providers_page.py from tests/conformance/providers.json: change it there. -->
# What each provider says

This page lists each provider's own word for a batch's status, the gateway's translation, and the [outcome](outcomes.md) that this package derives. If
there is no outcome, the batch is still running and a wait continues.

*Trust* names the counts of `request_counts` that mean what they say. The others are absent, not yet counted, or count something
else. For Gemini, an absent count is 0. *Results* names the fields that lead to rows. A dot ● marks a row that rests on answers recorded from a real gateway
(version 1.4.19), which the tests replay. The other rows rest on what the providers publish.
"""


def page(table: dict[str, Any]) -> str:
    """The page, in Markdown."""
    return HEAD + "".join(section(provider) for provider in table.values())


def section(provider: dict[str, Any]) -> str:
    lines = "".join(line(row) for row in provider["statuses"])
    return (
        f"\n## {provider['name']}\n\n{provider['about']}\n\n"
        f"| {provider['name']} says | When | Gateway | Outcome | Trust | Results | Recorded |\n|---|---|---|---|---|---|---|\n{lines}\n"
        f"Results: {provider['results']}\n"
    )


def line(row: dict[str, Any]) -> str:
    cells = [
        code(row["said"]),
        row.get("when", ""),
        code(row["status"]),
        code(row["outcome"]) if row["outcome"] else "",
        ", ".join(row["trusted"]) or "none",
        ", ".join(map(code, row["results"])),
        "●" if row["shown_by"] else "",
    ]
    return f"| {' | '.join(cells)} |\n"


def code(word: str) -> str:
    return f"`{word}`"


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(TABLE.read_text())))
