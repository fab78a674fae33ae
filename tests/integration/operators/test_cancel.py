"""BatchCancelOperator over real HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.airflow import run_to_its_end

from airflow_bifrost import BatchCancelOperator, BatchRetrieveOperator, BifrostHook
from airflow_bifrost.testing import Fault, LocalGateway

PROVIDERS = ["openai", "azure", "anthropic", "gemini", "bedrock"]
CANCEL = {"path_contains": "/cancel"}


def cancel(batch_id: Any, **arguments: Any) -> Any:
    return run_to_its_end(lambda: BatchCancelOperator(task_id="cancel", batch_id=batch_id, **arguments))


def cancels(gateway: LocalGateway) -> int:
    return sum(request.path.endswith("/cancel") for request in gateway.requests)


def just_before_the_cancel(monkeypatch: pytest.MonkeyPatch, happen: Callable[[], None]) -> None:
    cancel_batch = BifrostHook.cancel_batch

    def too_late(hook: BifrostHook, *args: Any, **kwargs: Any) -> Any:
        happen()
        return cancel_batch(hook, *args, **kwargs)

    monkeypatch.setattr(BifrostHook, "cancel_batch", too_late)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_running_batch_of_each_provider_is_cancelled(provider: str, gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(provider, rows=4, status="in_progress")
    end = cancel(batch_id, provider=provider)
    assert (end.value["batch_id"], end.value["provider"], end.value["status"]) == (batch_id, provider, "cancelling")
    assert end.value["outcome"] is None
    assert cancels(gateway) == 1


def test_the_summary_is_complete_although_the_answer_to_a_cancel_is_not(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=4, status="in_progress", metadata={"run": "nightly-7"})
    end = cancel(batch_id)
    assert end.value["created_at"]
    assert end.value["metadata"] == {"run": "nightly-7"}
    retrieved = run_to_its_end(lambda: BatchRetrieveOperator(task_id="retrieve", batch_id=batch_id))
    assert end.value == retrieved.value


def test_each_key_of_the_summary_is_an_xcom() -> None:
    assert BatchCancelOperator(task_id="cancel", batch_id="b1").multiple_outputs


def test_cancelling_twice_is_the_same_as_cancelling_once(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=4, status="in_progress")
    assert cancel(batch_id).value == cancel(batch_id).value
    assert cancels(gateway) == 1


@pytest.mark.parametrize("status", ["cancelling", "canceling", "JOB_STATE_CANCELLING"])
def test_a_batch_that_is_being_cancelled_is_left_alone(status: str, gateway: LocalGateway) -> None:
    end = cancel(gateway.add_batch(rows=4, status=status))
    assert (end.state, end.value["status"], end.value["outcome"]) == ("success", status, None)
    assert cancels(gateway) == 0


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_terminal_batch_is_left_alone(provider: str, gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(provider, rows=4, status="completed")
    end = cancel(batch_id, provider=provider)
    assert (end.state, end.value["outcome"]) == ("success", "succeeded")
    assert cancels(gateway) == 0


@pytest.mark.parametrize(
    ("status", "outcome"), [("failed", "failed"), ("expired", "expired"), ("cancelled", "cancelled")]
)
def test_the_task_succeeds_with_any_outcome(status: str, outcome: str, gateway: LocalGateway) -> None:
    end = cancel(gateway.add_batch(rows=4, status=status))
    assert (end.state, end.value["outcome"]) == ("success", outcome)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_batch_that_ends_before_it_can_be_cancelled_is_not_an_error(
    provider: str, gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = gateway.add_batch(provider, rows=4, status="in_progress")
    just_before_the_cancel(monkeypatch, lambda: gateway.set_batch(batch_id, status="completed"))
    end = cancel(batch_id, provider=provider)
    assert (end.state, end.value["outcome"]) == ("success", "succeeded")
    assert cancels(gateway) == 1


def test_the_refusal_of_another_key_does_not_hide_that_the_batch_has_ended(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = gateway.add_batch(rows=4, status="in_progress")
    just_before_the_cancel(monkeypatch, lambda: gateway.set_batch(batch_id, status="completed"))
    gateway.inject(Fault(status=404, **CANCEL))
    assert cancel(batch_id).value["outcome"] == "succeeded"


def test_a_cancel_call_whose_answer_is_lost_is_repeated(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=4, status="in_progress")
    gateway.inject(Fault(drop=True, applied=True, **CANCEL))
    assert cancel(batch_id).value["status"] == "cancelling"
    assert cancels(gateway) == 2


def test_a_refusal_to_cancel_a_batch_that_is_already_being_cancelled_is_not_an_error(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=4, status="in_progress")
    gateway.inject(Fault(status=409, applied=True, **CANCEL))
    assert cancel(batch_id).value["status"] == "cancelling"


@pytest.mark.parametrize(("status", "kind"), [(409, "BifrostRequestError"), (403, "BifrostAuthError")])
def test_the_refusal_is_raised_if_the_batch_continues_to_run(status: int, kind: str, gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=4, status="in_progress")
    gateway.inject(Fault(status=status, **CANCEL))
    end = cancel(batch_id)
    assert end.kind == kind
    assert f"Cancelling batch '{batch_id}'" in str(end.error)


def test_the_refusal_is_raised_if_the_batch_cannot_be_retrieved_after_it(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = gateway.add_batch(rows=4, status="in_progress")
    gateway.inject(Fault(status=409, **CANCEL))
    just_before_the_cancel(monkeypatch, lambda: gateway.inject(Fault(status=401, method="GET")))
    end = cancel(batch_id)
    assert (end.kind, end.error.status_code) == ("BifrostRequestError", 409)


def test_an_unknown_batch_is_an_error_that_names_it(gateway: LocalGateway) -> None:
    end = cancel("batch_nowhere")
    assert end.kind == "BatchNotFound"
    assert "batch_nowhere" in str(end.error)
    assert cancels(gateway) == 0


def test_the_id_the_provider_and_the_connection_are_templated(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BIFROST_OTHER", gateway.connection_json(token="sk-bf-new"))
    batch_id = gateway.add_batch("anthropic", rows=4, status="in_progress")
    task = BatchCancelOperator(
        task_id="cancel",
        batch_id="{{ params.batch_id }}",
        provider="{{ params.provider }}",
        bifrost_conn_id="bifrost_{{ params.gateway }}",
    )
    task.render_template_fields({"params": {"batch_id": batch_id, "provider": "anthropic", "gateway": "other"}})  # type: ignore[typeddict-item]
    end = run_to_its_end(lambda: task)
    assert (end.value["batch_id"], end.value["provider"]) == (batch_id, "anthropic")
    assert {request.headers["authorization"] for request in gateway.requests} == {"Bearer sk-bf-new"}


def test_several_ids_are_an_error_that_advises_to_map_the_task(gateway: LocalGateway) -> None:
    end = cancel(["b1", "b2"])
    assert end.kind == "ValueError"
    assert "BatchCancelOperator takes one: map the task" in str(end.error)
