"""What is worth asking again, and when. Pure: time and chance come as arguments."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from airflow_bifrost.exceptions import BifrostGatewayError, BifrostRateLimited, BifrostUnavailable

RETRY_AFTER_CAP = 3600.0  # seconds; a longer request to wait is taken for this much


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Seconds that a ``Retry-After`` header asks to wait: a number or an HTTP date (RFC 9110, section 10.2.3).

    :param now: unix seconds.
    :return: 0 to 3600; None if the header is missing or unreadable.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.fromtimestamp(now, UTC)).total_seconds()
    return min(max(seconds, 0.0), RETRY_AFTER_CAP) if math.isfinite(seconds) else None


def backoff(attempt: int, *, base: float, cap: float, random: Callable[[], float]) -> float:
    """Exponential backoff with full jitter.

    :param attempt: 1 for the first repetition.
    :param base: seconds, upper bound of the first delay; doubled for each further one.
    :param cap: seconds, the largest upper bound.
    :param random: uniform in [0, 1).
    """
    return random() * min(cap, base * 2.0 ** min(attempt - 1, 60))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The one policy of both clients, for calls that may be repeated: never create or upload.

    :param budget: seconds, from the first try, within which the last repetition must begin; 0: never repeat.
    :param base: seconds, see :func:`backoff`.
    :param cap: seconds, see :func:`backoff`.
    """

    budget: float = 60.0
    base: float = 0.5
    cap: float = 20.0

    def delay(
        self, attempt: int, error: BifrostGatewayError, *, elapsed: float, random: Callable[[], float]
    ) -> float | None:
        """Seconds until the next try, or None if there is to be none.

        :param attempt: how many tries were made.
        :param error: what the last one met.
        :param elapsed: seconds since the first try began.
        """
        if not isinstance(error, BifrostUnavailable | BifrostRateLimited) or not error.transient:
            return None
        delay = backoff(attempt, base=self.base, cap=self.cap, random=random)
        if error.retry_after is not None:
            delay += error.retry_after
        return delay if self.budget and elapsed + delay <= self.budget else None


NO_RETRY = RetryPolicy(budget=0.0)
