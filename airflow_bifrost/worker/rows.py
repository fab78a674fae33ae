"""Where a task's rows come from: its argument, the output of another task, or a JSONL file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from airflow.sdk import XComArg

from airflow_bifrost._compat import XComNotFound
from airflow_bifrost.results.lines import lines_in
from airflow_bifrost.results.storage import locate
from airflow_bifrost.submission.reading import numbered, read_jsonl


class RowsGone(ValueError):
    """The output of another task that holds the rows does not exist."""


VANISHED = (FileNotFoundError, RowsGone)  # the rows may have been there in an earlier attempt


@contextmanager
def rows_of(rows: Any, input_path: str | None, context: Mapping[str, Any]) -> Iterator[Iterator[tuple[int, Any]]]:
    """The rows, each with its number, counted from 1 (in a file, its line number).

    :raises ValueError: ``rows`` is not an iterable of rows.
    :raises BatchInputError: ``rows`` has no stable order.
    :raises FileNotFoundError: there is no file at ``input_path``.
    :raises RowsGone: ``rows`` is the output of another task, and does not exist.
    """
    if input_path is not None:
        path, fs = locate(input_path)
        with fs.open(path.path, "rb") as file:
            yield read_jsonl(lines_in(file))
        return
    if isinstance(rows, XComArg):
        rows = _output_of(rows, context)
    yield numbered(rows)


def _output_of(source: XComArg, context: Mapping[str, Any]) -> Any:
    with suppress(XComNotFound):
        if (rows := source.resolve(context)) is not None:
            return rows
    raise RowsGone(
        "rows is the output of another task, but that task has no output (XCom). Nothing was submitted in this attempt. Check what the"
        " other task returns, or clear it to have it return its rows again."
    )
