"""Drives a schedule in virtual time against a gateway of batches: no HTTP, no event loop, no clock."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

from airflow_bifrost.exceptions import BifrostError
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.waiting.decision import (
    Decision,
    Finished,
    GiveUp,
    KeepWaiting,
    LookUpConnection,
    TimedOut,
    WaitState,
)
from airflow_bifrost.waiting.page_index import PAGE
from airflow_bifrost.waiting.policy import WaitPolicy
from airflow_bifrost.waiting.schedule import Schedule, Update
from airflow_bifrost.waiting.waits import PollBatch, PollPage, Request, ScheduledWait

NOW = 1_775_400_000.0


class SimulatedWait(ScheduledWait):
    """A wait that is no future."""

    __slots__ = (*ScheduledWait.FIELDS, "end")

    def __init__(self) -> None:
        self.end: Decision | None = None


class Simulation:
    """Batches, newest first in the list, and the schedule that polls them.

    :param ids: of the batches, the oldest first.
    :param latency: seconds from a request to its answer.
    :ivar status: by batch; ``in_progress`` where nothing is set.
    :ivar fault: returns the error that a request meets, or None.
    :ivar hidden: IDs that no list shows.
    :ivar asked: every request, as (``get`` or ``list``, ID or cursor, when).
    """

    def __init__(self, ids: list[str], *, latency: float = 0.1, seed: int = 0, **config: Any) -> None:
        self.now = NOW
        self.ids = ids
        self.latency = latency
        self.status: dict[str, str] = {}
        self.hidden: set[str] = set()
        self.fault: Callable[[Request], BifrostError | None] = lambda request: None
        self.page_cap = PAGE
        self.asked: list[tuple[str, str | None, float]] = []
        self.most_in_flight = 0
        self.waits: list[SimulatedWait] = []
        self.schedule = Schedule(Random(seed).random)
        self.schedule.connect(GatewayConfig("http://gw.example", **config))
        self._in_flight: list[tuple[float, int, Request]] = []  # by monotonic time of the answer
        self._monotonic = 0.0
        self._numbers = count()

    @property
    def count(self) -> Counter[str]:
        return Counter(kind for kind, *_ in self.asked)

    @property
    def waiting(self) -> list[SimulatedWait]:
        return [wait for wait in self.waits if wait.end is None and not wait.over]

    @property
    def in_flight(self) -> list[Request]:
        return [request for *_, request in self._in_flight]

    def wait(self, batch_id: str, policy: WaitPolicy, provider: str | None = None, after: float = 0.0) -> SimulatedWait:
        wait = SimulatedWait()
        self.schedule.add(wait, WaitState(batch_id, next_poll_at=self.now + after), provider, policy, self.now)
        self.waits.append(wait)
        return wait

    def wait_for_all(self, policy: WaitPolicy) -> None:
        """Wait for every batch, with first polls spread over one interval."""
        for number, batch_id in enumerate(self.ids):
            self.wait(batch_id, policy, after=policy.poll_interval * number / len(self.ids))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let that much time pass, or less if ``until`` comes true."""
        ends_at = self._monotonic + seconds
        self.tick()
        while not until():
            wake_at = self.schedule.wake_at(self.now)
            nexts = [self._monotonic + max(0.0, wake_at - self.now)] if wake_at is not None else []
            nexts += [self._in_flight[0][0]] if self._in_flight else []
            if not nexts or min(nexts) > ends_at:
                self._pass(ends_at - self._monotonic)
                return
            self._pass(max(0.0, min(nexts) - self._monotonic))
            while self._in_flight and self._in_flight[0][0] <= self._monotonic:
                self.answer(heapq.heappop(self._in_flight)[2])
            self.tick()

    def tick(self) -> None:
        self.follow(self.schedule.tick(self.now))
        while (request := self.schedule.next_request(self.now)) is not None:
            self._send(request)
        self.most_in_flight = max(self.most_in_flight, len(self._in_flight))
        self.follow(self.schedule.share_faults(self.now))

    def answer(self, request: Request) -> None:
        """The answer to a request comes back, or its fault."""
        if isinstance(request, PollBatch):
            if (error := self.fault(request)) is not None:
                self.follow(self.schedule.on_batch_fault(request, error, self.now))
            else:
                entry = self._entry(request.batch_id, listed=False)
                self.follow(self.schedule.on_batch(request, entry, self.now))
        elif (error := self.fault(request)) is not None:
            self.follow(self.schedule.on_list_fault(request, error, self.now))  # type: ignore[arg-type]
        else:
            entries, cursor = self._page(request.cursor)
            for wait, entry in self.schedule.on_page(request, entries, cursor, self.now):
                self.follow([self.schedule.on_entry(request, wait, entry, self.now)])
            if self.schedule.continue_sweep(request, self.now):
                self._send(request)
                return
        self.schedule.finished(request, self.now)

    def answer_one(self, number: int) -> None:
        """Answer one of the requests in flight, whichever."""
        if self._in_flight:
            request = self._in_flight.pop(number % len(self._in_flight))[2]
            heapq.heapify(self._in_flight)
            self.answer(request)

    def cancel_one(self, number: int) -> None:
        """Cancel one of the requests in flight, whichever."""
        if self._in_flight:
            request = self._in_flight.pop(number % len(self._in_flight))[2]
            heapq.heapify(self._in_flight)
            self.schedule.finished(request, self.now)

    def follow(self, updates: list[Update]) -> None:
        for update in updates:
            if isinstance(update.decision, Finished | GiveUp | TimedOut):
                wait = update.wait
                assert isinstance(wait, SimulatedWait)
                assert wait.end is None, "a wait ended twice"
                wait.end = update.decision
            else:
                assert update.decision is None or isinstance(update.decision, KeepWaiting | LookUpConnection)

    def check(self) -> None:
        """No wait is forgotten: each is due, belongs to a request in flight, or has a scheduled poll."""
        scheduled = {(when, id(wait)) for when, _, wait in self.schedule._timetable._polls}
        ends = {id(wait) for *_, wait in self.schedule._timetable._ends}
        for wait in self.waiting:
            due = wait in wait.group.due
            requested = wait.request is not None and wait.request in self.in_flight and wait in wait.request.waits
            assert due or requested or (wait.next_poll_at, id(wait)) in scheduled, f"{wait.batch_id} is forgotten"
            assert id(wait) in ends, f"{wait.batch_id} never times out"
        in_flight = Counter(id(request.group) for request in self.in_flight)
        for group in self.schedule._groups.values():
            assert group.in_flight == in_flight[id(group)]

    def _send(self, request: Request) -> None:
        what = request.cursor if isinstance(request, PollPage) else request.batch_id
        self.asked.append(("list" if isinstance(request, PollPage) else "get", what, self.now))
        heapq.heappush(self._in_flight, (self._monotonic + self.latency, next(self._numbers), request))

    def _pass(self, seconds: float) -> None:
        self._monotonic += seconds
        self.now += seconds

    def _entry(self, batch_id: str, *, listed: bool) -> dict[str, Any]:
        shown = batch_id.removeprefix("batches-") if listed else batch_id
        return {
            "id": shown,
            "status": self.status.get(batch_id, "in_progress"),
            "created_at": int(NOW) - 10_000 + self.ids.index(batch_id) if batch_id in self.ids else int(NOW),
            "request_counts": {"total": 10, "completed": 4, "failed": 0},
            "output_file_id": "file_out",
        }

    def _page(self, cursor: str | None) -> tuple[list[dict[str, Any]], str | None]:
        newest_first = [batch_id for batch_id in self.ids[::-1] if batch_id not in self.hidden]
        start = newest_first.index(cursor) + 1 if cursor in newest_first else 0
        shown = newest_first[start : start + self.page_cap]
        more = start + self.page_cap < len(newest_first)
        return [self._entry(batch_id, listed=True) for batch_id in shown], shown[-1] if more else None
