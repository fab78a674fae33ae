"""What a task remembers from one attempt to the next. Airflow clears XComs when a retry begins, so they are no place for it.

Airflow 3.3 has a store for it (``task_state_store``). Before that it is a small JSON file below ``[bifrost] state_path`` or, for a task
that writes an output, next to the output. What one store does not have is looked up in the others, so a task finds its records after
Airflow was upgraded or ``state_path`` was set. A record that cannot be read is an error: it may name a batch that was paid for.
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

    :param folder: where to keep it if there is nothing else: a URI that Airflow's object storage writes.
    """
    ti = context["ti"]
    state_path = conf.get("bifrost", "state_path", fallback="")
    stores: list[TaskStateStore] = [_FileStateStore(path, ti) for path in (state_path, folder) if path]
    if (airflow := context.get("task_state_store")) is not None:
        stores.insert(0, airflow)
    if not stores:
        return NoStateStore()
    return stores[0] if len(stores) == 1 else _StoreWithOlderOnes(stores[0], stores[1:])


def is_remembering(store: TaskStateStore, context: Mapping[str, Any]) -> bool:
    """Whether the store has known this task instance since its first attempt, so that what it does not have was never there.

    Call it at the start of an attempt: the first call is remembered.
    """
    attempt: int = context["ti"].try_number
    if isinstance(store, NoStateStore):
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
    """Writes to one store, and reads from the first that has the key.

    :param older: where earlier attempts may have written.
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


class NoStateStore:
    """Forgets everything."""

    def get(self, key: str) -> Any:
        return None

    def set(self, key: str, value: Any) -> None:
        return None
