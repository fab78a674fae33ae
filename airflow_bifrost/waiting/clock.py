"""Time that may jump: a machine's clock is set, or the clocks of worker and triggerer differ."""

from __future__ import annotations

SET_BACK = 5.0  # seconds; smaller corrections of a clock are normal


def was_set_back(since: float, now: float) -> bool:
    """Whether the clock was set back after ``since``, or belongs to another machine."""
    return now < since - SET_BACK


def has_passed(seconds: float, since: float, now: float) -> bool:
    """Whether ``seconds`` have passed since ``since``. Even if a clock jumps, this takes no longer than ``seconds`` from now.

    :param since: Unix seconds.
    :param now: Unix seconds.
    """
    return now >= since + seconds or was_set_back(since, now)
