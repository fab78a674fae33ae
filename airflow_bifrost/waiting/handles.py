"""What a trigger holds while it waits: one handle for each batch."""

from __future__ import annotations

import asyncio
from contextvars import Context, copy_context

from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.waiting.decision import Finished, GiveUp, TimedOut
from airflow_bifrost.waiting.waits import ScheduledWait

End = Finished | GiveUp | TimedOut


class Listener:
    """Gets the news of a wait, in the context in which the wait began, so that its log is the task's."""

    def seen(self, batch_id: str, batch: Batch, provider: str) -> None:
        """The gateway answered for a batch; ``provider`` is its provider."""

    def say(self, level: int, text: str) -> None:
        """A line for the task's log."""


class WaitHandle(ScheduledWait, asyncio.Future[End]):
    """One batch that one trigger waits for: a future of how the wait ends. Cancel it to leave.

    There may be ten thousand, and Python's garbage collector, which stops the loop, takes time by the number of objects that live.
    Hence one object for all that is known of a wait, and hence :class:`Listener` instead of callbacks.
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
