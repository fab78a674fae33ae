"""The gateway's native results, read entry by entry."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_bifrost.results.native import entries

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)
@given(
    before=st.dictionaries(st.text().filter(lambda name: name != "results"), VALUES, max_size=2),
    results=st.lists(VALUES, max_size=5),
    size=st.integers(1, 50),
    ascii_only=st.booleans(),
)
def test_the_entries_do_not_depend_on_where_the_bytes_are_split(
    before: dict[str, Any], results: list[Any], size: int, ascii_only: bool
) -> None:
    body = json.dumps(before | {"results": results} | {"z": 1}, ensure_ascii=ascii_only).encode(errors="replace")
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    assert list(entries(chunks)) == json.loads(body)["results"]


def test_an_entry_is_returned_before_the_rest_has_arrived() -> None:
    def chunks() -> Any:
        yield b'{"batch_id": "b", "results": [{"custom_id": "1"}, '
        raise AssertionError("read too far")

    assert next(entries(chunks())) == {"custom_id": "1"}


@pytest.mark.parametrize("body", [{}, {"results": None}, {"results": []}, {"other": [1]}], ids=json.dumps)
def test_an_object_without_results_has_no_entries(body: Any) -> None:
    assert list(entries([json.dumps(body).encode()])) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"<html>",
        b'{"results": 3}',
        b'{"results": [1 2]}',
        b'{"results": [{"a": 1}',
        b'{"results": [1]',
        b'{"a" 1}',
    ],
    ids=repr,
)
def test_text_that_is_not_a_results_object_or_ends_early_is_an_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a? ?(JSON|list)|ends early"):
        list(entries([body]))


def test_endless_nesting_is_an_error_and_not_a_crash() -> None:
    with pytest.raises(ValueError, match="nested too deep"):
        list(entries([b'{"results": [' + b"[" * 100_000]))
