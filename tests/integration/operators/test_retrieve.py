"""BatchRetrieveOperator over real HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from support.airflow import FakeTI, run_to_its_end
from support.meanwhile import after_requests

from airflow_bifrost import BatchRetrieveOperator
from airflow_bifrost.testing import Fault, LocalGateway

try:
    from airflow.sdk.exceptions import TaskDeferred  # Airflow 3.2 and later
except ImportError:
    from airflow.exceptions import TaskDeferred

KEYS = {
    "batch_id",
    "provider",
    "status",
    "outcome",
    "output_file_id",
    "error_file_id",
    "results_url",
    "request_counts",
    "errors",
    "created_at",
    "completed_at",
    "duration_seconds",
    "metadata",
}
DONE = {"status": "completed", "request_counts": {"total": 10, "completed": 10, "failed": 0}}


def retrieve(batch_id: Any, **arguments: Any) -> Any:
    return run_to_its_end(lambda: BatchRetrieveOperator(task_id="retrieve", batch_id=batch_id, **arguments))


def test_it_returns_the_summary_with_all_its_keys(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=10)
    gateway.set_batch(batch_id, output_file_id="file-out", **DONE)
    end = retrieve(batch_id)
    assert set(end.value) == KEYS
    assert (end.value["outcome"], end.value["output_file_id"]) == ("succeeded", "file-out")
    assert end.value["request_counts"] == {
        "total": 10,
        "completed": 10,
        "failed": 0,
        "succeeded": None,
        "expired": None,
        "canceled": None,
        "pending": None,
    }


def test_each_key_of_the_summary_is_an_xcom() -> None:
    assert BatchRetrieveOperator(task_id="retrieve", batch_id="b1").multiple_outputs


def test_a_running_batch_is_retrieved_without_waiting(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=10, status="in_progress")
    end = retrieve(batch_id)
    assert (end.state, end.value["status"], end.value["outcome"]) == ("success", "in_progress", None)


def test_without_waiting_the_task_succeeds_with_any_outcome(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=10)
    gateway.set_batch(batch_id, status="failed")
    assert retrieve(batch_id).value["outcome"] == "failed"


def test_a_short_outage_is_tolerated(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=10)
    gateway.set_batch(batch_id, **DONE)
    gateway.inject(Fault(status=503, times=2))
    assert retrieve(batch_id).state == "success"


@pytest.mark.parametrize("deferrable", [True, False])
def test_waiting_ends_when_the_batch_is_terminal(deferrable: bool, gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=10, status="in_progress")
    with after_requests(gateway, 2, lambda: gateway.set_batch(batch_id, **DONE)):
        end = retrieve(batch_id, wait_for_completion=True, deferrable=deferrable, poll_interval=0.05)
    assert end.value["outcome"] == "succeeded"
    assert end.deferrals == int(deferrable)


def test_an_outcome_that_is_not_accepted_fails_the_task_after_pushing_every_xcom(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=10)
    gateway.set_batch(batch_id, status="expired", output_file_id="file-some")
    end = retrieve(batch_id, wait_for_completion=True)
    assert end.kind == "BatchFailed"
    assert set(end.xcoms) >= KEYS | {"return_value"}
    assert end.xcoms["output_file_id"] == "file-some"


def test_an_unknown_batch_is_an_error_that_names_it(gateway: LocalGateway) -> None:
    end = retrieve("batch_nowhere")
    assert end.kind == "BatchNotFound"
    assert "batch_nowhere" in str(end.error)


def test_several_ids_are_an_error_that_advises_to_map_the_task(gateway: LocalGateway) -> None:
    end = retrieve(["b1", "b2"])
    assert end.kind == "ValueError"
    assert "expand" in str(end.error)


@pytest.mark.parametrize(
    ("provider", "status", "outcome"),
    [
        ("openai", "completed", "succeeded"),
        ("azure", "canceled", "cancelled"),
        ("anthropic", "ended", "succeeded"),
        ("gemini", "BATCH_STATE_SUCCEEDED", "succeeded"),
        ("bedrock", "Completed", "succeeded"),
    ],
)
def test_a_batch_of_each_provider_is_retrieved_by_its_own_id(
    provider: str, status: str, outcome: str, gateway: LocalGateway
) -> None:
    batch_id = gateway.add_batch(provider, rows=3, status=status)
    end = retrieve(batch_id, provider=provider)
    assert (end.value["batch_id"], end.value["provider"], end.value["outcome"]) == (batch_id, provider, outcome)


@pytest.mark.parametrize(
    ("state", "run_state", "cancels"),
    [
        ("failed", "running", True),
        ("skipped", "running", True),
        ("skipped", "failed", False),  # dagrun_timeout
        ("running", "running", False),
        (None, "running", False),
    ],
)
def test_on_kill_in_the_worker_cancels_only_when_a_user_ended_the_task(
    state: str | None, run_state: str, cancels: bool, gateway: LocalGateway
) -> None:
    batch_id = gateway.add_batch(rows=10, status="in_progress")
    ti = FakeTI(task_id="retrieve")
    ti.get_task_states = lambda **_: {"run": {"retrieve": state}}  # type: ignore[attr-defined]
    ti.get_dagrun_state = lambda *_: run_state  # type: ignore[attr-defined]
    task = BatchRetrieveOperator(task_id="retrieve", batch_id=batch_id, cancel_on_kill=True, wait_for_completion=True)
    with pytest.raises(TaskDeferred):
        task.execute({"ti": ti})
    task.on_kill()
    assert any(request.path.endswith("/cancel") for request in gateway.requests) == cancels
