"""Where a task's rows come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_bifrost.exceptions import BatchInputError
from airflow_bifrost.worker.rows import rows_of


def read(rows: Any = None, input_path: str | None = None) -> list[tuple[int, Any]]:
    with rows_of(rows, input_path) as given:
        return list(given.rows)


@pytest.mark.parametrize("form", ["in.jsonl", "./in.jsonl", "{folder}/in.jsonl", "file://{folder}/in.jsonl"])
def test_a_file_can_be_given_by_a_relative_path_an_absolute_path_and_a_uri(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    (tmp_path / "in.jsonl").write_bytes(b'\xef\xbb\xbf"a"\r\n\n{"b": 1}')
    monkeypatch.chdir(tmp_path)
    assert read(input_path=form.format(folder=tmp_path)) == [(1, "a"), (3, {"b": 1})]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.jsonl"):
        read(input_path=f"{tmp_path}/nothing.jsonl")


def test_rows_may_be_any_iterable() -> None:
    assert read(iter(["a", "b"])) == read(("a", "b")) == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("rows", [None, "one prompt", b"one", {"model": "m"}, 7])
def test_a_value_that_is_not_an_iterable_of_rows_is_refused(rows: Any) -> None:
    with pytest.raises(ValueError, match="rows must be a list"):
        read(rows)


@pytest.mark.parametrize("rows", [{"a", "b"}, frozenset("ab"), {"a": 1}.keys()], ids=lambda rows: type(rows).__name__)
def test_rows_without_a_stable_order_are_refused(rows: Any) -> None:
    with pytest.raises(BatchInputError, match=r"order differs from process to process.* nothing is billed"):
        read(rows)
