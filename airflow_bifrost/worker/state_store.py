"""Stores what a task must remember from one attempt to the next. XComs cannot do this: Airflow clears them when a retry begins.

Airflow 3.3 has a store for this (``task_state_store``). With earlier versions it is a small JSON file below ``[bifrost] state_path`` or,
for a task that writes an output, next to the output. If one store does not have a key, the others are tried. So a task still finds its
records after Airflow was upgraded or ``state_path`` was set. A record that cannot be read is an error: it may name a batch that was paid
for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_bifrost._compat import conf
from airflow_bifrost.results.storage import locate, whole_file

if TYPE_CHECKING:
    from airflow_bifrost.submission.ledger import TaskStateStore

ATTEMPT_KEY = "bifrost_first_attempt"


def open_state_store(context: Mapping[str, Any], *, folder: str = "") -> TaskStateStore:
    """The store of the running task.

    :param folder: URI of the folder to use if there is no other store, in Airflow's object storage.
    """
    ti = context["ti"]
    state_path = conf.get("bifrost", "state_path", fallback="")
    stores: list[TaskStateStore] = [_FileStateStore(path, ti) for path in (state_path, folder) if path]
    if (airflow := context.get("task_state_store")) is not None:
        stores.insert(0, airflow)
    if not stores:
        return ProcessStateStore()
    return stores[0] if len(stores) == 1 else _StoreWithOlderOnes(stores[0], stores[1:])


def is_remembering(store: TaskStateStore, context: Mapping[str, Any]) -> bool:
    """Whether the store has recorded this task instance since its first attempt. If so, a key that it lacks was never written.

    Call this at the start of each attempt: the first call records the attempt.
    """
    attempt: int = context["ti"].try_number
    if isinstance(store, ProcessStateStore):
        return attempt <= 1
    first: int | None = store.get(ATTEMPT_KEY)
    if first is None:
        first = attempt
        store.set(ATTEMPT_KEY, first)
    return first <= 1


class _FileStateStore:
    def __init__(self, state_path: str, ti: Any) -> None:
        identity = json.dumps([ti.dag_id, ti.run_id, ti.task_id, ti.map_index])
        self._folder = f"{state_path.rstrip('/')}/tasks/{hashlib.sha256(identity.encode()).hexdigest()}"

    def get(self, key: str) -> Any:
        path, fs = locate(f"{self._folder}/{key}.json")
        try:
            return json.loads(fs.cat_file(path.path))
        except FileNotFoundError:
            return None

    def set(self, key: str, value: Any) -> None:
        with whole_file(f"{self._folder}/{key}.json") as file:
            file.write(json.dumps(value).encode())


class _StoreWithOlderOnes:
    """Writes to one store, and reads from the first store that has the key.

    :param older: stores to which earlier attempts may have written.
    """

    def __init__(self, store: TaskStateStore, older: Sequence[TaskStateStore]) -> None:
        self._store = store
        self._older = older

    def get(self, key: str) -> Any:
        for store in (self._store, *self._older):
            if (value := store.get(key)) is not None:
                return value
        return None

    def set(self, key: str, value: Any) -> None:
        self._store.set(key, value)


class ProcessStateStore:
    """Stands in where there is no store. Its values last only as long as the object."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self._values.get(key)

    def set(self, key: str, value: Any) -> None:
        self._values[key] = value
