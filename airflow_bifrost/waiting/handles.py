"""What a trigger holds while it waits: one handle for each batch."""

from __future__ import annotations

import asyncio
from contextvars import Context, copy_context

from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.waiting.decision import Finished, GiveUp, TimedOut
from airflow_bifrost.waiting.waits import ScheduledWait

End = Finished | GiveUp | TimedOut


class Listener:
    """Is called with news of a wait, in the context in which the wait began, so that log lines go to the task's log."""

    def seen(self, batch_id: str, batch: Batch, provider: str) -> None:
        """The gateway answered for a batch; ``provider`` is its provider."""

    def say(self, level: int, text: str) -> None:
        """A line for the task's log."""


class WaitHandle(ScheduledWait, asyncio.Future[End]):
    """One batch that one trigger waits for: a future of how the wait ends. Cancel it to leave.

    There may be ten thousand. Python's garbage collector stops the loop for a time that grows with the number of live objects. So each wait
    is one object, and there is one :class:`Listener` instead of callbacks.
    """

    __slots__ = (*ScheduledWait.FIELDS, "context", "listener")

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self.listener = listener
        self.context: Context = copy_context()

    def tell(self, batch: Batch) -> None:
        self.context.run(self.listener.seen, self.batch_id, batch, self.group.name)

    def say(self, level: int, text: str) -> None:
        self.context.run(self.listener.say, level, text)
