"""How much a gateway may be asked at the moment. Pure: what came back and the time go in, the number of requests comes out.

A limit (429) slows the whole connection, because it is the connection's. Faults in a row, on whatever batch, mean the gateway and not
a batch: then one request at a time finds out whether it is back, and all who wait share what it finds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from airflow_bifrost.exceptions import BifrostGatewayError, BifrostRateLimited, BifrostUnavailable

OUTAGE = 3  # faults in a row that make an outage
PROBE_CAP = 30.0  # seconds; the longest pause between two probes
LIMIT_CAP = 60.0  # seconds; the longest pause after a 429 that does not say how long


@dataclass(slots=True)
class Restraint:
    """One for each connection.

    :param max_in_flight: requests at a time when all is well.
    :ivar fault: what the last request of an outage met; None outside of one.
    :ivar paused_until: unix seconds before which nothing is asked.
    """

    max_in_flight: int
    fault: BifrostGatewayError | None = None
    paused_until: float = 0.0
    _paused_at: float = 0.0
    _faults: int = 0
    _limits: int = 0
    _allowed: int = field(default=0)

    def __post_init__(self) -> None:
        self._allowed = self.max_in_flight

    def slots(self, now: float) -> int:
        """How many requests may be on their way."""
        if now < self.paused_until:
            return 0
        return 1 if self.fault else self._allowed

    def on_answer(self) -> bool:
        """The gateway has answered for a batch.

        :return: whether that ends an outage.
        """
        ended = self.fault is not None
        self._faults = self._limits = 0
        self.fault = None
        self._allowed = 1 if ended else min(self.max_in_flight, 2 * self._allowed)  # not all at once after an outage
        return ended

    def on_fault(
        self, error: BifrostGatewayError, *, now: float, random: Callable[[], float], sent_at: float = math.inf
    ) -> None:
        """A request met a fault. Only what may be the gateway's, or a limit, has a consequence here.

        :param sent_at: unix seconds. What was on its way when the last pause began tells nothing new.
        :param now: unix seconds.
        :param random: uniform in [0, 1).
        """
        if sent_at < self._paused_at:
            return
        if isinstance(error, BifrostRateLimited):
            self._paused_at = now
            self._limits += 1
            asked = error.retry_after
            pause = _doubling(self._limits, LIMIT_CAP) if asked is None else asked
            self.paused_until = max(self.paused_until, now + pause * (1 + 0.1 * random()))
            self._allowed = 1
        elif isinstance(error, BifrostUnavailable):
            self._faults += 1
            if self._faults >= OUTAGE:
                self.fault = error
                self._paused_at = now
                pause = max(_doubling(self._faults - OUTAGE + 1, PROBE_CAP), error.retry_after or 0.0)
                self.paused_until = max(self.paused_until, now + pause * (0.75 + 0.5 * random()))


def _doubling(times: int, cap: float) -> float:
    return min(cap, 2.0 ** min(times - 1, 30))
