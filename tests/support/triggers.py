"""Triggers as a triggerer runs them, for their tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from airflow.sdk.execution_time.comms import DagRunStateResult, TaskStatesResult

from airflow_bifrost.triggers.batch import BatchTrigger

TASK: Any = SimpleNamespace(dag_id="dag", task_id="wait", run_id="run", map_index=-1)
DONE = {"status": "completed", "request_counts": {"total": 10, "completed": 10, "failed": 0}}


def trigger(*batch_ids: str, **arguments: Any) -> BatchTrigger:
    given = {"provider": None, "poll_interval": 0.05, "deadline": time.time() + 60, **arguments}
    return BatchTrigger(batch_ids=list(batch_ids), bifrost_conn_id="bifrost_default", **given)


class Channel:
    """Airflow's end of SUPERVISOR_COMMS, as a trigger sees it."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.answers = True
        self.raises: Exception | None = None
        self.state: str | None = "deferred"
        self.run_state: Any = "running"

    async def asend(self, message: Any) -> Any:
        self.sent.append(message)
        kind = type(message).__name__
        if self.raises and kind == "SetXCom":
            raise self.raises
        if not self.answers and kind in ("SetXCom", "GetTaskStates"):
            await asyncio.Event().wait()
        if kind == "GetTaskStates":
            return TaskStatesResult(task_states={"run": {"wait": self.state}})
        if kind == "GetDagRunState":
            return DagRunStateResult(state=self.run_state)
        return None

    @property
    def progress(self) -> list[dict[str, Any]]:
        return [message.value for message in self.sent if type(message).__name__ == "SetXCom"]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, on a busy machine for long."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - nothing tells when the gateway was asked
            await asyncio.sleep(0.02)


async def first_event(waiting: BatchTrigger) -> dict[str, Any]:
    waiting.task_instance = TASK
    async for event in waiting.run():
        payload: dict[str, Any] = event.payload
        return payload
    raise AssertionError("no event")
