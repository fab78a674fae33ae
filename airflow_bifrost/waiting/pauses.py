"""Pauses between requests, on a clock that may be set back. Pure."""

from __future__ import annotations

from airflow_bifrost.waiting.clock import was_set_back


def is_paused(paused_at: float, paused_until: float, now: float) -> bool:
    return now < paused_until and not was_set_back(paused_at, now)


def is_old_news(sent_at: float, paused_at: float, now: float) -> bool:
    return sent_at < paused_at and not was_set_back(paused_at, now)


def extended(paused_at: float, paused_until: float, until: float, now: float) -> float:
    """The later of two ends of a pause; the earlier pause does not count if the clock was set back since it began."""
    return until if was_set_back(paused_at, now) else max(paused_until, until)


def doubling(times: int, cap: float) -> float:
    return min(cap, 2.0 ** min(times - 1, 30))
