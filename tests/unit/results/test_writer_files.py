"""The file of result rows appears whole or not at all, in every kind of store."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import pytest
from airflow.sdk import ObjectStoragePath
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from support.full_disk import room_for
from support.result_lines import failed, jsonl, succeeded

from airflow_bifrost.results.reader import read_rows
from airflow_bifrost.results.rows import COLUMNS
from airflow_bifrost.results.tally import Tally
from airflow_bifrost.results.writer import ResultsWriter


def write(ids: Sequence[str], *sources: bytes, uri: str) -> tuple[list[dict[str, Any]], Tally]:
    with ResultsWriter() as results:
        for source in sources:
            results.add_lines([source])
        tally = results.write(ids, uri)
    return list(read_rows(uri)), tally


@pytest.fixture(params=["file", "memory", "local path"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URI of a folder that is not there yet, in stores that rename and in one that copies and deletes."""
    if request.param == "memory":
        yield f"memory://{uuid.uuid4().hex}/results"
        MemoryFileSystem.store.clear()
        MemoryFileSystem.pseudo_dirs[:] = [""]
    else:
        yield f"{'file://' if request.param == 'file' else ''}{tmp_path}/new/results"


def names(folder: str) -> list[str]:
    fs, path = fsspec.url_to_fs(folder)
    return sorted(name.rsplit("/", 1)[-1] for name in fs.ls(path, detail=False)) if fs.isdir(path) else []


def test_each_row_of_the_input_is_written_once_in_the_order_of_the_input(folder: str) -> None:
    out = jsonl(succeeded("c", "3"), succeeded("a", "1"))
    rows, tally = write(["a", "b", "c", "d"], out, jsonl(failed("b")), uri=f"{folder}/out.jsonl")
    assert [(row["custom_id"], row["outcome"], row["text"]) for row in rows] == [
        ("a", "succeeded", "1"),
        ("b", "failed", None),
        ("c", "succeeded", "3"),
        ("d", "missing", None),
    ]
    assert all(tuple(row) == COLUMNS for row in rows)
    assert tally.rows == {"total": 4, "succeeded": 2, "failed": 1, "expired": 0, "cancelled": 0, "missing": 1}
    assert names(folder) == ["out.jsonl"]


def test_an_existing_file_is_replaced(folder: str) -> None:
    write(["a", "b"], jsonl(succeeded("a"), succeeded("b")), uri=f"{folder}/out.jsonl")
    rows, _ = write(["a"], jsonl(succeeded("a", "again")), uri=f"{folder}/out.jsonl")
    assert [row["text"] for row in rows] == ["again"]
    assert names(folder) == ["out.jsonl"]


@pytest.mark.parametrize(
    "name", ["run=[1]/out.jsonl", "out*.jsonl", "out?.jsonl", "2026-01-01T00:00:00+00:00/out#1.jsonl"]
)
def test_a_file_name_is_never_a_pattern(folder: str, name: str) -> None:
    rows, _ = write(["a"], jsonl(succeeded("a")), uri=f"{folder}/{name}")
    assert [row["outcome"] for row in rows] == ["succeeded"]
    assert names(f"{folder}/{name}".rpartition("/")[0]) == [name.rpartition("/")[2]]


class Broken(Exception):
    pass


def test_a_failed_write_leaves_the_file_as_it_was_and_nothing_else(folder: str) -> None:
    uri = f"{folder}/out.jsonl"
    before, _ = write(["a"], jsonl(succeeded("a")), uri=uri)

    def ids() -> Iterator[str]:
        yield "a"
        raise Broken

    with ResultsWriter() as results, pytest.raises(Broken):
        results.write(ids(), uri)
    assert names(folder) == ["out.jsonl"]
    assert list(read_rows(uri)) == before


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_file_that_cannot_be_renamed_is_removed(
    folder: str, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error("no")

    monkeypatch.setattr(MemoryFileSystem, "mv", refuse)
    monkeypatch.setattr(LocalFileSystem, "mv", refuse)
    with pytest.raises(error):
        write(["a"], jsonl(succeeded("a")), uri=f"{folder}/out.jsonl")
    assert names(folder) == []


def test_a_write_that_failed_can_be_repeated(folder: str) -> None:
    def ids() -> Iterator[str]:
        yield "a"
        raise Broken

    with ResultsWriter() as results:
        results.add_lines([jsonl(succeeded("a"))])
        with pytest.raises(Broken):
            results.write(ids(), f"{folder}/out.jsonl")
        assert names(folder) == []
        assert results.write(["a"], f"{folder}/out.jsonl").succeeded == 1


def test_a_folder_is_rejected_before_anything_is_written(tmp_path: Path) -> None:
    for uri in (str(tmp_path), f"file://{tmp_path}", f"{tmp_path}/new/"):
        with pytest.raises(ValueError, match=r"is a folder. Name a file in it, such as .*results.jsonl"):
            write(["a"], uri=uri)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("memory://some_conn@bucket/out.jsonl", "no installed Airflow provider package knows memory://"),
        ("odd://bucket/out.jsonl", "Unsupported filesystem: 'odd'|no installed Airflow provider package knows odd://"),
    ],
)
def test_an_unknown_store_is_rejected(uri: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        write(["a"], uri=uri)


def test_an_object_storage_path_is_used_unchanged(tmp_path: Path) -> None:
    path = ObjectStoragePath(f"file://{tmp_path}") / "out.jsonl"
    with ResultsWriter() as results:
        results.write(["a"], path)
    assert [row["outcome"] for row in read_rows(path)] == ["missing"]


def test_a_full_disk_keeps_the_old_file_and_the_results_so_that_the_write_can_be_repeated(tmp_path: Path) -> None:
    ids = [f"r{number}" for number in range(200)]
    results_of_all = jsonl(*(succeeded(custom_id, "x" * 3000) for custom_id in ids))
    uri = str(tmp_path / "out.jsonl")
    before, _ = write(["a"], jsonl(succeeded("a")), uri=uri)
    with ResultsWriter() as results:
        with pytest.raises(OSError, match="too large"), room_for(300_000):
            results.add_lines([results_of_all])
        assert list(results.custom_ids()) == []  # of a source that was not read to its end
        results.add_lines([results_of_all])
        with pytest.raises(OSError, match="too large"), room_for(300_000):
            results.write(ids, uri)
        assert names(str(tmp_path)) == ["out.jsonl"]
        assert list(read_rows(uri)) == before
        assert results.write(ids, uri).succeeded == len(ids)


def test_a_disk_that_stays_full_is_reported_as_full(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too large"), room_for(300_000), ResultsWriter() as results:
        results.add_lines([jsonl(*(succeeded(str(number), "x" * 3000) for number in range(200)))])
