"""Reads result rows from a file: one by one, or as a table."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any

from msgspec.json import encode

from airflow_bifrost.results.lines import lines_in, parse_line
from airflow_bifrost.results.rows import COLUMNS
from airflow_bifrost.results.storage import locate

if TYPE_CHECKING:
    import os

    from airflow.sdk import ObjectStoragePath

ROWS_AT_ONCE = 10_000  # rows per record batch of a table


def read_rows(
    uri: str | os.PathLike[str] | ObjectStoragePath, *, conn_id: str | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of a file, one at a time.

    :param uri: a URI for ``ObjectStoragePath``, or a local path.
    :param conn_id: the Airflow connection of the object store; None: the one in the URI, if any.
    :raises FileNotFoundError: there is no such file.
    :raises ValueError: a line is not a result row. The message has the line number.
    """
    path, fs = locate(uri, conn_id)
    try:
        file = fs.open(path.path, "rb")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"There are no result rows at {path}. The file appears when the task that writes it succeeds."
        ) from error
    with file:
        for number, line in enumerate(lines_in(file), start=1):
            if not line or line.isspace():
                continue
            try:
                row = parse_line(line)
            except ValueError as error:
                raise ValueError(f"Line {number} of {path} is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"Line {number} of {path} is JSON, but not a result row.")
            yield row


def to_arrow(uri: str | os.PathLike[str] | ObjectStoragePath, *, conn_id: str | None = None) -> Any:
    """The rows of a file as a ``pyarrow.Table``. ``response`` and ``output`` are JSON text, because their types differ by provider.

    :raises ImportError: pyarrow is not installed. For other errors see :func:`read_rows`.
    """
    pa = _import("pyarrow", "to_arrow")
    tokens = ("input_tokens", "output_tokens", "total_tokens")
    schema = pa.schema(
        [(name, pa.string()) for name in ("custom_id", "outcome", "text", "finish_reason", "output", "response")]
        + [
            ("error", pa.struct([("code", pa.string()), ("message", pa.string())])),
            ("usage", pa.struct([(name, pa.int64()) for name in tokens])),
        ]
    )
    rows = (
        row | {name: encode(row[name]).decode() for name in ("output", "response") if row.get(name) is not None}
        for row in read_rows(uri, conn_id=conn_id)
    )
    batches = iter(lambda: list(islice(rows, ROWS_AT_ONCE)), [])
    return pa.Table.from_batches((pa.RecordBatch.from_pylist(batch, schema=schema) for batch in batches), schema=schema)


def to_pandas(uri: str | os.PathLike[str] | ObjectStoragePath, *, conn_id: str | None = None) -> Any:
    """The rows of a file as a ``pandas.DataFrame``. ``response``, ``error`` and ``usage`` are dicts.

    :raises ImportError: pandas is not installed. For other errors see :func:`read_rows`.
    """
    pandas = _import("pandas", "to_pandas")
    return pandas.DataFrame(list(read_rows(uri, conn_id=conn_id)), columns=COLUMNS)


def _import(library: str, by: str) -> Any:
    try:
        return import_module(library)
    except ImportError as error:
        raise ImportError(
            f"{by} needs {library}, which is not installed: pip install {library}. read_rows needs no additional package."
        ) from error
