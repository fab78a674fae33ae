"""Which format a file has, what a table in it holds, and the errors for a file with other content."""

from __future__ import annotations

import gzip
import io
import sys
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_bifrost.exceptions import BatchInputError
from airflow_bifrost.submission.reading import Unreadable
from airflow_bifrost.submission.tables.files import FileFormat, format_of, is_data_file, opened, read_table


def rows(content: bytes, name: str) -> list[Any]:
    form = format_of(name)
    return list(read_table(opened(io.BytesIO(content), form, name), form.content, name).rows)


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file, **options)
    return file.getvalue()


def zstandard(content: bytes) -> bytes:
    return pyarrow.Codec("zstd").compress(content, asbytes=True)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("in.jsonl", FileFormat("jsonl")),
        ("in.ndjson.gz", FileFormat("jsonl", "gz")),
        ("IN.CSV", FileFormat("csv")),
        ("s3://b/x.y/in.tsv.zst", FileFormat("tsv", "zst")),
        ("in.pq", FileFormat("parquet")),
        ("in.txt", FileFormat("jsonl")),
        ("in", FileFormat("jsonl")),
        ("in.gz", FileFormat("jsonl", "gz")),
    ],
)
def test_the_name_of_a_file_says_its_format(name: str, form: FileFormat) -> None:
    assert format_of(name) == form


@pytest.mark.parametrize("given_format", ["csv", "CSV.gz", "parquet", "jsonl.zst"])
def test_input_format_overrides_the_name(given_format: str) -> None:
    assert str(format_of("in.data", given_format)) == given_format.lower()


@pytest.mark.parametrize("wrong", ["xlsx", "gz", "csv.tsv.gz", "", "csv."])
def test_an_unknown_input_format_is_an_error_that_lists_the_known_ones(wrong: str) -> None:
    with pytest.raises(ValueError, match="jsonl, csv, tsv, parquet"):
        format_of("in.csv", wrong)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", True),
        ("b.jsonl.gz", True),
        ("_SUCCESS", False),
        ("_a.csv", False),
        (".a.csv.crc", False),
        ("a.txt", False),
    ],
)
def test_in_a_folder_only_files_of_rows_count(name: str, expected: bool) -> None:
    assert is_data_file(f"folder/{name}") is expected


def test_csv_values_are_text_as_written() -> None:
    content = b'id,review\n007,"two\nlines, ""quoted"""\n\n1e3,\n'
    assert rows(content, "in.csv") == [{"id": "007", "review": 'two\nlines, "quoted"'}, {"id": "1e3", "review": ""}]


def test_tsv_is_split_at_tabs_and_a_byte_order_mark_is_not_part_of_a_name() -> None:
    assert rows("\ufeffid\treview\r\n1\ta, b\r\n".encode(), "in.tsv") == [{"id": "1", "review": "a, b"}]


def test_a_long_cell_is_read() -> None:
    assert rows(b"text\n" + b"x" * 200_000 + b"\n", "in.csv") == [{"text": "x" * 200_000}]


def test_a_record_with_too_few_or_too_many_cells_is_unreadable_and_the_others_are_read() -> None:
    few, good, many = rows(b"a,b\n1\n1,2\n1,2,3\n", "in.csv")
    assert good == {"a": "1", "b": "2"}
    assert few == Unreadable("has 1 cells, but the first line names 2 columns")
    assert isinstance(many, Unreadable)


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=2, max_size=2)))
def test_what_the_csv_writer_writes_is_read_unchanged(values: list[list[str]]) -> None:
    import csv

    file = io.StringIO(newline="")
    csv.writer(file).writerows([["a", "b"], *values])
    assert rows(file.getvalue().encode(), "in.csv") == [{"a": a, "b": b} for a, b in values]


@pytest.mark.parametrize("row_group_size", [None, 1])
def test_parquet_is_read_with_its_types(row_group_size: int | None) -> None:
    content = parquet({"id": [1, 2], "tags": [["a"], None]}, row_group_size=row_group_size)
    assert rows(content, "in.parquet") == [{"id": 1, "tags": ["a"]}, {"id": 2, "tags": None}]


@pytest.mark.parametrize(("name", "compress"), [("in.csv.gz", gzip.compress), ("in.csv.zst", zstandard)])
def test_compressed_files_are_read(name: str, compress: Any) -> None:
    content = b"a\n" + b"x\n" * 100_000
    assert rows(compress(content), name) == [{"a": "x"}] * 100_000


JSON_LINES = b'{"a": 1}\n{"a": 2}\n'


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("in.jsonl", b'[{"a": 1}]', "a JSON array"),
        ("in.jsonl", b'\xef\xbb\xbf [\n {"a": 1}]', "a JSON array"),
        ("in.jsonl", b"id,review\n1,good\n", "CSV"),
        ("in.jsonl", b"id\treview\n1\tgood, very\n", "TSV"),
        ("in.jsonl", '"a"\n'.encode("utf-16"), "text in UTF-16"),
        ("in.csv", "a,b\n".encode("utf-16-le"), "text in UTF-16"),
        ("in.csv", "a,b\n".encode("utf-16"), "text in UTF-16"),
        ("in.jsonl", gzip.compress(JSON_LINES, mtime=0), "gzip data"),
        ("in.csv", zstandard(b"a\n"), "Zstandard data"),
        ("in.csv.gz", b"a,b\n", "data that is not compressed"),
        ("in.csv", JSON_LINES, "JSON Lines"),
        ("in.csv", parquet({"a": [1]}), "Parquet"),
        ("in.jsonl.gz", gzip.compress(b'["a"]', mtime=0), "a JSON array"),
        ("in.parquet", JSON_LINES, "data that is not Parquet"),
        ("in.csv", b"PK\x03\x04xl/workbook.xml", "a ZIP archive, such as an Excel workbook"),
    ],
)
def test_a_file_under_another_name_is_an_error_that_names_what_it_holds(name: str, content: bytes, found: str) -> None:
    with pytest.raises(BatchInputError) as error:
        opened(io.BytesIO(content), format_of(name), name)
    assert f"but holds {found}." in str(error.value)
    assert "nothing is billed" in str(error.value)


@pytest.mark.parametrize(
    "content", [JSON_LINES, b'"a"\n"b"\n', b"", b"\n\n", b"not JSON\n", b'{"a": 1, "b": 2}', b'{"bad": ,}\n']
)
def test_json_lines_good_or_bad_are_left_to_their_reader(content: bytes) -> None:
    assert opened(io.BytesIO(content), format_of("in.jsonl"), "in.jsonl").read() == content


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"a,,b\n", "without a name"),
        (b"a,a\n", "named 'a'"),
        (b'a\n"x\n', "cannot be read"),
        (b"a\n\xff\n", "not UTF-8"),
    ],
)
def test_a_csv_file_that_cannot_be_read_is_an_error_before_anything_is_sent(content: bytes, problem: str) -> None:
    with pytest.raises(BatchInputError, match=problem):
        rows(content, "in.csv")


def test_a_damaged_parquet_file_is_an_error_that_names_it() -> None:
    with pytest.raises(BatchInputError, match=r"in\.parquet cannot be read as Parquet"):
        rows(b"PAR1 and nothing more", "in.parquet")


def test_parquet_without_pyarrow_is_an_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    content = parquet({"a": [1]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BatchInputError, match=r"Reading Parquet needs pyarrow.*airflow-provider-bifrost\[parquet\]"):
        rows(content, "in.parquet")
