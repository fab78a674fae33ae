"""Reads exceptions from the logs of tasks, which are JSON, and of components, which are text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from endurance.evidence import LoggedError

_TRACEBACK = "Traceback (most recent call last):"
_FILE = re.compile(r'File "([^"]+)"')
_RAISED = re.compile(r"^(?P<kind>[A-Za-z_][\w.]*)(?:: (?P<message>.*))?$")


def task_errors(path: Path, job: str) -> Iterator[LoggedError]:
    """The exceptions that ended attempts, from one attempt's log."""
    for line in path.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("error_detail") and entry.get("level") in ("error", "critical"):
            yield _of_entry(entry, line, str(path), job)


def _of_entry(entry: dict[str, Any], line: str, source: str, job: str) -> LoggedError:
    raised = entry["error_detail"][0]
    files = tuple(str(frame["filename"]) for frame in raised.get("frames") or ())
    return LoggedError(
        source=source,
        at=_seconds(str(entry.get("timestamp", ""))),
        job=job,
        kind=str(raised["exc_type"]),
        message=str(raised["exc_value"]),
        files=files,
        text=line,
    )


def component_errors(path: Path) -> Iterator[LoggedError]:
    """The tracebacks in the log of a component. Their time is not known."""
    lines = path.read_text(errors="replace").splitlines()
    for number, line in enumerate(lines):
        if _TRACEBACK not in line:
            continue
        files: list[str] = []
        for place in range(number + 1, min(number + 200, len(lines))):
            text = lines[place]
            if found := _FILE.search(text):
                files.append(found[1])
            elif files and (raised := _RAISED.match(text.strip("| "))) and not text.startswith("  "):
                kind, message = raised["kind"].rpartition(".")[2], raised["message"] or ""
                yield LoggedError(str(path), 0.0, "", kind, message, tuple(files), "\n".join(lines[number : place + 1]))
                break


def _seconds(timestamp: str) -> float:
    try:
        return datetime.fromisoformat(timestamp).timestamp()
    except ValueError:
        return 0.0
