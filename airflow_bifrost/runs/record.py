"""Stores the state of a run from one attempt of the task to the next.

A value in Airflow's task state has at most 64 KB, and the state of a run with hundreds of batches is larger. So a long state is compressed.

The state may be lost after the task has succeeded: Airflow can be configured to delete it then (``[state_store] clear_on_success``), or
after a time, and a store may be moved. So a receipt next to the output tells a cleared task that the output was already written.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_bifrost.results.storage import locate, whole_file
from airflow_bifrost.runs.request import JsonObject
from airflow_bifrost.runs.state import RunState
from airflow_bifrost.submission.ledger import TaskStateStore
from airflow_bifrost.triggers.uncancelled import left, remove

STATE_KEY = "bifrost_run"
UNCANCELLED = "-uncancelled.json"  # end of the name of the trigger's file, see airflow_bifrost.triggers.uncancelled
CANCEL_KEY = "bifrost_run_cancel"  # batches that are still to be cancelled
PLAIN = 24 * 2**10  # bytes; a longer state is compressed


@dataclass(frozen=True, slots=True)
class RunRecord:
    """
    :param store: the task's state store, see :func:`airflow_bifrost.worker.state_store.open_state_store`.
    :param uncancelled: URI of the file in which the trigger leaves batches; empty if no such file is used.
    :param receipt: URI of the receipt; empty if no receipt is used.
    """

    store: TaskStateStore
    receipt: str = ""
    uncancelled: str = ""

    def load(self) -> RunState | None:
        """The state that an earlier attempt has stored; None if there is no state."""
        value = self.store.get(STATE_KEY)
        if value is None and self.receipt:
            value = _read(self.receipt)
        return None if value is None else RunState.from_json(unpacked(value))

    def save(self, state: RunState) -> None:
        self.store.set(STATE_KEY, packed(state.to_json()))

    def leave_receipt(self, state: RunState) -> None:
        """Write the receipt, if one is used."""
        if self.receipt:
            with whole_file(self.receipt) as file:
                file.write(json.dumps(packed(state.to_json())).encode())

    def to_cancel(self) -> list[str]:
        """IDs of the batches that an earlier attempt could not cancel: its own, or duplicates of a create call."""
        of_trigger = left(self.uncancelled) if self.uncancelled else []
        return list(dict.fromkeys([*(self.store.get(CANCEL_KEY) or []), *of_trigger]))

    def keep_to_cancel(self, batch_ids: list[str]) -> None:
        self.store.set(CANCEL_KEY, batch_ids)
        if self.uncancelled:
            remove(self.uncancelled)


def packed(value: JsonObject) -> JsonObject:
    """The value as JSON types, compressed if it is long."""
    text = json.dumps(value).encode()
    if len(text) <= PLAIN:
        return value
    return {"zlib": base64.b64encode(zlib.compress(text, 9)).decode("ascii")}


def unpacked(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The value that :func:`packed` was given."""
    if "zlib" not in value:
        return value
    found: JsonObject = json.loads(zlib.decompress(base64.b64decode(value["zlib"])))
    return found


def _read(uri: str) -> Any:
    path, fs = locate(uri)
    try:
        return json.loads(fs.cat_file(path.path))
    except FileNotFoundError:
        return None
