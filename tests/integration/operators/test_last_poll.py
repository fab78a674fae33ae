"""If Airflow ends the deferral because no triggerer did, the worker polls once more, and this poll decides."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.airflow import End, FakeTI, run_to_its_end
from support.meanwhile import when
from support.runs import cancel

from airflow_bifrost import BatchRetrieveOperator, BatchRunOperator, BatchSensor, BifrostHook
from airflow_bifrost.results import read_rows
from airflow_bifrost.testing import Fault, LocalGateway

TIMEOUT = {"error": "Trigger timeout"}  # as Airflow's scheduler writes it
FAILURE = {"error": "Trigger failure", "traceback": ["ImportError: no module named airflow_bifrost"]}
DONE = {"status": "completed", "request_counts": {"total": 10, "completed": 10, "failed": 0}}


def sensor(batch_id: str, **arguments: Any) -> Callable[[], Any]:
    return lambda: BatchSensor(task_id="wait", batch_id=batch_id, poke_interval=0.05, **arguments)


def retrieve(batch_id: str, **arguments: Any) -> Callable[[], Any]:
    return lambda: BatchRetrieveOperator(
        task_id="wait", batch_id=batch_id, wait_for_completion=True, poll_interval=0.05, **arguments
    )


def ended_by_airflow(
    make: Callable[[], Any],
    how: dict[str, Any],
    *,
    meanwhile: Callable[[], object] = lambda: None,
    ti: FakeTI | None = None,
) -> End:
    """How a task ends whose deferral Airflow ended.

    :param meanwhile: what happens while no triggerer runs.
    """

    def resume(trigger: Any) -> tuple[str, dict[str, Any]]:
        meanwhile()
        return "__fail__", how

    return run_to_its_end(make, resume_from=resume, ti=ti)


@pytest.mark.parametrize("how", [TIMEOUT, FAILURE], ids=["timeout", "failure"])
@pytest.mark.parametrize("make", [sensor, retrieve])
def test_a_batch_that_ended_while_no_triggerer_ran_is_a_success(
    make: Any, how: dict[str, Any], gateway: LocalGateway
) -> None:
    batch_id = gateway.add_batch(rows=10, status="in_progress")
    end = ended_by_airflow(make(batch_id), how, meanwhile=lambda: gateway.set_batch(batch_id, **DONE))
    assert end.state == "success", end.error
    assert (end.value["batch_id"], end.value["outcome"]) == (batch_id, "succeeded")
    assert end.xcoms["progress"]["percent"] == 100


@pytest.mark.parametrize("make", [sensor, retrieve])
def test_a_batch_that_failed_while_no_triggerer_ran_fails_the_task(make: Any, gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=10, status="in_progress")
    end = ended_by_airflow(make(batch_id), TIMEOUT, meanwhile=lambda: gateway.set_batch(batch_id, status="failed"))
    assert end.kind == "BatchFailed"


@pytest.mark.parametrize("make", [sensor, retrieve])
def test_a_batch_that_still_runs_is_a_timeout_that_names_the_batch_and_the_cost(
    make: Any, gateway: LocalGateway
) -> None:
    batch_id = gateway.add_batch(rows=10, status="in_progress")
    end = ended_by_airflow(make(batch_id), TIMEOUT)
    assert end.kind == "AirflowSensorTimeout"
    assert batch_id in str(end.error)
    assert "continues to run and is billed" in str(end.error)


@pytest.mark.parametrize("make", [sensor, retrieve])
def test_a_trigger_that_failed_is_an_error_that_names_the_batch_and_can_be_retried(
    make: Any, gateway: LocalGateway
) -> None:
    batch_id = gateway.add_batch(rows=10, status="in_progress")
    end = ended_by_airflow(make(batch_id), FAILURE)
    assert end.kind == "BifrostError"
    assert batch_id in str(end.error)
    assert "Trigger failure" in str(end.error)
    assert "billed" in str(end.error)


@pytest.mark.parametrize(
    "fault", [Fault(status=503), Fault(garbage=True), Fault(drop=True)], ids=["503", "garbage", "drop"]
)
def test_a_last_poll_during_an_outage_is_repeated(fault: Fault, gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=10, status="in_progress")

    def meanwhile() -> None:
        gateway.set_batch(batch_id, **DONE)
        gateway.inject(fault)

    end = ended_by_airflow(sensor(batch_id), TIMEOUT, meanwhile=meanwhile)
    assert end.state == "success", end.error


def test_the_error_names_an_execution_timeout_that_passed_in_the_meantime(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=10, status="in_progress")
    ti = FakeTI()

    def meanwhile() -> None:
        ti.start_date = datetime.now(UTC) - timedelta(hours=2)

    end = ended_by_airflow(sensor(batch_id, execution_timeout=timedelta(hours=1)), TIMEOUT, meanwhile=meanwhile, ti=ti)
    assert end.kind == "AirflowTaskTimeout"
    assert batch_id in str(end.error)


def test_airflow_ends_a_deferral_soon_after_the_execution_timeout(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=10, status="in_progress")
    end = ended_by_airflow(sensor(batch_id, execution_timeout=timedelta(hours=1)), TIMEOUT)
    assert end.defer_timeout is not None
    assert 3600 < end.defer_timeout < 2 * 3600  # and not the 25 hours of `timeout`


def test_soft_fail_applies_to_the_last_poll_too(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=10, status="in_progress")
    for how in (TIMEOUT, FAILURE):
        assert ended_by_airflow(sensor(batch_id, soft_fail=True), how).state == "skipped"


def test_a_run_continues_after_the_last_poll_and_writes_its_rows(quick_gateway: LocalGateway, tmp_path: Path) -> None:
    output = str(tmp_path / "out.jsonl")

    def make() -> Any:
        return BatchRunOperator(task_id="run", output_path=output, rows=["a", "b"], model="echo-1", poll_interval=0.05)

    def until_the_batch_has_ended() -> None:
        with BifrostHook() as hook:
            while hook.get_batch(quick_gateway.batches[0]["id"]).status != "completed":
                time.sleep(0.02)

    end = ended_by_airflow(make, TIMEOUT, meanwhile=until_the_batch_has_ended, ti=FakeTI(task_id="run"))
    assert end.state == "success", end.error
    assert end.deferrals == 1
    assert [row["outcome"] for row in read_rows(output)] == ["succeeded", "succeeded"]
    assert len(quick_gateway.batches) == 1


def test_a_run_cancels_a_batch_that_still_runs_at_the_last_poll_and_the_error_names_it(
    gateway: LocalGateway, tmp_path: Path
) -> None:
    def make() -> Any:
        return BatchRunOperator(
            task_id="run", output_path=str(tmp_path / "out.jsonl"), rows=["a"], model="echo-1", poll_interval=0.05
        )

    def batch_is_being_cancelled() -> bool:
        return any(request.path.endswith("/cancel") for request in gateway.requests)

    with when(batch_is_being_cancelled, lambda: cancel(gateway, gateway.batches[0]["id"])):
        end = ended_by_airflow(make, TIMEOUT, ti=FakeTI(task_id="run"))
    assert end.kind == "AirflowSensorTimeout"
    assert gateway.batches[0]["id"] in str(end.error)
    assert "billed" in str(end.error)
