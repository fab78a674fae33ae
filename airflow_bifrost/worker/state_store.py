"""What a task remembers from one attempt to the next, since XComs are cleared when a retry begins.

Airflow 3.3 keeps it (``task_state_store``). Before that it is a small JSON file below ``[bifrost] state_path``, if that is set; else
nothing is remembered. A record that cannot be read is an error, never "there is none".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_bifrost._compat import conf

if TYPE_CHECKING:
    from airflow_bifrost.submission.ledger import TaskStateStore


def open_state_store(context: Mapping[str, Any], *, folder: str = "") -> TaskStateStore:
    """The memory of the running task.

    :param folder: where to keep it if there is nothing else: a URI that Airflow's object storage writes.
    """
    store = context.get("task_state_store")
    if store is not None:
        return store  # type: ignore[no-any-return]
    state_path = conf.get("bifrost", "state_path", fallback="") or folder
    return _FileStateStore(state_path, context["ti"]) if state_path else NoStateStore()


class _FileStateStore:
    def __init__(self, state_path: str, ti: Any) -> None:
        identity = json.dumps([ti.dag_id, ti.run_id, ti.task_id, ti.map_index])
        self._folder = f"{state_path.rstrip('/')}/tasks/{hashlib.sha256(identity.encode()).hexdigest()}"

    def get(self, key: str) -> Any:
        from airflow_bifrost.results.storage import locate

        path, fs = locate(f"{self._folder}/{key}.json")
        try:
            return json.loads(fs.cat_file(path.path))
        except FileNotFoundError:
            return None

    def set(self, key: str, value: Any) -> None:
        from airflow_bifrost.results.storage import whole_file

        with whole_file(f"{self._folder}/{key}.json") as file:
            file.write(json.dumps(value).encode())


class NoStateStore:
    """Forgets everything."""

    def get(self, key: str) -> Any:
        return None

    def set(self, key: str, value: Any) -> None:
        return None
