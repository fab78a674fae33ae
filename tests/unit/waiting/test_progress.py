"""The progress XCom: what it says of one batch and of many."""

from __future__ import annotations

import json
from typing import Any

from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.waiting.progress import ProgressPace, Seen, changed, progress_of

NOW = 1_775_400_000.0


def batch(batch_id: str = "b1", status: str = "in_progress", **counts: Any) -> Batch:
    return Batch(id=batch_id, status=status, request_counts=counts)


def of(*batches: Batch, provider: str = "openai", now: float = NOW) -> dict[str, Any]:
    return progress_of([Seen.of(batch, provider) for batch in batches], now=now)


def test_progress_has_the_keys_of_the_contract_and_json_types_only() -> None:
    progress = of(batch(total=100, completed=23, failed=1))
    assert json.loads(json.dumps(progress)) == {
        "status": "in_progress",
        "total": 100,
        "completed": 23,
        "failed": 1,
        "percent": 24.0,
        "checked_at": "2026-04-05T14:40:00+00:00",
    }


def test_counts_that_the_gateway_did_not_give_are_null() -> None:
    progress = of(batch(total=0, completed=0, failed=0), provider="bedrock")
    assert (progress["total"], progress["completed"], progress["failed"], progress["percent"]) == (None,) * 4


def test_progress_of_many_is_the_sum() -> None:
    progress = of(
        batch(total=100, completed=50, failed=0),
        batch("b2", total=100, completed=0, failed=100),
        batch("b3", status="validating"),
    )
    assert (progress["total"], progress["completed"], progress["failed"], progress["percent"]) == (200, 50, 100, 75.0)


def test_failures_that_gemini_counts_as_completed_are_not_counted_twice() -> None:
    progress = of(batch(total=10, completed=4, failed=2, succeeded=2), provider="gemini")
    assert progress["percent"] == 40.0


def test_more_rows_done_than_the_batch_has_are_100_percent() -> None:
    assert of(batch(total=10, completed=12))["percent"] == 100.0


def test_progress_is_due_once_in_an_interval_and_only_when_it_changed() -> None:
    pace = ProgressPace(60)
    sent = []
    for second in range(200):
        progress = {"completed": min(second // 10, 10)}
        if pace.due(lambda progress=progress: progress, now=second):
            sent.append(second)
    assert sent == [0, 60, 120]


def test_progress_that_is_not_due_is_not_even_computed() -> None:
    pace, computed = ProgressPace(60), []

    def progress() -> dict[str, Any]:
        computed.append(1)
        return {"completed": 1}

    for moment in range(100):
        pace.due(progress, now=moment / 100)
    assert len(computed) == 1


def test_a_later_poll_alone_is_no_change() -> None:
    earlier = of(batch(total=10, completed=1))
    later = of(batch(total=10, completed=1), now=NOW + 60)
    more = of(batch(total=10, completed=2), now=NOW + 60)
    assert changed(None, earlier)
    assert not changed(earlier, later)
    assert changed(earlier, more)
