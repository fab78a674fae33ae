"""When a provider, or the gateway, is in an outage, and how often it is probed then. Pure: errors and the time go in.

Several errors in a row, for whatever batches, point to the gateway or the provider and not to a batch. Then one request at a time probes
it, and all waits share the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from airflow_bifrost.exceptions import BifrostUnavailable
from airflow_bifrost.waiting.pauses import doubling, extended, is_old_news, is_paused

OUTAGE = 3  # errors in a row that make an outage
PROBE_CAP = 30.0  # seconds; the longest pause between two probes


class CircuitBreaker:
    """Opens in an outage of one provider: then one request at a time, with growing pauses, finds out whether it is over.

    :ivar fault: what the last request of the outage met; None while the breaker is closed.
    :ivar paused_until: Unix seconds until which nothing is sent.
    """

    __slots__ = ("_faults", "_paused_at", "fault", "paused_until")

    def __init__(self) -> None:
        self.fault: BifrostUnavailable | None = None
        self.paused_until = 0.0
        self._paused_at = -math.inf
        self._faults = 0  # in a row

    def slots(self, now: float) -> int | None:
        """How many requests may be in flight at ``now``: none or one in an outage; None: the breaker sets no limit."""
        if self.fault is None:
            return None
        return 0 if is_paused(self._paused_at, self.paused_until, now) else 1

    def on_answer(self) -> bool:
        """The provider answered.

        :return: whether that ends an outage.
        """
        ended = self.fault is not None
        self.fault = None
        self._faults = 0
        return ended

    def on_fault(self, error: BifrostUnavailable, *, sent_at: float, now: float, random: Callable[[], float]) -> None:
        """A request failed with what may be an outage. A request that was in flight when the last pause began says nothing new."""
        if is_old_news(sent_at, self._paused_at, now):
            return
        self._faults += 1
        if self._faults < OUTAGE:
            return
        self.fault = error
        pause = max(doubling(self._faults - OUTAGE + 1, PROBE_CAP), error.retry_after or 0.0)
        pause *= 0.75 + 0.5 * random()
        self.paused_until = extended(self._paused_at, self.paused_until, now + pause, now)
        self._paused_at = now
