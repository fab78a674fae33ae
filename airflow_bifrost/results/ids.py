"""Reads the custom IDs of a batch's results, without keeping the results."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any

from airflow_bifrost.results.completeness import Taken
from airflow_bifrost.results.lines import lines_of, read_line
from airflow_bifrost.results.parse import is_invented, result_row
from airflow_bifrost.results.source import Check


class CustomIds:
    """Collects the IDs of the rows that have a result, in the order of the results. See :class:`airflow_bifrost.results.source.Sink`."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def add_lines(self, chunks: Iterable[bytes], check: Check | None = None) -> Taken:
        """Add an output or error file."""
        return self.add((read_line(line) for line in lines_of(chunks) if line and not line.isspace()), check)

    def add(self, values: Iterable[Any], check: Check | None = None) -> Taken:
        """Add the gateway's native results, or other lines that are already JSON types."""
        rows = [result_row(value) for value in values if not is_invented(value)]
        found = [row.custom_id for row in rows if row is not None]
        taken = Taken(len(found), len(rows) - len(found), array("q", map(hash, found)))
        if check is not None:
            check(taken)
        self.ids += found
        return taken
