"""When a user ends a BatchSubmitOperator, it submits nothing more, and this or the next attempt cancels what it submitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.airflow import End, FakeTI, Store, run_to_its_end

from airflow_bifrost import BatchSubmitOperator
from airflow_bifrost.exceptions import BifrostUnavailable
from airflow_bifrost.submission.ledger import LedgerTiming
from airflow_bifrost.testing import Fault, LocalGateway
from airflow_bifrost.worker import submit as module
from airflow_bifrost.worker.kill import TaskStopped

RECORD = "bifrost_submission_1"
CANCEL = Fault(status=503, call="batch_cancel", times=None)


class Watched(Store):
    """Calls back when a record in this state was written."""

    def __init__(self, state: str, do: Callable[[], None]) -> None:
        super().__init__()
        self.state, self.do = state, do

    def set(self, key: str, value: Any) -> None:
        super().set(key, value)
        if key == RECORD and self.state in {record["state"] for record in value.values()}:
            do, self.do = self.do, lambda: None
            do()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMING", LedgerTiming(sleep=lambda _: None, settle=0.0, late=0.0))


def attempt(store: Store, *, state: str = "failed", try_number: int = 1, **arguments: Any) -> End:
    return run_to_its_end(lambda: make(**arguments), ti=task_instance(state, try_number), store=store)


def make(**arguments: Any) -> BatchSubmitOperator:
    return BatchSubmitOperator(task_id="submit", **({"rows": ["a", "b"], "model": "echo-1"} | arguments))


def task_instance(state: str, try_number: int = 1) -> FakeTI:
    ti = FakeTI(task_id="submit", try_number=try_number)
    ti.get_task_states = lambda **_: {"run": {"submit": state}}  # type: ignore[attr-defined]
    return ti


def ended_while_it_submits(state: str, at: str = "submitted") -> tuple[End, Store]:
    """An attempt that Airflow ends as soon as its record reaches a given state. Afterwards, the task has the given state in Airflow."""
    task = make()
    store = Watched(at, task.on_kill)
    return run_to_its_end(lambda: task, ti=task_instance(state), store=store), store


@pytest.fixture
def not_cancelled(gateway: LocalGateway) -> Store:
    """The store of an attempt that a user ended, and whose batch could not be cancelled."""
    gateway.inject(Fault(status=400, call="batch_cancel"))
    _, store = ended_while_it_submits("failed")
    gateway.clear_faults()
    return store


def is_cancelled(gateway: LocalGateway, number: int = 0) -> bool:
    return gateway.batches[number]["status"] in ("cancelling", "cancelled")


def test_a_batch_whose_create_was_in_progress_when_a_user_ended_the_task_is_cancelled(gateway: LocalGateway) -> None:
    end, _ = ended_while_it_submits("failed")
    assert isinstance(end.error, TaskStopped)
    assert is_cancelled(gateway)


def test_a_batch_keeps_running_if_airflow_ends_the_attempt_and_retries(gateway: LocalGateway) -> None:
    end, store = ended_while_it_submits("up_for_retry")
    assert isinstance(end.error, TaskStopped)
    assert not is_cancelled(gateway)
    assert attempt(store, try_number=2).value == gateway.batches[0]["id"]


def test_nothing_is_submitted_if_the_task_is_ended_before_the_create(gateway: LocalGateway) -> None:
    ended_while_it_submits("failed", at="intent")
    assert not gateway.batches


def test_a_clear_after_a_stop_submits_again(gateway: LocalGateway) -> None:
    _, store = ended_while_it_submits("failed")
    end = attempt(store, try_number=2)
    assert end.value == gateway.batches[1]["id"]
    assert attempt(store, try_number=3).value == end.value


def test_a_clear_continues_with_a_batch_that_could_not_be_cancelled(
    gateway: LocalGateway, not_cancelled: Store
) -> None:
    assert attempt(not_cancelled, try_number=2).value == gateway.batches[0]["id"]
    assert not is_cancelled(gateway)
    assert len(gateway.batches) == 1


def test_a_clear_with_other_rows_cancels_the_batch_that_could_not_be_cancelled(
    gateway: LocalGateway, not_cancelled: Store
) -> None:
    assert attempt(not_cancelled, try_number=2, rows=["c"]).state == "success"
    assert is_cancelled(gateway)


def test_a_twin_that_cannot_be_cancelled_fails_the_attempt_and_the_retry_cancels_it(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__BIFROST__RETRY_BUDGET", "0.1")

    def with_a_twin() -> None:
        [batch] = gateway.batches
        gateway.add_batch(metadata=batch["metadata"], created_at=batch["created_at"] + 1, status="in_progress")

    store = Watched("submitted", with_a_twin)
    gateway.inject(CANCEL)
    end = attempt(store)
    assert isinstance(end.error, BifrostUnavailable)
    first, twin = (batch["id"] for batch in gateway.batches)
    assert first in str(end.error)
    assert twin in str(end.error)
    gateway.clear_faults()
    assert attempt(store, try_number=2).value == first
    assert [is_cancelled(gateway, number) for number in (0, 1)] == [False, True]
