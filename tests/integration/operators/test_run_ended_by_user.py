"""BatchRunOperator when a user ends the task: nothing more is submitted, and the running batches are cancelled."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from support.airflow import FakeTI, Store, run_to_its_end
from support.providers import small_batches
from support.runs import outcomes, run, task

from airflow_bifrost import BatchRunOperator
from airflow_bifrost.results import read_rows
from airflow_bifrost.runs.record import CANCEL_KEY, STATE_KEY
from airflow_bifrost.testing import Fault, LocalGateway, ProviderBehavior
from airflow_bifrost.triggers import uncancelled
from airflow_bifrost.worker.kill import TaskStopped


@pytest.fixture
def gateway(quick_gateway: LocalGateway) -> LocalGateway:
    return quick_gateway


class Killed(Store):
    """Airflow ends the task after a number of batches, as its SIGTERM handler does: it calls ``on_kill`` and returns.

    :param state: of the task in Airflow.
    :param hold: the batches do not end by themselves.
    """

    def __init__(self, gateway: LocalGateway, after: int, state: str, *, hold: bool = False) -> None:
        super().__init__()
        self.gateway, self.after, self.state, self.hold = gateway, after, state, hold
        self.task: BatchRunOperator | None = None

    def set(self, key: str, value: Any) -> None:
        super().set(key, value)
        submitted = [part for part in value["parts"] if part["batch_id"]] if key == STATE_KEY else []
        if len(submitted) == self.after and self.task is not None:
            task, self.task = self.task, None
            for batch in self.gateway.batches if self.hold else ():
                self.gateway.set_batch(batch["id"], status="in_progress")
            task.on_kill()


class KilledDuringCreate(Killed):
    """Airflow ends the task when the last create has made its batch, and the run does not know the batch yet."""

    def set(self, key: str, value: Any) -> None:
        Store.set(self, key, value)
        created = [batch["id"] for batch in self.gateway.batches]
        if self.task is not None and len(created) == self.after and key != STATE_KEY and created[-1] in self[key]:
            task, self.task = self.task, None
            task.on_kill()


def killed(gateway: LocalGateway, store: Killed, output: str, rows: list[str], **arguments: Any) -> Any:
    ti = FakeTI(task_id="run")
    ti.get_task_states = lambda **_: {"run": {"run": store.state}}  # type: ignore[attr-defined]
    ti.get_dagrun_state = lambda *_: "failed"  # type: ignore[attr-defined]
    store.task = task(output, rows, max_parallel_batches=12, **arguments)
    with pytest.raises(TaskStopped):
        store.task.execute({"ti": ti, "task_state_store": store})


@pytest.fixture
def twelve(gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Rows of twelve batches."""
    small_batches(monkeypatch, "openai", rows=1)
    return [str(number) for number in range(12)]


def test_no_batch_is_created_after_a_user_ends_the_task_and_running_batches_are_cancelled(
    gateway: LocalGateway, output: str, twelve: list[str]
) -> None:
    store = Killed(gateway, 3, "failed")
    killed(gateway, store, output, twelve)
    assert len(gateway.batches) == 3
    assert {batch["status"] for batch in gateway.batches} <= {"cancelling", "cancelled", "completed"}
    assert store.get(CANCEL_KEY) == []
    end = run(output, twelve, store=Store(store), try_number=2)  # a clear
    assert end.state == "success", end.error
    assert [row["text"] for row in read_rows(output)] == [f"echo: {row}" for row in twelve]


def test_a_batch_whose_create_was_in_progress_when_a_user_ended_the_task_is_cancelled(
    gateway: LocalGateway, output: str, twelve: list[str]
) -> None:
    killed(gateway, KilledDuringCreate(gateway, 3, "failed"), output, twelve)
    asked = [request.path for request in gateway.requests if request.path.endswith("/cancel")]
    assert [sum(batch["id"] in path for path in asked) for batch in gateway.batches] == [1, 1, 1]


@pytest.mark.parametrize("state", ["running", "up_for_retry", "skipped"])
def test_if_no_user_ended_the_task_nothing_is_cancelled_and_no_batch_is_created(
    gateway: LocalGateway, output: str, twelve: list[str], state: str
) -> None:
    store = Killed(gateway, 3, state)
    killed(gateway, store, output, twelve)
    assert len(gateway.batches) == 3
    assert not [request for request in gateway.requests if request.path.endswith("/cancel")]
    assert run(output, twelve, store=Store(store), try_number=2).state == "success"
    assert len(gateway.batches) == 12


def test_a_batch_that_cannot_be_cancelled_is_cancelled_by_the_next_attempt(
    gateway: LocalGateway, output: str, twelve: list[str]
) -> None:
    gateway.inject(Fault(call="batch_cancel", status=401, times=None))
    store = Killed(gateway, 2, "failed", hold=True)
    killed(gateway, store, output, twelve)
    left = [batch["id"] for batch in gateway.batches]
    assert store.get(CANCEL_KEY) == left
    gateway.clear_faults()
    cancelled: list[bool] = []

    class Watching(Store):
        def set(self, key: str, value: Any) -> None:
            super().set(key, value)
            if key == CANCEL_KEY:
                cancelled.append(value == [])
                for batch_id in left:
                    gateway.set_batch(batch_id, status=None)

    end = run(output, twelve, store=Watching(store), try_number=2)
    assert end.state == "success", end.error
    assert True in cancelled
    assert outcomes(output) == ["succeeded"] * 12
    asked = [request.path for request in gateway.requests if request.path.endswith("/cancel")]
    assert all(any(batch_id in path for path in asked) for batch_id in left)


def test_a_batch_that_the_trigger_could_not_cancel_is_cancelled_by_the_next_attempt(
    gateway: LocalGateway, output: str
) -> None:
    store = Store()
    deferred: list[Any] = []

    def die(trigger: Any) -> Any:
        deferred.append(trigger)
        raise ValueError("a user ended the task")

    gateway.behave("openai", ProviderBehavior(running_polls=100))
    ti = FakeTI(task_id="run")
    with pytest.raises(ValueError, match="a user"):
        run_to_its_end(lambda: task(output, ["a"]), ti=ti, store=store, resume_from=die)
    [batch] = gateway.batches
    uncancelled.leave(deferred[0].uncancelled, [batch["id"]])
    gateway.behave("openai", ProviderBehavior())
    run(output, ["a"], store=store, try_number=2)
    assert [request.path for request in gateway.requests if request.path.endswith(f"{batch['id']}/cancel")]
    assert not Path(deferred[0].uncancelled).exists()


def test_cancels_run_in_parallel_and_are_repeated_on_transient_errors(
    gateway: LocalGateway, output: str, twelve: list[str]
) -> None:
    gateway.inject(Fault(call="batch_cancel", status=503, times=5))
    store = Killed(gateway, 8, "failed")
    killed(gateway, store, output, twelve)
    asked = [request for request in gateway.requests if request.path.endswith("/cancel")]
    assert len(asked) == 13
    assert store.get(CANCEL_KEY) == []
    assert threading.active_count() < 50
