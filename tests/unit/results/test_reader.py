"""Result rows one by one, and as tables."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import airflow_bifrost.results
from airflow_bifrost.results import read_rows, to_arrow, to_pandas
from airflow_bifrost.results.rows import COLUMNS
from airflow_bifrost.results.writer import ResultsWriter

LINES = [
    {"custom_id": "a", "response": {"status_code": 200, "body": {"text": "Hi", "usage": {"total_tokens": 7}}}},
    {"custom_id": "b", "response": {"status_code": 400, "body": {"error": {"message": "no"}, "text": ["odd"]}}},
]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "out.jsonl"
    with ResultsWriter() as results:
        results.add(LINES)
        results.write(["a", "b", "c"], path)
    return path


def test_rows_are_read_one_at_a_time(written: Path) -> None:
    rows = read_rows(str(written))
    assert next(rows)["text"] == "Hi"
    assert [row["outcome"] for row in rows] == ["failed", "missing"]


def test_rows_are_read_from_a_relative_path_and_from_a_uri(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(written.parent)
    assert list(read_rows("out.jsonl")) == list(read_rows(f"file://{written}")) == list(read_rows(written))


def test_blank_lines_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text('\n{"custom_id": "a"}\n  \r\n{"custom_id": "b"}')
    assert [row["custom_id"] for row in read_rows(tmp_path / "out.jsonl")] == ["a", "b"]


@pytest.mark.parametrize(("line", "said"), [('{"custom_id": ', "is not JSON"), ("[]", "is JSON, but not a result row")])
def test_an_error_names_the_number_of_a_broken_line(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(f'{{"custom_id": "a"}}\n\n{line}\n')
    rows = read_rows(path)
    assert next(rows)["custom_id"] == "a"
    with pytest.raises(ValueError, match=rf"Line 3 of {path} {said}"):
        next(rows)


@pytest.mark.parametrize("uri", ["{folder}/none.jsonl", "file://{folder}/none.jsonl", "memory://none.jsonl"])
def test_an_error_names_a_missing_file(tmp_path: Path, uri: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"There are no result rows at .*none\.jsonl"):
        next(read_rows(uri.format(folder=tmp_path)))


@pytest.mark.parametrize(("read", "library"), [(to_arrow, "pyarrow"), (to_pandas, "pandas")])
def test_an_error_names_a_library_that_is_not_installed(
    read: Any, library: str, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf"{read.__name__} needs {library}.*pip install {library}"):
        read(written)


def test_an_arrow_table_has_the_columns_of_the_contract(written: Path) -> None:
    pytest.importorskip("pyarrow")
    table = to_arrow(written)
    assert tuple(table.column_names) == COLUMNS
    a, b, c = table.to_pylist()
    assert (a["text"], a["usage"]["total_tokens"], a["error"]) == ("Hi", 7, None)
    assert json.loads(a["response"]) == LINES[0]["response"]["body"]  # type: ignore[index]
    assert b["error"] == {"code": "400", "message": "no"}
    assert (c["outcome"], c["response"], c["usage"]) == ("missing", None, None)


def test_a_pandas_frame_has_the_columns_of_the_contract(written: Path) -> None:
    pytest.importorskip("pandas")
    frame = to_pandas(written)
    assert tuple(frame.columns) == COLUMNS
    assert list(frame["outcome"]) == ["succeeded", "failed", "missing"]
    assert frame["response"][0] == LINES[0]["response"]["body"]  # type: ignore[index]


def test_empty_tables_have_the_columns_of_the_contract(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("pandas")
    (tmp_path / "out.jsonl").touch()
    assert tuple(to_arrow(tmp_path / "out.jsonl").column_names) == COLUMNS
    assert tuple(to_pandas(tmp_path / "out.jsonl").columns) == COLUMNS


def test_the_package_exports_the_reader() -> None:
    reader = importlib.import_module("airflow_bifrost.results.reader")
    assert dir(airflow_bifrost.results) == ["read_rows", "to_arrow", "to_pandas"]
    assert all(getattr(airflow_bifrost.results, name) is getattr(reader, name) for name in dir(airflow_bifrost.results))
    with pytest.raises(AttributeError, match="has no attribute 'read_row'"):
        _ = airflow_bifrost.results.read_row
