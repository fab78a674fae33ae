"""How often a batch is polled, and how long a wait tolerates what. Pure: the pauses are functions of the policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from airflow_bifrost.exceptions import BifrostError

RESULTS_GRACE = 600.0  # seconds that a terminal batch may take to name its results
BACKOFF_SHARE = 0.05  # of a batch's age, with poll_backoff
BACKOFF_CAP = 600.0  # seconds


@dataclass(frozen=True, slots=True)
class Pace:
    """The pauses that no user sets. All in seconds.

    :param min_interval: the shortest poll interval: a ``poll_interval`` of 0 does not mean polling without a pause.
    :param first_fault: the shortest bound of the pause after a fault; it doubles with each further fault.
    :param fault_cap: the longest pause between two attempts in an outage, unless the poll interval is longer.
    """

    min_interval: float = 1.0
    first_fault: float = 1.0
    fault_cap: float = 300.0


PACE = Pace()  # of every policy that is made without one; tests of whole tasks replace it


@dataclass(frozen=True, slots=True)
class WaitPolicy:
    """How a wait behaves.

    :param poll_interval: seconds between two polls of a batch.
    :param deadline: Unix seconds after which the wait gives up.
    :param not_found_grace: seconds for which a 404, or a connection that is suddenly undefined, is tolerated.
    :param poll_backoff: poll less often as a batch ages: every 5 % of its age, but at least every ten minutes.
    :param results_grace: seconds for which a terminal batch that does not name its results yet is polled again.
    :param last_poll_until: Unix seconds until which the last poll of a wait that begins after its deadline is repeated, if it meets a
        transient error.
    """

    poll_interval: float
    deadline: float
    not_found_grace: float
    poll_backoff: bool = False
    results_grace: float = RESULTS_GRACE
    last_poll_until: float = 0.0
    pace: Pace = field(default_factory=lambda: PACE)

    @property
    def ends_at(self) -> float:
        """Unix seconds after which no further poll is sent."""
        return max(self.deadline, self.last_poll_until)

    def interval(self, age: float | None) -> float:
        """Seconds until the next poll of a batch that is ``age`` seconds old; None: unknown."""
        interval = max(self.poll_interval, self.pace.min_interval)
        if not self.poll_backoff or age is None:
            return interval
        return max(interval, min(age * BACKOFF_SHARE, BACKOFF_CAP))

    def until(self, now: float, delay: float) -> float:
        """``delay``, but not past the end, when the last poll is sent."""
        return max(0.0, min(delay, self.ends_at - now))

    def pause_after_fault(self, faults: int, error: BifrostError, random: Callable[[], float]) -> float:
        """Seconds until the next attempt. The bound doubles with each fault. Half of it is fixed and half is random, so that many waits
        return neither at once nor at the same time."""
        first, cap = (max(self.poll_interval, seconds) for seconds in (self.pace.first_fault, self.pace.fault_cap))
        bound = min(cap, first * 2.0 ** min(faults - 1, 30))
        retry_after = getattr(error, "retry_after", None) or 0.0
        return max(bound / 2, retry_after) + random() * bound / 2
