"""The ``progress`` XCom, written from the worker."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_bifrost.worker.progress import ProgressXCom


class TaskInstance:
    def __init__(self, error: Exception | None = None) -> None:
        self.pushed: list[Any] = []
        self._error = error

    def xcom_push(self, key: str, value: Any) -> None:
        if self._error:
            raise self._error
        assert key == "progress"
        self.pushed.append(value)


def progress(percent: float, checked_at: str = "now") -> dict[str, Any]:
    return {"status": "in_progress", "percent": percent, "checked_at": checked_at}


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


def test_it_is_written_no_more_often_than_once_per_interval_and_only_if_it_changed(clock: list[float]) -> None:
    ti = TaskInstance()
    xcom = ProgressXCom(ti, clock=lambda: clock[0])
    for seconds, percent in ((0, 10), (30, 20), (61, 30), (130, 30), (200, 40)):
        clock[0] = 1000.0 + seconds
        xcom.offer(progress(percent, checked_at=str(seconds)))
    assert [value["percent"] for value in ti.pushed] == [10, 30, 40]


def test_the_last_progress_is_always_written(clock: list[float]) -> None:
    ti = TaskInstance()
    xcom = ProgressXCom(ti, clock=lambda: clock[0])
    xcom.offer(progress(10))
    xcom.offer(progress(100), last=True)
    assert [value["percent"] for value in ti.pushed] == [10, 100]


def test_nothing_is_written_while_nothing_is_known(clock: list[float]) -> None:
    ti = TaskInstance()
    ProgressXCom(ti, clock=lambda: clock[0]).offer(None, last=True)
    assert ti.pushed == []


def test_the_wait_continues_if_the_xcom_backend_fails(clock: list[float]) -> None:
    ProgressXCom(TaskInstance(OSError("disk full")), clock=lambda: clock[0]).offer(progress(10), last=True)
