"""Who waits: one wait for each batch of a trigger, gathered by provider."""

from __future__ import annotations

import asyncio
from contextvars import Context, copy_context
from typing import Any

from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.waiting.decision import Finished, GiveUp, TimedOut, WaitPolicy, WaitState
from airflow_bifrost.waiting.listing import PageIndex
from airflow_bifrost.waiting.restraint import Restraint

End = Finished | GiveUp | TimedOut


class Listener:
    """Who is told of a wait while it lasts; called in the context in which the wait began, so that its log is the task's."""

    def seen(self, batch_id: str, batch: Batch, provider: str) -> None:
        """The gateway has answered for a batch; ``provider`` is its provider."""

    def say(self, level: int, text: str) -> None:
        """A line for the task's log."""


class WaitHandle(asyncio.Future[End]):
    """One batch that one trigger waits for: a future of what comes of it. Cancel it to leave.

    There may be ten thousand, and Python's garbage collector, which holds the loop, comes by the number of objects that live:
    hence one object for all that is known of a wait, and hence :class:`Listener` and not callbacks.
    """

    __slots__ = (
        "confirm",
        "context",
        "counted_at",
        "created_at",
        "last_seen",
        "listed_id",
        "listener",
        "next_poll_at",
        "policy",
        "provider",
        "was_left",
        "watch",
    )

    def __init__(self, watch: WaitState, group: ProviderGroup, policy: WaitPolicy, listener: Listener) -> None:
        super().__init__()
        self.watch = watch
        self.group = group
        self.policy = policy
        self.listener = listener
        self.context: Context = copy_context()
        self.listed_id = ""
        self.next_poll_at = watch.next_poll_at  # unix seconds
        self.created_at: float | None = None
        self.counted_at = 0.0  # when its counts were last seen
        self.last_seen: Any = None  # status and counts as they were last shown
        self.was_left = False  # to a sweep, since the last look
        self.confirm = False  # a list shows it as ended: ask the batch itself

    @property
    def may_be_left(self) -> bool:
        """Whether this look may wait for a sweep: once, or sweeps that never come to it would put it off for ever."""
        return not (self.confirm or self.was_left)

    def tell(self, batch: Batch) -> None:
        self.context.run(self.listener.seen, self.watch.batch_id, batch, self.group.name)

    def say(self, level: int, text: str) -> None:
        self.context.run(self.listener.say, level, text)


class ProviderGroup:
    """The waits for the batches of one provider."""

    def __init__(self, provider: str | None) -> None:
        self.provider = provider  # as the triggers name it; None: the connection's
        self.name = ""  # known when the connection is
        self.page_index = PageIndex(None)
        self.waits: dict[str, list[WaitHandle]] = {}  # by the id that a list shows
        self.due: dict[WaitHandle, None] = {}  # whose time has come, in that order
        self.asked: set[str | None] = set()  # cursors of the pages that are on their way
        self.sweeping_since: float | None = None
        self.list_faults = 0  # in a row
        self.in_flight = 0
        self.restraint = Restraint(1)  # an outage of one provider is none of the others

    def unplaced(self) -> list[WaitHandle]:
        """Those whose page is not known, or not worth a look."""
        return [
            wait for batch_id, waits in self.waits.items() if not self.page_index.page_of(batch_id) for wait in waits
        ]
