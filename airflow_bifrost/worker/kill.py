"""Cancelling batches when a user ends a task that waits in a worker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

from airflow_bifrost.exceptions import BifrostError

ASK_WITHIN = 5.0  # seconds

log = logging.getLogger("airflow.task")


def cancel_if_a_user_ended_it(ti: Any, batch_ids: Sequence[str], *, provider: str | None, conn_id: str) -> None:
    """Cancel the batches unless the task is still to run: a worker that is shut down, or a timeout, gets a signal too.

    Where the task's state cannot be had, nothing is cancelled.
    """
    from airflow_bifrost.hooks.bifrost import BifrostHook
    from airflow_bifrost.triggers.airflow_channel import ENDED_STATES

    state = _state_of(ti)
    if state not in ENDED_STATES:
        log.info("Not cancelling %s: the task is %s", ", ".join(batch_ids), state or "in an unknown state")
        return
    with BifrostHook(conn_id) as hook:
        for batch_id in batch_ids:
            try:
                batch = hook.cancel_batch(batch_id, provider=provider)
            except BifrostError as error:
                log.warning("%s", error)
            else:
                log.info("The task was ended by a user: batch %s is %s", batch_id, batch.status)


def _state_of(ti: Any) -> str | None:
    """RequestContext in a thread, with a limit: this runs in a signal handler, which may have interrupted a talk with Airflow."""
    states: list[Any] = []

    def ask() -> None:
        found = ti.get_task_states(
            dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
        ).get(ti.run_id, {})
        states.append(found.get(ti.task_id, found.get(f"{ti.task_id}_{ti.map_index}")))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ASK_WITHIN)
    return str(states[0]) if states and states[0] is not None else None
