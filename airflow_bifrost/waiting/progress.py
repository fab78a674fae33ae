"""How far the batches of a wait are: the ``progress`` XCom. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
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


def _sum(numbers: Any) -> int | None:
    given = [number for number in numbers if number is not None]
    return sum(given) if given else None
