"""Collects result lines unchanged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import IO, Any

from airflow_bifrost.results.completeness import Taken
from airflow_bifrost.results.lines import MAX_LINE, lines_of, read_line
from airflow_bifrost.results.parse import is_placeholder, result_row
from airflow_bifrost.results.source import Check


class RawLines:
    """Collects result lines of any number of sources as JSONL, on the worker's disk."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> RawLines:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add_lines(self, chunks: Iterable[bytes], check: Check | None = None) -> Taken:
        """Add an output or error file. See :class:`airflow_bifrost.results.source.Sink`."""
        return self._take(((line, _is_result(line)) for line in lines_of(chunks, MAX_LINE)), check)

    def add(self, values: Iterable[Any], check: Check | None = None) -> Taken:
        """Add the gateway's native results, except a row that the gateway invented."""
        lines = (
            (b"" if value is None else json.dumps(value).encode(), result_row(value) is not None)
            for value in values
            if not is_placeholder(value)
        )
        return self._take(lines, check)

    def copy_to(self, file: IO[bytes]) -> None:
        """Write all collected lines."""
        self._file.seek(0)
        copyfileobj(self._file, file)

    def _take(self, lines: Iterator[tuple[bytes, bool | None]], check: Check | None) -> Taken:
        start = self._file.tell()
        results = unreadable = 0
        try:
            for line, is_result in lines:
                if line:
                    self._file.write(line + b"\n")
                results += is_result is True
                unreadable += is_result is False
            taken = Taken(results, unreadable)
            if check is not None:
                check(taken)
        except BaseException:
            self._file.seek(start)
            self._file.truncate()
            raise
        return taken


def _is_result(line: bytes) -> bool | None:
    """Whether a line holds a row's result; None if the line is blank."""
    if not line or line.isspace():
        return None
    return result_row(read_line(line)) is not None
