"""What all tables have in common, and how a missing library is reported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from airflow_bifrost.submission.bad_rows import input_error
from airflow_bifrost.submission.reading import Unreadable

ROWS_AT_ONCE = 10_000  # rows that are converted to Python values at once

TableRow = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with named columns.

    :param kind: what the table is, for messages, such as ``a pandas DataFrame``.
    :param columns: the names; None if they are known only row by row.
    :param rows: the rows, one at a time. A value that is null in the source is None.
    """

    kind: str
    columns: tuple[str, ...] | None
    rows: Iterator[TableRow | Unreadable]


def library(name: str, *, extra: str, reads: str) -> Any:
    """An optional library.

    :param extra: the extra of this package that installs it.
    :param reads: what it reads, for the message.
    :raises BatchInputError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise input_error(
            f"Reading {reads} needs {package}, which is not installed.",
            f"Install it on the workers: pip install 'airflow-provider-bifrost[{extra}]'.",
        ) from error


def unique(columns: list[Any], kind: str) -> tuple[str, ...]:
    """The names of a table's columns.

    :raises BatchInputError: two columns have the same name.
    """
    names = tuple(str(column) for column in columns)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise input_error(
            f"The rows are {kind} with several columns named {twice[0]!r}.",
            "Give each column a name that no other has.",
        )
    return names
