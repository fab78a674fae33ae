"""What a trigger asks of Airflow while its task is deferred: to write the ``progress`` XCom, and to ask for the states of task and DAG run.

A trigger talks to Airflow through its supervisor (``SUPERVISOR_COMMS``). Before Airflow 3.3, that channel carries one question at a
time, and it gives the answer to an interrupted question to the next one. So nothing here is ever cancelled halfway.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    DagRunStateResult,
    GetDagRunState,
    GetTaskStates,
    SetXCom,
    TaskStatesResult,
)

from airflow_bifrost._compat import conf
from airflow_bifrost.waiting.progress import ProgressPace

log = logging.getLogger(__name__)

# Cleared tasks are not among them: their next attempt waits for the same batch.
ENDED_STATES = frozenset({"success", "failed", "skipped", "removed", "upstream_failed"})

_writes: set[asyncio.Task[None]] = set()  # the loop itself keeps no strong reference


def progress_interval() -> float:
    """``[bifrost] progress_interval``, in seconds."""
    return float(conf.getfloat("bifrost", "progress_interval", fallback=60.0))


def _channel() -> Any:
    return getattr(task_runner, "SUPERVISOR_COMMS", None)


def is_users_stop(task_state: str | None, dag_run_state: str | None) -> bool:
    """Whether a user ended a task, and so wants the spending to stop, or Airflow itself did.

    Airflow skips the unfinished tasks of a DAG run that it fails: after ``dagrun_timeout``, or with ``fail_fast``. No user decided to end
    the batches, so they keep running, and the task continues with them after a clear. If a user fails a DAG run, its running tasks fail.

    :param task_state: None: unknown, so the answer is False.
    :param dag_run_state: None: unknown, so the task's state decides.
    """
    if task_state == "skipped" and dag_run_state == "failed":
        return False
    return task_state in ENDED_STATES


async def task_state(task_instance: Any) -> str | None:
    """The state of a task instance as Airflow has it now; None: unknown."""
    if task_instance is None:
        return None
    question = GetTaskStates(
        dag_id=task_instance.dag_id,
        task_ids=[task_instance.task_id],
        run_ids=[task_instance.run_id],
        map_index=task_instance.map_index,
    )
    answer = await _ask(question)
    if not isinstance(answer, TaskStatesResult):
        return None
    states = answer.task_states.get(task_instance.run_id, {})
    key = task_instance.task_id
    state = states.get(key, states.get(f"{key}_{task_instance.map_index}"))
    return None if state is None else str(state)


async def dag_run_state(task_instance: Any) -> str | None:
    """The state of a task instance's DAG run as Airflow has it now; None: unknown."""
    if task_instance is None:
        return None
    answer = await _ask(GetDagRunState(dag_id=task_instance.dag_id, run_id=task_instance.run_id))
    return str(getattr(answer.state, "value", answer.state)) if isinstance(answer, DagRunStateResult) else None


async def _ask(question: Any) -> Any:
    channel = _channel()
    return None if channel is None else await asyncio.shield(asyncio.ensure_future(channel.asend(question)))


class ProgressXCom:
    """Keeps the ``progress`` XCom of a deferred task current, without delaying the wait.

    It writes no more often than once per ``[bifrost] progress_interval`` seconds (default 60), only if the progress changed, and in the
    background. It logs the first write that fails, and starts a write only after the previous one was answered.
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
        # Imported here, because this imports the user's XCom backend.
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
        except Exception as error:  # noqa: BLE001 - whatever Airflow or an XCom backend raises, the wait must go on
            if not self._failed:
                log.warning(
                    "The progress XCom cannot be written (%s: %s). The wait continues", type(error).__name__, error
                )
            self._failed = True
