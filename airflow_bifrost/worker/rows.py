"""Where a task's rows come from: its argument, the output of another task, or a JSONL file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from airflow.sdk import XComArg

from airflow_bifrost.results.lines import lines_in
from airflow_bifrost.results.storage import locate
from airflow_bifrost.submission.reading import numbered, read_jsonl


@contextmanager
def rows_of(rows: Any, input_path: str | None, context: Mapping[str, Any]) -> Iterator[Iterator[tuple[int, Any]]]:
    """The rows, each with its number, counted from 1 (in a file, its line number).

    :raises ValueError: ``rows`` is not an iterable of rows.
    :raises BatchInputError: ``rows`` has no stable order.
    :raises FileNotFoundError: there is no file at ``input_path``.
    """
    if input_path is not None:
        path, fs = locate(input_path)
        with fs.open(path.path, "rb") as file:
            yield read_jsonl(lines_in(file))
        return
    if isinstance(rows, XComArg):
        rows = rows.resolve(context)
    yield numbered(rows)
