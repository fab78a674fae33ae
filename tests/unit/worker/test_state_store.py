"""A task remembers its records in Airflow's store or in a file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.airflow import Store

from airflow_bifrost.worker.state_store import ProcessStateStore, is_remembering, open_state_store


def context(task_id: str = "wait", map_index: int = -1, try_number: int = 1, **more: Any) -> dict[str, Any]:
    ti = SimpleNamespace(
        dag_id="d",
        run_id="manual__2026-01-01T00:00:00+00:00",
        task_id=task_id,
        map_index=map_index,
        try_number=try_number,
    )
    return {"ti": ti} | more


@pytest.fixture
def state_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW__BIFROST__STATE_PATH", f"file://{tmp_path}/state")
    return tmp_path / "state"


def test_airflows_store_is_used_if_there_is_one(state_path: Path) -> None:
    store = Store()
    open_state_store(context(task_state_store=store)).set("key", 1)
    assert store.get("key") == 1
    assert not list(state_path.rglob("*.json"))


def test_a_file_is_the_store_if_airflow_has_none(state_path: Path) -> None:
    open_state_store(context()).set("key", {"deadline": 1.5})
    assert open_state_store(context()).get("key") == {"deadline": 1.5}


def test_a_record_in_the_file_is_found_after_an_upgrade_of_airflow(state_path: Path) -> None:
    open_state_store(context()).set("key", 1)
    store = open_state_store(context(task_state_store=Store()))
    assert store.get("key") == 1
    store.set("key", 2)
    assert store.get("key") == 2


def test_a_record_next_to_the_output_is_found_after_state_path_was_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_state_store(context(), folder=str(tmp_path / "out")).set("key", 1)
    monkeypatch.setenv("AIRFLOW__BIFROST__STATE_PATH", str(tmp_path / "state"))
    assert open_state_store(context(), folder=str(tmp_path / "out")).get("key") == 1


def test_a_store_remembers_if_it_has_known_the_first_attempt() -> None:
    store = Store()
    assert is_remembering(store, context(try_number=1))
    assert is_remembering(store, context(try_number=2))


def test_a_store_that_is_new_in_a_later_attempt_remembers_nothing() -> None:
    store = Store()
    assert not is_remembering(store, context(try_number=2))
    assert not is_remembering(store, context(try_number=3))


def test_without_a_store_only_a_first_attempt_has_nothing_to_remember() -> None:
    assert is_remembering(ProcessStateStore(), context(try_number=1))
    assert not is_remembering(ProcessStateStore(), context(try_number=2))


def test_other_tasks_and_mapped_siblings_have_separate_records(state_path: Path) -> None:
    open_state_store(context()).set("key", 1)
    assert open_state_store(context(task_id="other")).get("key") is None
    assert open_state_store(context(map_index=0)).get("key") is None


def test_a_record_that_cannot_be_read_is_an_error_and_not_absence(state_path: Path) -> None:
    open_state_store(context()).set("key", 1)
    [record] = state_path.rglob("*.json")
    record.write_text("{half a rec")
    with pytest.raises(ValueError):
        open_state_store(context()).get("key")


def test_nothing_is_remembered_without_a_store() -> None:
    open_state_store(context()).set("key", 1)
    assert open_state_store(context()).get("key") is None
