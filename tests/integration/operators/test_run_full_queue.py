"""BatchRunOperator when the provider's queue is full."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.airflow import Store
from support.runs import CREATE, FULL, Submissions, outcomes, run

from airflow_bifrost.exceptions import BifrostRateLimited, SubmissionInDoubt
from airflow_bifrost.results import read_rows
from airflow_bifrost.runs import request
from airflow_bifrost.testing import Fault, LocalGateway
from airflow_bifrost.worker.wait import BatchWait


@pytest.fixture
def gateway(quick_gateway: LocalGateway) -> LocalGateway:
    return quick_gateway


@pytest.mark.usefixtures("small_parts")
def test_a_part_that_a_full_queue_refuses_waits_for_its_siblings(
    gateway: LocalGateway, output: str, refuse_create: Callable[[int], None]
) -> None:
    refuse_create(2)
    end = run(output, ["a", "b", "c", "d"], max_row_attempts=1)
    assert end.state == "success", end.error
    assert outcomes(output) == ["succeeded"] * 4
    assert len(gateway.batches) == 2


def test_a_part_that_is_alone_in_a_full_queue_is_halved(
    gateway: LocalGateway, output: str, refuse_create: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request, "MIN_ROWS_TO_HALVE", 4)
    refuse_create(1)
    prompts = [str(number) for number in range(5)]
    end = run(output, prompts, max_row_attempts=1)
    assert end.state == "success", end.error
    assert [row["text"] for row in read_rows(output)] == [f"echo: {prompt}" for prompt in prompts]
    assert sorted(batch["rows"] for batch in gateway.batches) == [2, 3]


def test_a_part_too_small_to_be_halved_is_submitted_by_the_next_attempt(
    gateway: LocalGateway, output: str, refuse_create: Callable[[int], None]
) -> None:
    store = Store()
    refuse_create(1)
    assert isinstance(run(output, ["a"], store=store).error, BifrostRateLimited)
    assert run(output, ["a"], store=store, try_number=2).state == "success"
    assert len(gateway.batches) == 1


def test_a_batch_that_fails_in_a_full_queue_is_submitted_again_and_costs_its_rows_no_attempt(
    gateway: LocalGateway, output: str, submissions: Submissions
) -> None:
    def fail_the_first(batch_ids: list[str]) -> None:
        if len(batch_ids) == 1:
            errors = {"object": "list", "data": [{"code": "token_limit_exceeded", "message": "Enqueued token limit"}]}
            counts = {"total": 0, "completed": 0, "failed": 0}
            gateway.set_batch(batch_ids[0], status="failed", errors=errors, request_counts=counts)

    submissions.after = fail_the_first
    store = Store()
    assert isinstance(run(output, ["a", "b"], store=store, max_row_attempts=1).error, BifrostRateLimited)
    end = run(output, ["a", "b"], store=store, try_number=2, max_row_attempts=1)
    assert end.state == "success", end.error
    assert outcomes(output) == ["succeeded", "succeeded"]
    assert [batch["rows"] for batch in gateway.batches] == [2, 2]


def test_a_refusal_after_an_undetermined_create_call_does_not_halve_the_part(
    gateway: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request, "MIN_ROWS_TO_HALVE", 4)
    gateway.inject(Fault(status=403, call="batch_list", times=None))
    body = {"error": FULL.body["error"], "extra_fields": {"provider": "openai"}}
    gateway.inject(Fault(status=429, body=body, applied=True, **CREATE))
    end = run(output, [str(number) for number in range(5)])
    assert isinstance(end.error, SubmissionInDoubt)
    assert [batch["rows"] for batch in gateway.batches] == [5]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("which", [0, -1])
def test_a_queue_full_of_other_batches_is_tried_once_per_batch_in_progress(
    gateway: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    def one_has_met_it(self: BatchWait, context: Any, task: Any) -> list[dict[str, Any]]:
        summary = {"batch_id": self.batch_ids[which], "status": "failed", "provider": "openai", "outcome": "failed"}
        return [summary | {"request_counts": {}, "errors": [{"code": "token_limit_exceeded", "message": "full"}]}]

    monkeypatch.setattr(BatchWait, "run", one_has_met_it)
    end = run(output, [str(number) for number in range(60)], max_parallel_batches=8, deferrable=False)
    assert isinstance(end.error, BifrostRateLimited)
    assert len(gateway.batches) == 8


def test_a_large_batch_that_fails_in_a_full_queue_is_halved(
    gateway: LocalGateway, output: str, submissions: Submissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request, "MIN_ROWS_TO_HALVE", 4)

    def fail_the_first(batch_ids: list[str]) -> None:
        if len(batch_ids) == 1:
            errors = {"object": "list", "data": [{"code": "token_limit_exceeded", "message": "Enqueued token limit"}]}
            gateway.set_batch(batch_ids[0], status="failed", errors=errors, request_counts={})

    submissions.after = fail_the_first
    store, prompts = Store(), [str(number) for number in range(5)]
    end = run(output, prompts, store=store, max_row_attempts=1)
    assert end.state == "success", end.error
    assert [row["text"] for row in read_rows(output)] == [f"echo: {prompt}" for prompt in prompts]
    assert [batch["rows"] for batch in gateway.batches] == [5, 3, 2]
    Path(output).unlink()  # a clear: the halves are deleted, the input is not
    assert run(output, prompts, store=store, try_number=2, max_row_attempts=1).state == "success"
    assert outcomes(output) == ["succeeded"] * 5
    assert len(gateway.batches) == 3
