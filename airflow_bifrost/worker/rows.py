"""Where the rows of a task come from: its argument, the output of another task, or a JSONL anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from airflow.sdk import BaseOperator, XComArg


def after_the_tasks_that_make(task: BaseOperator, rows: Any) -> None:
    """Let ``task`` run after those whose output ``rows`` is.

    Airflow does this for templated fields. Rows are none: a prompt with ``{{`` in it must stay as it is, and prompts would be kept in
    the metadata database for everyone to read.
    """
    if isinstance(rows, XComArg):
        XComArg.apply_upstream_relationship(task, rows)


@contextmanager
def rows_of(rows: Any, input_path: str | None, context: Mapping[str, Any]) -> Iterator[Iterable[tuple[int, Any]]]:
    """The rows, each with its number (or that of its line), from 1.

    :raises ValueError: ``rows`` is nothing that has rows.
    :raises FileNotFoundError: ``input_path`` leads nowhere.
    """
    from airflow_bifrost.results.lines import lines_in
    from airflow_bifrost.results.storage import locate
    from airflow_bifrost.submission.requests_file import read_jsonl

    if input_path is not None:
        path, fs = locate(input_path)
        with fs.open(path.path, "rb") as file:
            yield read_jsonl(lines_in(file))
        return
    if isinstance(rows, XComArg):
        rows = rows.resolve(context)
    if rows is None or isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise ValueError(
            f"rows must be a list of prompts, bodies or batch lines, not {type(rows).__name__}; a JSONL goes into input_path"
        )
    yield enumerate(rows, start=1)
