"""Rows come from an iterable, or from the lines of a JSONL file."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_bifrost.submission.reading import Unreadable, read_jsonl

TEXT = st.text(max_size=30)
BODIES = st.dictionaries(
    TEXT,
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=4,
)
ROWS = st.lists(TEXT | BODIES | st.builds(lambda body: {"body": body}, BODIES), max_size=30)


def read(content: bytes) -> list[tuple[int, Any]]:
    return list(read_jsonl(io.BytesIO(content)))


def test_lines_come_with_their_numbers_and_blank_ones_are_skipped() -> None:
    assert read(b'\xef\xbb\xbf"a"\r\n\n  \t\n{"b": 1}\n[2]') == [(1, "a"), (4, {"b": 1}), (5, [2])]
    assert read(b"") == read(b"\xef\xbb\xbf\n\n") == read(b"\xef\xbb\xbf") == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"nope", "is not JSON"),
        (b'{"a": 1} {"b": 2}', "is not JSON"),
        (b'{"a": NaN}', "is not JSON"),
        (b"[-Infinity]", "is not JSON"),
        (b"[-1e999]", "has a number beyond the range"),
        (b"[1e999]", "has a number beyond the range"),
        (b'"\\ud800"', "is not JSON"),
        (b'{"\\udc00": 1}', "is not JSON"),
        (b'"\xff"', "is not UTF-8"),
        (b'"\xed\xa0\x80"', "is not UTF-8"),
        (b'{"a": "\xc3', "is not JSON"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'\xef\xbb\xbf"a"', "is not JSON"),  # a byte order mark within the file
    ],
)
def test_an_unreadable_line_is_reported_with_its_number_and_the_others_are_read(line: bytes, said: str) -> None:
    first, (number, row), last = read(b'"a"\n' + line + b'\n"b"\n')
    assert (first, last) == ((1, "a"), (3, "b"))
    assert number == 2
    assert isinstance(row, Unreadable)
    assert row.reason.startswith(said)


@settings(deadline=None)
@given(st.lists(TEXT | BODIES, max_size=10), st.booleans())
def test_rows_written_as_jsonl_are_read_back(rows: list[Any], ascii_only: bool) -> None:
    content = b"".join(json.dumps(row, ensure_ascii=ascii_only).encode() + b"\n" for row in rows)
    assert read(content) == list(enumerate(rows, 1))
