"""A full disk or store fails the attempt, and the next attempt continues with what is paid for."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from support.airflow import Store
from support.full_disk import fill_up
from support.runs import outcomes, run

from airflow_bifrost.results import read_rows
from airflow_bifrost.testing import LocalGateway


@pytest.fixture
def gateway(quick_gateway: LocalGateway) -> LocalGateway:
    return quick_gateway


@pytest.fixture
def folder() -> Iterator[str]:
    yield f"memory://{uuid.uuid4().hex}"
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.mark.parametrize("remembering", [True, False], ids=["state in Airflow", "state in a file"])
def test_a_store_that_is_full_at_any_file_of_a_run_loses_nothing_and_pays_nothing_twice(
    gateway: LocalGateway, folder: str, monkeypatch: pytest.MonkeyPatch, remembering: bool
) -> None:
    written: list[str] = []
    full_at: int | None = None

    def is_full(path: str) -> bool:
        if path not in written:
            written.append(path)
        return full_at is not None and written.index(path) >= full_at

    fill_up(monkeypatch, is_full)
    rows = ["a", "b", "!flaky 500"]
    assert run(f"{folder}/whole.jsonl", rows, store=Store(), remembering=remembering).state == "success"
    files = len(written)
    assert files > 2
    for number in range(0, files, 1 if remembering else 4):  # the state is written again and again
        gateway.reset()
        output = f"{folder}/{number}.jsonl"
        store = Store()
        written.clear()
        with MemoryFileSystem().open(output.removeprefix("memory:/"), "wb") as old:
            old.write(b'{"custom_id": "old"}\n')
        written.clear()
        full_at = number
        with pytest.raises(OSError, match="No space left"):
            run(output, rows, store=store, remembering=remembering)
        is_old = [row["custom_id"] for row in read_rows(output)] == ["old"]
        assert is_old or outcomes(output) == ["succeeded"] * 3  # only the state came after it
        full_at = None
        end = run(output, rows, store=store, remembering=remembering, try_number=2)
        assert end.state == "success", end.error
        assert outcomes(output) == ["succeeded"] * 3
        assert sum(batch["rows"] for batch in gateway.batches) == 4  # three rows, and one of them again
