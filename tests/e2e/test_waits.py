"""Waits in a real Airflow: what happens to them and to their batches when something happens to Airflow or to the task."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.end_to_end import GatewayProcess, Wait
    from support.local_airflow import LocalAirflow

PATIENCE = 240.0
FAILED = {"status": "failed", "request_counts": {"total": 10, "completed": 0, "failed": 10}}
DONE = {"status": "completed", "request_counts": {"total": 10, "completed": 9, "failed": 1}}
TRIGGERS_LEARN_THAT_THEIR_TASK_ENDED = tuple(map(int, version("apache-airflow").split(".")[:2])) >= (3, 3)


def test_soft_fail_skips_the_task_when_the_batch_fails(waits: dict[str, Wait], gateway: GatewayProcess) -> None:
    wait = waits["skips"]
    wait.reaches("deferred")

    gateway.set_batch(wait.batch_id, **FAILED)

    wait.reaches("skipped")


def test_clearing_a_deferred_task_begins_a_new_wait_which_succeeds(
    airflow: LocalAirflow, waits: dict[str, Wait], gateway: GatewayProcess
) -> None:
    wait = waits["cleared"]
    wait.reaches("deferred")

    wait.clear()
    airflow.until(lambda: wait.instance()["try_number"] == 2, "the second try", PATIENCE)
    wait.reaches("deferred")
    gateway.set_batch(wait.batch_id, **DONE)

    wait.reaches("success")


def test_marking_a_deferred_task_failed_cancels_its_batch_only_if_asked_to(
    airflow: LocalAirflow, waits: dict[str, Wait], gateway: GatewayProcess
) -> None:
    plain, cancelling = waits["marked"], waits["marked_and_cancelled"]
    plain.reaches("deferred")
    cancelling.reaches("deferred")

    plain.mark_failed()
    cancelling.mark_failed()

    if TRIGGERS_LEARN_THAT_THEIR_TASK_ENDED:
        airflow.until(lambda: gateway.asked("POST", cancelling.batch_id), "the batch to be cancelled", PATIENCE)
    assert gateway.asked("POST", plain.batch_id) == 0
    assert plain.instance()["state"] == cancelling.instance()["state"] == "failed"


def test_a_wait_whose_time_is_over_fails_with_a_timeout_and_is_not_retried(waits: dict[str, Wait]) -> None:
    wait = waits["times_out"]

    instance = wait.reaches("failed")

    assert instance["try_number"] == 1
    assert "AirflowSensorTimeout" in wait.logs()


def test_a_last_poll_decides_when_airflow_ended_the_deferral(short_wait: Wait, gateway: GatewayProcess) -> None:
    short_wait.reaches("deferred")

    gateway.set_batch(short_wait.batch_id, **DONE)

    assert short_wait.reaches("success")["try_number"] == 1
    assert "Airflow ended the deferral" in short_wait.logs()
    assert short_wait.xcom("wait")["outcome"] == "partial"


def test_a_wait_shows_its_progress_and_survives_the_death_of_the_triggerer(
    airflow: LocalAirflow, waits: dict[str, Wait], gateway: GatewayProcess
) -> None:
    wait = waits["survives"]
    wait.reaches("deferred")
    progress = airflow.until(lambda: wait.xcom("wait", "progress"), "the progress", PATIENCE)
    assert wait.instance()["state"] == "deferred"
    assert (progress["status"], progress["percent"]) == ("in_progress", 50.0)

    airflow.kill("triggerer")
    gateway.set_batch(wait.batch_id, **DONE)
    asked_before = gateway.asked("GET", wait.batch_id)
    airflow.start_component("triggerer")

    assert wait.reaches("success")["try_number"] == 1
    wait.reaches("success", task_id="retrieve")
    assert gateway.asked("GET", wait.batch_id) > asked_before
    summary = wait.xcom("wait")
    assert (summary["batch_id"], summary["outcome"]) == (wait.batch_id, "partial")
    pushed = wait.xcoms("retrieve")
    assert pushed.pop("return_value") == summary
    assert pushed == summary
