"""The file in which a trigger leaves the batches that it could not cancel, for the next attempt of the task.

A trigger cannot write to Airflow's task state store. So it writes a small file next to the task's own files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress

from airflow_bifrost.results.storage import locate, whole_file


def leave(uri: str, batch_ids: Sequence[str]) -> None:
    """
    :raises OSError: the file could not be written.
    :raises ValueError: no installed package knows the store.
    """
    with whole_file(uri) as file:
        file.write(json.dumps(list(batch_ids)).encode())


def left(uri: str) -> list[str]:
    """IDs of the batches in the file; empty if there is no file."""
    path, fs = locate(uri)
    try:
        return list(json.loads(fs.cat_file(path.path)))
    except FileNotFoundError:
        return []


def remove(uri: str) -> None:
    path, fs = locate(uri)
    with suppress(FileNotFoundError):
        fs.rm_file(path.path)
