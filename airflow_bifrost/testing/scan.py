"""Reads a batch's input once, as the provider does when it validates it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from airflow_bifrost.testing.json_text import parsed
from airflow_bifrost.testing.model import Fate, Row, Verdict, verdict

_MOST_ERRORS = 50  # that a batch shows


@dataclass(frozen=True, slots=True)
class Scan:
    """What is known after reading an input once."""

    rows: int
    odd: list[tuple[int, Verdict]]
    errors: list[dict[str, Any]]


def scan(lines: Iterable[bytes], *, validated: bool, seen_before: Callable[[str], bool]) -> Scan:
    """Count the rows of an input, and find those that do not simply succeed.

    :param validated: whether the provider refuses the whole batch for a bad line, as OpenAI does.
    :param seen_before: whether a prompt was in a batch before; remembers it.
    """
    odd: list[tuple[int, Verdict]] = []
    errors: list[dict[str, Any]] = []
    seen: set[str] = set()
    rows = 0
    for rows, line in enumerate(lines, start=1):
        row = _read(line)
        if row is None:
            errors.append(_error("invalid_json_line", "This line is not parseable as valid JSON.", rows))
            continue
        if validated and not row.custom_id:
            errors.append(_error("missing_required_parameter", "Missing required parameter: 'custom_id'.", rows))
        elif validated and row.custom_id in seen:
            errors.append(_error("duplicate_custom_id", f"The custom_id '{row.custom_id}' is used twice.", rows))
        seen.add(row.custom_id)
        wanted = verdict(row.prompt)
        if wanted.fate is Fate.FLAKY and seen_before(row.prompt):
            continue
        if wanted.fate is not Fate.OK:
            odd.append((rows - 1, wanted))
    if validated and not rows:
        errors.append({"code": "empty_file", "message": "The input file is empty."})
    return Scan(rows, odd, errors[:_MOST_ERRORS] if validated else [])


def _error(code: str, message: str, line: int) -> dict[str, Any]:
    return {"code": code, "message": message, "line": line}


def _read(line: bytes) -> Row | None:
    try:
        value = parsed(line)
    except ValueError:
        return None
    return Row.read(value) if isinstance(value, dict) else None
