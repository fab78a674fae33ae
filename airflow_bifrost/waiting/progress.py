"""The progress of a wait's batches, for the XCom ``progress``. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, Self

import pendulum

from airflow_bifrost import providers
from airflow_bifrost.gateway.models import Batch


class Seen(NamedTuple):
    """What the latest answer says about a batch's rows. Small, because there may be ten thousand batches."""

    status: str
    processed: int | None
    total: int | None
    completed: int | None
    failed: int | None

    @classmethod
    def of(cls, batch: Batch, provider: str) -> Self:
        """``provider`` is the batch's provider, because providers count differently."""
        counts = batch.request_counts
        return cls(
            batch.status, providers.get(provider).processed_rows(counts), counts.total, counts.completed, counts.failed
        )


def progress_of(batches: Collection[Seen], *, now: float) -> dict[str, Any]:
    """Sums over the batches, JSON types only; null if no batch gave the number.

    :param now: unix seconds; it becomes ``checked_at``, the only key that changes when nothing else did.
    :return: ``{"status", "total", "completed", "failed", "percent", "checked_at"}``; ``status`` is the most frequent one.
    """
    statuses = Counter(batch.status for batch in batches)
    done = _sum(batch.processed for batch in batches)
    total = _sum(batch.total for batch in batches)
    return {
        "status": statuses.most_common(1)[0][0] if statuses else None,
        "total": total,
        "completed": _sum(batch.completed for batch in batches),
        "failed": _sum(batch.failed for batch in batches),
        "percent": round(100 * min(done, total) / total, 1) if total and done is not None else None,
        "checked_at": pendulum.from_timestamp(now).isoformat(),
    }


def changed(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> bool:
    """Whether anything but the time of the poll differs."""
    return old is None or any(old[key] != new[key] for key in new if key != "checked_at")


class ProgressPace:
    """When to write the XCom again: no more often than once per interval, and only if it changed.

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
