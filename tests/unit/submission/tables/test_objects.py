"""Tables in memory become rows with named columns."""

from __future__ import annotations

import datetime
import sqlite3
import sys
from decimal import Decimal
from typing import Any

import pandas
import polars
import pyarrow
import pytest
import sqlalchemy

from airflow_bifrost.exceptions import BatchInputError
from airflow_bifrost.submission.tables.objects import table_of
from airflow_bifrost.submission.tables.table import ROWS_AT_ONCE

COLUMNS = {"id": [1, 2], "review": ["fine", None]}
ROWS = [{"id": 1, "review": "fine"}, {"id": 2, "review": None}]


def cursor() -> Any:
    connection = sqlite3.connect(":memory:")
    return connection.execute("select 1 as id, 'fine' as review union all select 2, null")


def sqlalchemy_result() -> Any:
    query = sqlalchemy.text("select 1 as id, 'fine' as review union all select 2, null")
    return sqlalchemy.create_engine("sqlite://").connect().execute(query)


class ArrowStream:
    """What DuckDB and ADBC offer: the PyCapsule interface and nothing else."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return pyarrow.table(COLUMNS).__arrow_c_stream__(requested_schema)


TABLES = {
    "pandas": lambda: pandas.DataFrame(COLUMNS),
    "polars": lambda: polars.DataFrame(COLUMNS),
    "polars lazy": lambda: polars.LazyFrame(COLUMNS),
    "arrow": lambda: pyarrow.table(COLUMNS),
    "arrow batch": lambda: pyarrow.RecordBatch.from_pydict(COLUMNS),
    "arrow reader": lambda: pyarrow.table(COLUMNS).to_reader(),
    "arrow stream": ArrowStream,
    "cursor": cursor,
    "sqlalchemy": sqlalchemy_result,
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_of_any_kind_has_the_same_columns_and_rows(kind: str) -> None:
    table = table_of(TABLES[kind]())
    assert table is not None
    assert table.columns == ("id", "review")
    assert [dict(row) for row in table.rows] == ROWS  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [["a"], [{"a": 1}], "text", None, iter(()), ({"a"},), pandas.Series(["a"])])
def test_an_object_that_is_not_a_table_is_not_taken_for_one(rows: Any) -> None:
    assert table_of(rows) is None


@pytest.mark.parametrize("make", [pandas.DataFrame, polars.DataFrame, pyarrow.table])
def test_values_keep_their_type_and_their_place_over_several_chunks(make: Any) -> None:
    rows = 2 * ROWS_AT_ONCE + 1
    table = table_of(make({"number": list(range(rows)), "date": [datetime.date(2026, 1, 2)] * rows}))
    assert table is not None
    read = list(table.rows)
    assert [row["number"] for row in read] == list(range(rows))  # type: ignore[index]
    assert {type(row["number"]) for row in read} == {int}  # type: ignore[index]
    assert read[0]["date"] == datetime.date(2026, 1, 2)  # type: ignore[index]


def test_pandas_nulls_of_each_kind_count_as_no_value() -> None:
    frame = pandas.DataFrame(
        {
            "float": [float("nan")],
            "date": [pandas.NaT],
            "integer": pandas.array([None], dtype="Int64"),
            "text": pandas.array([None], dtype="string"),
            "object": [None],
        }
    )
    table = table_of(frame)
    assert table is not None
    assert next(table.rows) == dict.fromkeys(frame.columns)


def test_a_named_index_of_a_frame_is_a_column() -> None:
    table = table_of(pandas.DataFrame(COLUMNS).set_index("id"))
    assert table is not None
    assert table.columns == ("id", "review")


def test_decimals_stay_exact() -> None:
    table = table_of(pyarrow.table({"price": [Decimal("0.10")]}))
    assert table is not None
    assert next(table.rows) == {"price": Decimal("0.10")}


def test_two_columns_with_the_same_name_are_an_error() -> None:
    with pytest.raises(BatchInputError, match="several columns named 'a'"):
        table_of(pandas.DataFrame([[1, 2]], columns=["a", "a"]))


def test_arrow_data_without_pyarrow_is_an_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BatchInputError, match=r"needs pyarrow.*airflow-provider-bifrost\[parquet\]"):
        table_of(ArrowStream())
