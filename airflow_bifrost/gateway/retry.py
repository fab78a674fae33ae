"""Decides what is retried after an error, and when. Pure: clock and random numbers are arguments."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum

from airflow_bifrost.exceptions import (
    BifrostGatewayError,
    BifrostProtocolError,
    BifrostRateLimited,
    BifrostUnavailable,
)

RETRY_AFTER_CAP = 3600.0  # seconds; a longer Retry-After counts as this much
DEFAULT_RETRY_BUDGET = 300.0  # seconds; longer than a restart of the gateway
MAX_BROKEN_UPLOADS = 3


class Repeat(Enum):
    """When a request may be sent again after an error."""

    ALWAYS = "it has no effect, or the same effect twice"
    UPLOAD = (
        "twice leaves a second file, which costs nothing; but a file that is too large breaks the connection each time"
    )
    IF_NOT_SENT = "twice costs twice: only if the first certainly did not reach the provider"


def parse_date(value: str | None) -> float | None:
    """An HTTP date (RFC 9110, section 5.6.7) in Unix seconds; None if it is missing or unreadable."""
    if not value:
        return None
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Seconds that a ``Retry-After`` header asks to wait: a number or an HTTP date (RFC 9110, section 10.2.3).

    :param now: Unix seconds.
    :return: 0 to 3600; None if the header is missing or unreadable.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        moment = parse_date(value)
        if moment is None:
            return None
        seconds = moment - now
    return min(max(seconds, 0.0), RETRY_AFTER_CAP) if math.isfinite(seconds) else None


def retry_after(header: str | None, milliseconds: int | None, now: float) -> float | None:
    """Seconds that an answer asks to wait: the ``Retry-After`` header if it can be read, else ``retry_after_ms`` of the body."""
    seconds = parse_retry_after(header, now)
    return seconds if seconds is not None or milliseconds is None else min(milliseconds / 1000, RETRY_AFTER_CAP)


def backoff(attempt: int, *, base: float, cap: float, random: Callable[[], float]) -> float:
    """Exponential backoff with full jitter.

    :param attempt: 1 for the first retry.
    :param base: seconds, upper bound of the first delay; doubled for each further one.
    :param cap: seconds, maximum of the upper bound.
    :param random: uniform in [0, 1).
    """
    return random() * min(cap, base * 2.0 ** min(attempt - 1, 60))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long and how often both clients retry a call.

    :param budget: seconds from the first attempt within which the last retry must begin; 0: never retry.
    :param base: seconds, see :func:`backoff`.
    :param cap: seconds, see :func:`backoff`.
    :param clock: seconds, monotonic.
    :param random: uniform in [0, 1).
    """

    budget: float = DEFAULT_RETRY_BUDGET
    base: float = 0.5
    cap: float = 20.0
    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random

    def delay(self, attempt: int, error: BifrostGatewayError, *, elapsed: float) -> float | None:
        """Seconds until the next attempt; None if there is no time for one.

        :param attempt: how many attempts were made.
        :param error: of the last attempt; its ``retry_after`` is honored.
        :param elapsed: seconds since the first attempt began.
        """
        delay = backoff(attempt, base=self.base, cap=self.cap, random=self.random) + (error.retry_after or 0.0)
        return delay if self.budget and elapsed + delay <= self.budget else None

    def attempts(self, repeat: Repeat = Repeat.ALWAYS) -> Attempts:
        """The attempts of one call. Its budget starts now."""
        return Attempts(self, repeat)


NO_RETRY = RetryPolicy(budget=0.0)


class Attempts:
    """Counts the attempts of one call, and decides after each error whether and when to retry. See :meth:`RetryPolicy.attempts`."""

    def __init__(self, policy: RetryPolicy, repeat: Repeat) -> None:
        self._policy = policy
        self._repeat = repeat
        self._began = policy.clock()
        self._made = 0
        self._broken = 0

    def delay(self, error: BifrostGatewayError, *, worked: bool = False) -> float | None:
        """Seconds until the next attempt; None: do not make one.

        :param error: of the attempt that was just made.
        :param worked: whether this route of the gateway has answered before. If so, any failure may be temporary.
        """
        self._made += 1
        if error.sent and error.status_code is None:
            self._broken += 1
        if not self._may_repeat(error) or not is_retryable(error, worked=worked):
            return None
        return self._policy.delay(self._made, error, elapsed=self._policy.clock() - self._began)

    def _may_repeat(self, error: BifrostGatewayError) -> bool:
        match self._repeat:
            case Repeat.IF_NOT_SENT:
                return not error.sent
            case Repeat.UPLOAD:
                return self._broken < MAX_BROKEN_UPLOADS
        return True


def is_retryable(error: BifrostGatewayError, *, worked: bool) -> bool:
    """Whether the same call may succeed within minutes.

    :param worked: whether this route of the gateway has answered before. If so, a web page or a wrong certificate is also an outage,
        not a wrong address.
    """
    if not isinstance(error, BifrostUnavailable | BifrostRateLimited | BifrostProtocolError):
        return False
    return error.transient or worked
