"""How many requests a gateway gets at a time. Pure: answers, errors and the time go in, a number comes out.

A rate limit (429) belongs to the connection, so it slows the whole connection.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from airflow_bifrost.exceptions import BifrostRateLimited
from airflow_bifrost.waiting.pauses import doubling, extended, is_old_news, is_paused

RATE_LIMIT_CAP = 60.0  # seconds; the longest pause after a 429 without Retry-After


class ConcurrencyLimit:
    """How many requests may be in flight: fewer after a 429 or an outage, then twice as many after each answer.

    :param max_in_flight: the number in normal operation.
    :ivar paused_until: Unix seconds until which nothing is sent.
    """

    __slots__ = ("_allowed", "_paused_at", "_rate_limits", "max_in_flight", "paused_until")

    def __init__(self, max_in_flight: int) -> None:
        self.max_in_flight = max_in_flight
        self.paused_until = 0.0
        self._paused_at = -math.inf
        self._allowed = max_in_flight
        self._rate_limits = 0  # in a row

    def slots(self, now: float) -> int:
        """How many requests may be in flight at ``now``, in Unix seconds."""
        return 0 if is_paused(self._paused_at, self.paused_until, now) else self._allowed

    def on_answer(self) -> None:
        """The gateway answered."""
        self._rate_limits = 0
        self._allowed = min(self.max_in_flight, 2 * self._allowed)

    def restart(self) -> None:
        """An outage is over: begin with one request, because all waits are due."""
        self._allowed = 1

    def on_rate_limit(
        self, error: BifrostRateLimited, *, sent_at: float, now: float, random: Callable[[], float]
    ) -> None:
        """Pause for as long as ``Retry-After`` says; without it, twice as long each time.

        :param sent_at: when the request was sent. A request that was in flight when the last pause began is ignored.
        :param random: uniform in [0, 1).
        """
        if is_old_news(sent_at, self._paused_at, now):
            return
        self._rate_limits += 1
        pause = doubling(self._rate_limits, RATE_LIMIT_CAP) if error.retry_after is None else error.retry_after
        pause *= 1 + 0.1 * random()
        self.paused_until = extended(self._paused_at, self.paused_until, now + pause, now)
        self._paused_at = now
        self._allowed = 1
