"""How many requests a gateway gets at a time. Pure: answers, errors and the time go in, a number comes out.

A rate limit (429) slows the whole connection, because it is the connection's. Errors in a row, about whatever batch, mean the gateway or
the provider and not a batch: then one request at a time probes it, and all waits share the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from airflow_bifrost.exceptions import BifrostRateLimited, BifrostUnavailable
from airflow_bifrost.waiting.clock import was_set_back

OUTAGE = 3  # errors in a row that make an outage
PROBE_CAP = 30.0  # seconds; the longest pause between two probes
RATE_LIMIT_CAP = 60.0  # seconds; the longest pause after a 429 without Retry-After


class ConcurrencyLimit:
    """How many requests may be in flight: fewer after a 429 or an outage, then twice as many after each answer.

    :param max_in_flight: the number when all is well.
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
        return 0 if _is_paused(self._paused_at, self.paused_until, now) else self._allowed

    def on_answer(self) -> None:
        """The gateway answered."""
        self._rate_limits = 0
        self._allowed = min(self.max_in_flight, 2 * self._allowed)

    def restart(self) -> None:
        """An outage is over: begin with one request, because everybody has been waiting."""
        self._allowed = 1

    def on_rate_limit(
        self, error: BifrostRateLimited, *, sent_at: float, now: float, random: Callable[[], float]
    ) -> None:
        """Pause for as long as the answer asks; without a Retry-After, twice as long each time.

        :param sent_at: when the request was sent. One that was in flight when the last pause began says nothing new.
        :param random: uniform in [0, 1).
        """
        if _is_old_news(sent_at, self._paused_at, now):
            return
        self._rate_limits += 1
        pause = _doubling(self._rate_limits, RATE_LIMIT_CAP) if error.retry_after is None else error.retry_after
        pause *= 1 + 0.1 * random()
        self.paused_until = _extended(self._paused_at, self.paused_until, now + pause, now)
        self._paused_at = now
        self._allowed = 1


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
        return 0 if _is_paused(self._paused_at, self.paused_until, now) else 1

    def on_answer(self) -> bool:
        """The provider answered.

        :return: whether that ends an outage.
        """
        ended = self.fault is not None
        self.fault = None
        self._faults = 0
        return ended

    def on_fault(self, error: BifrostUnavailable, *, sent_at: float, now: float, random: Callable[[], float]) -> None:
        """A request met what may be an outage. See :meth:`ConcurrencyLimit.on_rate_limit`."""
        if _is_old_news(sent_at, self._paused_at, now):
            return
        self._faults += 1
        if self._faults < OUTAGE:
            return
        self.fault = error
        pause = max(_doubling(self._faults - OUTAGE + 1, PROBE_CAP), error.retry_after or 0.0)
        pause *= 0.75 + 0.5 * random()
        self.paused_until = _extended(self._paused_at, self.paused_until, now + pause, now)
        self._paused_at = now


def _is_paused(paused_at: float, paused_until: float, now: float) -> bool:
    return now < paused_until and not was_set_back(paused_at, now)


def _is_old_news(sent_at: float, paused_at: float, now: float) -> bool:
    return sent_at < paused_at and not was_set_back(paused_at, now)


def _extended(paused_at: float, paused_until: float, until: float, now: float) -> float:
    """The later of two ends of a pause; the earlier pause does not count if the clock was set back since it began."""
    return until if was_set_back(paused_at, now) else max(paused_until, until)


def _doubling(times: int, cap: float) -> float:
    return min(cap, 2.0 ** min(times - 1, 30))
