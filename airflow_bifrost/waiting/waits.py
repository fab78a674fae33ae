"""Who waits: one wait for each batch of a trigger, gathered by upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any

from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.waiting.decision import Finished, GiveUp, TimedOut, WaitPolicy, Watch
from airflow_bifrost.waiting.listing import Catalogue
from airflow_bifrost.waiting.restraint import Restraint

End = Finished | GiveUp | TimedOut


@dataclass(slots=True, eq=False)
class Wait:
    """One batch that one trigger waits for.

    :param seen: told of each answer: the id, the batch, and its upstream.
    :param say: writes a line into the task's log.
    :param end: what comes of it.
    """

    watch: Watch
    provider: str | None
    policy: WaitPolicy
    seen: Callable[[str, Batch, str], None]
    say: Callable[[int, str], None]
    end: asyncio.Future[End]
    context: Context = field(default_factory=copy_context)  # the trigger's: its log is bound to the task
    listed_id: str = ""
    look_at: float = 0.0  # unix seconds
    created_at: float | None = None
    counted_at: float = 0.0  # when its counts were last seen
    glimpse: Any = None  # status and counts as the list last showed them
    confirm: bool = False  # a list shows it as ended: ask the batch itself


class Upstream:
    """The waits for the batches of one upstream."""

    def __init__(self, provider: str | None) -> None:
        self.provider = provider  # as the triggers name it; None: the connection's
        self.name = ""  # known when the connection is
        self.catalogue = Catalogue(None)
        self.waits: dict[str, list[Wait]] = {}  # by the id that a list shows
        self.due: dict[Wait, None] = {}  # whose time has come, in that order
        self.asked: set[str | None] = set()  # cursors of the pages that are on their way
        self.sweeping_since: float | None = None
        self.list_faults = 0  # in a row
        self.in_flight = 0
        self.restraint = Restraint(1)  # an outage of one upstream is none of the others

    def unplaced(self) -> list[Wait]:
        """Those whose page is not known, or not worth a look."""
        return [
            wait for batch_id, waits in self.waits.items() if not self.catalogue.page_of(batch_id) for wait in waits
        ]
