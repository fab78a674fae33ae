"""Reads the custom IDs of a batch's results, without keeping the results."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any

from airflow_bifrost.results.completeness import Taken
from airflow_bifrost.results.lines import MAX_LINE, lines_of, read_line
from airflow_bifrost.results.parse import is_placeholder, result_row
from airflow_bifrost.results.source import Check


class CustomIds:
    """Collects the IDs of the rows that have a result, in the order of the results. See :class:`airflow_bifrost.results.source.Sink`."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def add_lines(self, chunks: Iterable[bytes], check: Check | None = None) -> Taken:
        """Add an output or error file."""
        return self.add((read_line(line) for line in lines_of(chunks, MAX_LINE) if line and not line.isspace()), check)

    def add(self, values: Iterable[Any], check: Check | None = None) -> Taken:
        """Add the gateway's native results, or other lines that are already JSON types."""
        found = []
        unreadable = 0
        for value in values:
            if is_placeholder(value):
                continue
            if (row := result_row(value)) is None:
                unreadable += 1
            else:
                found.append(row.custom_id)
        taken = Taken(len(found), unreadable, array("q", map(hash, found)))
        if check is not None:
            check(taken)
        self.ids += found
        return taken
