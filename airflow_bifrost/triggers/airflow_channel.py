"""What a trigger asks of Airflow while its task is deferred: to keep the ``progress`` XCom, and to tell the task's state.

A trigger speaks to Airflow through its supervisor (``SUPERVISOR_COMMS``). Before Airflow 3.3 that channel carries one question at a
time and an interrupted one leaves its answer for the next to stumble over; so nothing here is ever cancelled half-way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from airflow_bifrost._compat import conf
from airflow_bifrost.waiting.progress import ProgressPace

log = logging.getLogger(__name__)

# A user, or the end of the DAG run, ended the task. Cleared tasks are not among them: the new attempt waits for the same batch.
ENDED_STATES = frozenset({"success", "failed", "skipped", "removed", "upstream_failed"})

_writes: set[asyncio.Task[None]] = set()  # the loop itself keeps no strong reference


def progress_interval() -> float:
    """``[bifrost] progress_interval``, in seconds."""
    return float(conf.getfloat("bifrost", "progress_interval", fallback=60.0))


def _channel() -> Any:
    from airflow.sdk.execution_time import task_runner

    return getattr(task_runner, "SUPERVISOR_COMMS", None)


async def task_state(task_instance: Any) -> str | None:
    """The state of a task instance as Airflow has it now; None if it cannot be had."""
    from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult

    channel = _channel()
    if channel is None or task_instance is None:
        return None
    question = GetTaskStates(
        dag_id=task_instance.dag_id,
        task_ids=[task_instance.task_id],
        run_ids=[task_instance.run_id],
        map_index=task_instance.map_index,
    )
    answer = await asyncio.shield(asyncio.ensure_future(channel.asend(question)))
    if not isinstance(answer, TaskStatesResult):
        return None
    states = answer.task_states.get(task_instance.run_id, {})
    key = task_instance.task_id
    state = states.get(key, states.get(f"{key}_{task_instance.map_index}"))
    return None if state is None else str(state)


class ProgressXCom:
    """Keeps the ``progress`` XCom of a deferred task current, as well as it can.

    Written at most once in ``[bifrost] progress_interval`` seconds (default 60), only when it changed, and never waited for: a write
    that fails is logged once, and while one is unanswered no other is begun.
    """

    def __init__(self, task_instance: Any) -> None:
        self._task_instance = task_instance
        self._pace = ProgressPace(progress_interval())
        self._write: asyncio.Task[None] | None = None
        self._failed = False

    def offer(self, progress: Callable[[], dict[str, Any]]) -> None:
        """Write what ``progress`` computes if it is time, in the background."""
        if self._task_instance is None or (self._write is not None and not self._write.done()):
            return
        current = self._pace.due(progress, now=time.monotonic())
        if current is None:
            return
        self._write = asyncio.create_task(self._send(current))
        _writes.add(self._write)
        self._write.add_done_callback(_writes.discard)

    async def _send(self, progress: dict[str, Any]) -> None:
        from airflow.sdk.execution_time.comms import SetXCom
        from airflow.sdk.execution_time.xcom import XCom

        task = self._task_instance
        try:
            value = await asyncio.to_thread(
                XCom.serialize_value,
                progress,
                key="progress",
                task_id=task.task_id,
                dag_id=task.dag_id,
                run_id=task.run_id,
                map_index=task.map_index,
            )
            await _channel().asend(
                SetXCom(
                    key="progress",
                    value=value,
                    dag_id=task.dag_id,
                    run_id=task.run_id,
                    task_id=task.task_id,
                    map_index=task.map_index,
                )
            )
        except Exception as error:  # noqa: BLE001 - whatever Airflow or an XCom backend raises must not harm the wait
            if not self._failed:
                log.warning("The progress XCom cannot be written (%s: %s); waiting on", type(error).__name__, error)
            self._failed = True
