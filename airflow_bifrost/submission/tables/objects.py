"""Tables in memory: pandas and Polars frames, Arrow data, DB-API cursors and SQLAlchemy results.

A library is used only if the object comes from it, so it is already imported. Nothing is copied as a whole.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from airflow_bifrost.submission.tables.table import ROWS_AT_ONCE, Table, TableRow, library, unique


def table_of(rows: Any) -> Table | None:
    """An object as a table; None if it is not a table.

    :raises BatchInputError: two columns have the same name, or the object needs a library that is not installed.
    """
    for reader in (_pandas, _polars, _arrow, _sqlalchemy, _cursor):
        if (table := reader(rows)) is not None:
            return table
    return None


def _is(value: Any, module: str, *classes: str) -> bool:
    """Whether a value is an instance of a class of a module, without importing the module."""
    loaded = sys.modules.get(module)
    kinds = tuple(kind for name in classes if isinstance(kind := getattr(loaded, name, None), type))
    return isinstance(value, kinds)


def _is_column(value: Any) -> bool:
    """Whether a value is one column of a table. Its values are rows: prompts, for example."""
    return _is(value, "pandas", "Series") or _is(value, "polars", "Series") or _is(value, "pyarrow", "ChunkedArray")


def _pandas(frame: Any) -> Table | None:
    if not _is(frame, "pandas", "DataFrame"):
        return None
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()  # a named index is a column, e.g. after set_index("id")
    kind = "a pandas DataFrame"
    columns = unique(list(frame.columns), kind)

    def rows() -> Iterator[TableRow]:
        for first in range(0, len(frame), ROWS_AT_ONCE):
            some = frame.iloc[first : first + ROWS_AT_ONCE]
            plain = some.astype(object).where(some.notna(), None)  # NaN, NaT and NA are all "no value"
            for values in plain.itertuples(index=False, name=None):
                yield dict(zip(columns, values, strict=True))

    return Table(kind, columns, rows())


def _polars(frame: Any) -> Table | None:
    if not _is(frame, "polars", "DataFrame", "LazyFrame"):
        return None
    if _is(frame, "polars", "LazyFrame"):
        frame = frame.collect()
    return Table("a Polars DataFrame", tuple(frame.columns), frame.iter_rows(named=True, buffer_size=ROWS_AT_ONCE))


def _arrow(data: Any) -> Table | None:
    if _is(data, "pyarrow", "Table", "RecordBatch"):
        batches: Any = data.to_batches(ROWS_AT_ONCE) if _is(data, "pyarrow", "Table") else [data]
    elif _is(data, "pyarrow", "RecordBatchReader"):
        batches = data
    elif hasattr(data, "__arrow_c_stream__") and not _is_column(data):
        # The Arrow PyCapsule interface, e.g. of a DuckDB relation or an ADBC result:
        # https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
        kind = f"Arrow data ({type(data).__name__})"
        batches = data = library("pyarrow", extra="parquet", reads=kind).RecordBatchReader.from_stream(data)
    else:
        return None
    kind = "an Arrow table"
    columns = unique(data.schema.names, kind)
    return Table(kind, columns, chain.from_iterable(batch.to_pylist() for batch in batches))


def _sqlalchemy(result: Any) -> Table | None:
    if not _is(result, "sqlalchemy.engine", "Result"):
        return None
    kind = "an SQLAlchemy result"
    columns = unique(list(result.keys()), kind)
    return Table(kind, columns, _of_chunks(columns, result.fetchmany))


def _cursor(cursor: Any) -> Table | None:
    """A DB-API cursor: https://peps.python.org/pep-0249/#cursor-attributes."""
    if not (hasattr(cursor, "description") and hasattr(cursor, "fetchmany") and hasattr(cursor, "execute")):
        return None
    kind = "a database cursor"
    columns = unique([column[0] for column in cursor.description or ()], kind)
    return Table(kind, columns, _of_chunks(columns, cursor.fetchmany))


def _of_chunks(columns: tuple[str, ...], fetchmany: Callable[[int], Any]) -> Iterator[TableRow]:
    while some := fetchmany(ROWS_AT_ONCE):
        for values in some:
            yield values if isinstance(values, dict) else dict(zip(columns, values, strict=True))
