"""How far the batches of a wait are: the ``progress`` XCom. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pendulum

from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.gateway.outcome import processed_rows


def progress_of(batches: Mapping[str, Batch], provider: str, *, now: float) -> dict[str, Any]:
    """Sums over the batches, JSON types only; null where no batch gave the number.

    :param batches: the latest answer for each batch id.
    :param now: unix seconds; it becomes ``checked_at``, the only key that changes when nothing else did.
    :return: ``{"status", "total", "completed", "failed", "percent", "checked_at"}``; ``status`` is the most frequent one.
    """
    statuses = Counter(batch.status for batch in batches.values())
    done = _sum(processed_rows(provider, batch.request_counts) for batch in batches.values())
    total = _sum(batch.request_counts.total for batch in batches.values())
    return {
        "status": statuses.most_common(1)[0][0] if statuses else None,
        "total": total,
        "completed": _sum(batch.request_counts.completed for batch in batches.values()),
        "failed": _sum(batch.request_counts.failed for batch in batches.values()),
        "percent": round(100 * min(done, total) / total, 1) if total and done is not None else None,
        "checked_at": pendulum.from_timestamp(now).isoformat(),
    }


def changed(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> bool:
    """Whether anything but the time of the look differs."""
    return old is None or any(old[key] != new[key] for key in new if key != "checked_at")


class ProgressPace:
    """When the XCom is worth writing again: at most once in an interval, and only if it changed.

    :param interval: seconds.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._last: dict[str, Any] | None = None
        self._next_at = 0.0

    def due(self, progress: Callable[[], dict[str, Any]], *, now: float) -> dict[str, Any] | None:
        """The progress to write now, or None.

        :param progress: computes it; called only when it is time, since over thousands of batches it takes a while.
        :param now: seconds on a clock that never goes back.
        """
        if now < self._next_at:
            return None
        current = progress()
        self._next_at = now + min(self._interval, 1.0)
        if not changed(self._last, current):
            return None
        self._last, self._next_at = current, now + self._interval
        return current


def _sum(numbers: Any) -> int | None:
    given = [number for number in numbers if number is not None]
    return sum(given) if given else None
