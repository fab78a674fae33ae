"""A wait in the worker, against a gateway. The clock and the pauses are the test's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.airflow import FakeTI, Store

from airflow_bifrost.exceptions import BifrostConfigurationError
from airflow_bifrost.testing import Fault, LocalGateway
from airflow_bifrost.worker.wait import BatchWait

VARIABLE = "AIRFLOW_CONN_BIFROST_DEFAULT"
DONE = {"status": "completed", "request_counts": {"total": 10, "completed": 10, "failed": 0}}


class Time:
    """A clock that only pauses advance, and what happens in each pause."""

    def __init__(self, *happenings: Callable[[], object]) -> None:
        self.now = 1_800_000_000.0
        self.pauses: list[float] = []
        self._happenings = list(happenings)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)
        if self._happenings:
            self._happenings.pop(0)()


def wait(batch_id: str, time: Time, **arguments: Any) -> BatchWait:
    given: dict[str, Any] = {
        "batch_ids": [batch_id],
        "provider": None,
        "conn_id": "bifrost_default",
        "mode": "poke",
        "poll_interval": 60.0,
        "timeout": 3600.0,
        "execution_timeout": None,
        "not_found_grace": 300.0,
        "cancel_on_kill": False,
        "poll_backoff": False,
        "clock": time.clock,
        "sleep": time.sleep,
    }
    return BatchWait(**given | arguments)


def context(**ti: Any) -> dict[str, Any]:
    return {"ti": FakeTI(**ti), "task_state_store": Store()}


def run(batch_id: str, time: Time, **ti: Any) -> list[dict[str, Any]]:
    return wait(batch_id, time).run(context(**ti), None)  # type: ignore[arg-type]  # the task is needed to defer only


def test_a_connection_that_is_away_for_a_moment_is_tolerated_once_the_gateway_has_answered(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = gateway.add_batch(rows=10, status="in_progress")

    def lose_the_connection() -> None:
        monkeypatch.delenv(VARIABLE)
        gateway.inject(Fault(status=401, times=1))

    def find_it_again() -> None:
        monkeypatch.setenv(VARIABLE, gateway.connection_json(token="sk-bf-good"))
        gateway.set_batch(batch_id, **DONE)

    [summary] = run(batch_id, Time(lose_the_connection, find_it_again))
    assert summary["outcome"] == "succeeded"


def test_a_retry_tolerates_a_connection_that_airflow_does_not_find_at_its_first_poll(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = gateway.add_batch(rows=10)
    gateway.set_batch(batch_id, **DONE)
    connection = gateway.connection_json(token="sk-bf-good")
    monkeypatch.delenv(VARIABLE)
    time = Time(lambda: monkeypatch.setenv(VARIABLE, connection))
    [summary] = run(batch_id, time, try_number=2)
    assert summary["outcome"] == "succeeded"
    assert len(time.pauses) == 1


def test_a_retry_gives_up_on_a_connection_that_stays_away_and_says_that_the_database_may_be_away(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    time = Time()
    with pytest.raises(BifrostConfigurationError, match="database, API server or secrets backend may be unavailable"):
        run(gateway.add_batch(rows=10), time, try_number=2)
    assert sum(time.pauses) == pytest.approx(300, abs=1)


def test_the_first_attempt_fails_at_once_on_a_connection_that_does_not_exist(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    time = Time()
    with pytest.raises(BifrostConfigurationError, match="Create it"):
        run(gateway.add_batch(rows=10), time)
    assert time.pauses == []


def test_a_retry_fails_at_once_on_a_connection_that_exists_and_cannot_work(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, '{"conn_type": "bifrost", "host": "h", "extra": {"timeout": "soon"}}')
    time = Time()
    with pytest.raises(BifrostConfigurationError, match="extra timeout"):
        run(gateway.add_batch(rows=10), time, try_number=2)
    assert time.pauses == []


def test_the_triggerer_learns_that_the_connection_was_known_before(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    deferred: list[Any] = []

    class Task:
        def defer(self, *, trigger: Any, **_: Any) -> None:
            deferred.append(trigger)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        wait("batch_1", Time(), mode="deferrable").run(context(try_number=2), Task())  # type: ignore[arg-type]
    [state] = deferred[0].serialize()[1]["states"]
    assert state["defined_before"]
    assert state["missing_since"] is not None
