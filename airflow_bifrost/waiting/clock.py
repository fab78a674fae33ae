"""Time that may jump: the machine's clock is set, and worker and triggerer do not agree on it."""

from __future__ import annotations

SET_BACK = 5.0  # seconds; by less, a clock is corrected all the time


def was_set_back(since: float, now: float) -> bool:
    """Whether the clock was set back after ``since``, or belongs to another machine."""
    return now < since - SET_BACK


def has_passed(seconds: float, since: float, now: float) -> bool:
    """Whether ``seconds`` have passed since ``since``. No clock makes that take longer than ``seconds`` from now on.

    :param since: Unix seconds.
    :param now: Unix seconds.
    """
    return now >= since + seconds or was_set_back(since, now)
