"""What a task remembers, where Airflow keeps it and where a file does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_bifrost.worker.state_store import open_state_store


def context(task_id: str = "wait", map_index: int = -1, **more: Any) -> dict[str, Any]:
    return {
        "ti": SimpleNamespace(
            dag_id="d", run_id="manual__2026-01-01T00:00:00+00:00", task_id=task_id, map_index=map_index
        )
    } | more


@pytest.fixture
def state_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW__BIFROST__STATE_PATH", f"file://{tmp_path}/state")
    return tmp_path / "state"


def test_airflows_own_store_is_used_where_there_is_one(state_path: Path) -> None:
    store = object()
    assert open_state_store(context(task_state_store=store)) is store


def test_before_it_a_file_remembers(state_path: Path) -> None:
    open_state_store(context()).set("key", {"deadline": 1.5})
    assert open_state_store(context()).get("key") == {"deadline": 1.5}


def test_other_tasks_and_mapped_siblings_have_memories_of_their_own(state_path: Path) -> None:
    open_state_store(context()).set("key", 1)
    assert open_state_store(context(task_id="other")).get("key") is None
    assert open_state_store(context(map_index=0)).get("key") is None


def test_a_record_that_cannot_be_read_is_an_error_and_not_absence(state_path: Path) -> None:
    open_state_store(context()).set("key", 1)
    [record] = state_path.rglob("*.json")
    record.write_text("{half a rec")
    with pytest.raises(ValueError):
        open_state_store(context()).get("key")


def test_without_either_nothing_is_remembered() -> None:
    memory = open_state_store(context())
    memory.set("key", 1)
    assert memory.get("key") is None
