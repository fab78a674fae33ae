"""When the next poll and the end of each wait are due: two heaps. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count

from airflow_bifrost.waiting.waits import ScheduledWait

Entry = tuple[float, int, ScheduledWait]


class Timetable:
    """A wait has one end and one next poll. Outdated entries stay in the heap until they come up or are too many."""

    def __init__(self) -> None:
        self._polls: list[Entry] = []
        self._ends: list[Entry] = []
        self._numbers = count()
        self._over = 0

    def __len__(self) -> int:
        """How many entries there are, outdated ones included."""
        return len(self._polls) + len(self._ends)

    @property
    def next_at(self) -> float | None:
        """When the next poll or end is due; None: never."""
        return min((heap[0][0] for heap in (self._polls, self._ends) if heap), default=None)

    def poll_at(self, wait: ScheduledWait, when: float) -> None:
        """Poll at ``when``, and no longer at the time that was set before."""
        wait.next_poll_at = when
        if len(self._polls) > 4 * len(self._ends) + 100:  # some waits are polled often, compared with the others
            self._polls = [item for item in self._polls if self._is_valid(item)]
            heapq.heapify(self._polls)
        heapq.heappush(self._polls, (when, next(self._numbers), wait))

    def end_at(self, wait: ScheduledWait, when: float) -> None:
        """The wait ends at ``when``."""
        heapq.heappush(self._ends, (when, next(self._numbers), wait))

    def forget(self, wait: ScheduledWait) -> None:
        """The wait is over. Its end may be far in the future, so entries of ended waits are dropped from time to time."""
        wait.over = True
        self._over += 1
        if self._over > 100 + len(self._ends) // 2:
            self._over = 0
            self._ends = [item for item in self._ends if not item[2].over]
            self._polls = [item for item in self._polls if self._is_valid(item)]
            heapq.heapify(self._ends)
            heapq.heapify(self._polls)

    def ended(self, now: float) -> Iterator[ScheduledWait]:
        """The waits whose end has come."""
        while self._ends and self._ends[0][0] <= now:
            wait = heapq.heappop(self._ends)[2]
            if not wait.over:
                yield wait

    def due(self, now: float) -> Iterator[ScheduledWait]:
        """The waits whose next poll is due, the longest due first."""
        while self._polls and self._polls[0][0] <= now:
            item = heapq.heappop(self._polls)
            if self._is_valid(item):
                yield item[2]

    def waits(self) -> list[ScheduledWait]:
        """All waits that are not over."""
        return [wait for *_, wait in self._ends if not wait.over]

    @staticmethod
    def _is_valid(item: Entry) -> bool:
        when, _, wait = item
        return when == wait.next_poll_at and not wait.over
