"""What a run pays for when its limits, its request or the time change, and what it reads and deletes at the provider."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from pydantic import BaseModel
from support.airflow import Store
from support.providers import small_batches
from support.runs import UNREADABLE, attempt, outcomes, run, sizes, task

from airflow_bifrost._compat import AirflowFailException, AirflowSensorTimeout
from airflow_bifrost.exceptions import BatchFailed, BifrostProtocolError
from airflow_bifrost.results import read_rows
from airflow_bifrost.runs import decision
from airflow_bifrost.runs.record import CANCEL_KEY
from airflow_bifrost.testing import Fault, LocalGateway


@pytest.fixture
def gateway(quick_gateway: LocalGateway) -> LocalGateway:
    return quick_gateway


class Answer(BaseModel):
    good: bool


class OtherAnswer(BaseModel):
    bad: str


GOOD = '!say {"good": true}'


# The same input


def test_a_different_split_is_not_a_different_input_and_nothing_is_paid_for_again(
    gateway: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, rows = Store(), [str(number) for number in range(7)]
    small_batches(monkeypatch, "openai", rows=3)
    gateway.inject(Fault(**UNREADABLE))
    assert run(output, rows, store=store, deferrable=False, max_parallel_batches=2).state == "failed"
    gateway.clear_faults()
    assert sizes(gateway) == [3, 3]
    small_batches(monkeypatch, "openai", rows=2)
    end = run(output, rows, store=store, try_number=2, max_parallel_batches=5)
    assert end.state == "success", end.error
    assert sizes(gateway) == [3, 3, 1]
    assert [row["text"] for row in read_rows(output)] == [f"echo: {row}" for row in rows]


def test_a_part_that_was_not_submitted_is_split_by_the_limits_of_the_next_attempt(
    gateway: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, rows = Store(), [str(number) for number in range(8)]
    small_batches(monkeypatch, "openai", rows=4)
    gateway.inject(Fault(**UNREADABLE))
    run(output, rows, store=store, deferrable=False, max_parallel_batches=1)
    gateway.clear_faults()
    small_batches(monkeypatch, "openai", rows=2)
    end = run(output, rows, store=store, try_number=2)
    assert end.state == "success", end.error
    assert sizes(gateway) == [4, 2, 2]
    assert [row["text"] for row in read_rows(output)] == [f"echo: {row}" for row in rows]


def test_an_attempt_without_rows_cancels_the_batches_of_the_last_one_if_configured(
    gateway: LocalGateway, output: str
) -> None:
    store = Store()
    gateway.inject(Fault(**UNREADABLE))
    run(output, ["a"], store=store, deferrable=False)
    gateway.clear_faults()
    [batch] = gateway.batches
    gateway.set_batch(batch["id"], status="in_progress")
    end = run(output, [], store=store, try_number=2, on_changed_input="cancel")
    assert end.state == "skipped"
    assert gateway.batches[0]["status"] in ("cancelling", "cancelled")


# Sending rows again


def test_a_request_that_cannot_work_is_paid_for_once_plus_a_probe(gateway: LocalGateway, output: str) -> None:
    end = run(output, ["!say no JSON"] * 30, output_type=Answer)
    assert isinstance(end.error, BatchFailed)
    assert sizes(gateway) == [30, 20]
    assert outcomes(output) == ["failed"] * 30


def test_after_a_probe_that_succeeds_the_others_follow_and_no_row_is_sent_too_often(
    gateway: LocalGateway, output: str
) -> None:
    end = run(output, [f"!flaky 503 {number}" for number in range(45)], max_row_attempts=2)
    assert end.state == "success", end.error
    assert sizes(gateway) == [45, 20, 25]
    assert outcomes(output) == ["succeeded"] * 45


# Time


@pytest.fixture
def overdue(gateway: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store of a task whose attempt failed after it submitted a, b and c in two batches. One of them has ended."""
    small_batches(monkeypatch, "openai", rows=2)
    store = Store()
    gateway.inject(Fault(**UNREADABLE))
    assert run(output, ["a", "b", "c"], store=store, deferrable=False).state == "failed"
    gateway.clear_faults()
    gateway.set_batch(gateway.batches[1]["id"], status="in_progress")
    while gateway.batches[0]["status"] != "completed":
        time.sleep(0.02)
    return store


def test_at_the_deadline_the_results_so_far_are_written_and_the_rest_is_cancelled_and_named(
    gateway: LocalGateway, output: str, overdue: Store
) -> None:
    end = run(output, ["a", "b", "c"], store=overdue, try_number=2, timeout=0)
    assert isinstance(end.error, AirflowSensorTimeout), end.error
    assert gateway.batches[1]["id"] in str(end.error)
    assert outcomes(output) == ["succeeded", "succeeded", "cancelled"]
    assert end.xcoms["rows"]["succeeded"] == 2
    assert len(gateway.batches) == 2


def test_what_cannot_be_cancelled_at_the_deadline_is_named_and_left_to_the_next_attempt(
    gateway: LocalGateway, output: str, overdue: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision, "CANCEL_GRACE", 0.0)
    gateway.inject(Fault(call="batch_cancel", status=401, times=None))
    running = gateway.batches[1]["id"]
    end = run(output, ["a", "b", "c"], store=overdue, try_number=2, timeout=0)
    assert isinstance(end.error, AirflowSensorTimeout), end.error
    assert f"could not be cancelled, and may keep running and be billed: {running}" in str(end.error)
    assert "(cancelled" not in str(end.error)
    assert outcomes(output) == ["succeeded", "succeeded", "cancelled"]
    assert "was cancelled" not in Path(output).read_text()
    assert overdue.get(CANCEL_KEY) == [running]
    gateway.clear_faults()
    gateway.set_batch(running, status=None)
    end = attempt(lambda _: task(output, ["a", "b", "c"]), overdue, try_number=3, max_tries=1)
    assert end.state == "success", end.error
    assert overdue.get(CANCEL_KEY) == []
    assert outcomes(output) == ["succeeded"] * 3


def test_clearing_the_task_after_its_deadline_sends_the_cancelled_rows_again(
    gateway: LocalGateway, output: str, overdue: Store
) -> None:
    run(output, ["a", "b", "c"], store=overdue, try_number=2, timeout=0)
    end = attempt(lambda _: task(output, ["a", "b", "c"]), overdue, try_number=3, max_tries=1)
    assert end.state == "success", end.error
    assert outcomes(output) == ["succeeded"] * 3
    assert sizes(gateway) == [2, 1, 1]


def test_rows_are_not_sent_again_if_run_timeout_leaves_too_little_time(gateway: LocalGateway, output: str) -> None:
    end = run(output, ["fine", "!flaky 503"], timeout=3600, run_timeout=3600)
    assert end.state == "success", end.error
    assert sizes(gateway) == [2]
    assert outcomes(output) == ["succeeded", "failed"]


# A changed request


@pytest.mark.usefixtures("deferring")
def test_a_run_whose_request_changed_while_deferred_writes_its_results_and_sends_nothing_more(
    gateway: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_batches(monkeypatch, "openai", rows=2)
    rows = [GOOD, "!say no JSON", GOOD]
    make = lambda number: task(  # noqa: E731
        output, rows, output_type=Answer if number == 0 else OtherAnswer, max_parallel_batches=1
    )
    end = attempt(make, Store())
    assert isinstance(end.error, BatchFailed)
    assert "(output_type" in str(end.error)
    assert sizes(gateway) == [2]
    written = list(read_rows(output))
    assert [row["outcome"] for row in written] == ["succeeded", "failed", "cancelled"]
    assert written[0]["output"] == {"good": True}
    assert written[1]["error"]["code"] == "invalid_output"
    assert written[2]["error"]["code"] == "not_sent"


@pytest.mark.usefixtures("deferring")
def test_a_run_whose_request_changed_continues_with_the_old_one_if_configured(
    gateway: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_batches(monkeypatch, "openai", rows=2)
    changed = {"output_type": OtherAnswer, "endpoint": "/v1/responses", "model": "echo-2"}
    make = lambda number: task(  # noqa: E731
        output,
        [GOOD] * 3,
        **{"output_type": Answer} | (changed if number else {}),
        max_parallel_batches=1,
        on_changed_request="continue",
    )
    end = attempt(make, Store())
    assert end.state == "success", end.error
    assert {batch["endpoint"] for batch in gateway.batches} == {"/v1/chat/completions"}
    assert [row["output"] for row in read_rows(output)] == [{"good": True}] * 3


def test_a_retry_with_another_request_does_not_pay_again_and_a_clear_does(gateway: LocalGateway, output: str) -> None:
    store = Store()
    gateway.inject(Fault(**UNREADABLE))
    run(output, ["a"], store=store, deferrable=False)
    gateway.clear_faults()
    changed = lambda _: task(output, ["a"], request_params={"max_tokens": 5})  # noqa: E731
    end = attempt(changed, store, try_number=2)
    assert isinstance(end.error, AirflowFailException)
    assert outcomes(output) == ["succeeded"]
    assert sizes(gateway) == [1]
    assert attempt(changed, store, try_number=3, max_tries=2).state == "success"
    assert sizes(gateway) == [1, 1]


@pytest.mark.usefixtures("deferring")
def test_a_complete_output_is_reused_when_the_dag_file_is_changed_back(gateway: LocalGateway, output: str) -> None:
    store = Store()
    end = attempt(lambda number: task(output, ["a"], model="echo-2" if number else "echo-1"), store)
    assert isinstance(end.error, BatchFailed)
    assert attempt(lambda _: task(output, ["a"]), store, try_number=2, max_tries=1).state == "success"
    assert sizes(gateway) == [1]


# Results


def test_unreadable_results_are_a_transient_error_and_nothing_is_written(gateway: LocalGateway, output: str) -> None:
    store = Store()
    gateway.inject(Fault(call="file_content", status=200, body="<html>", times=None))
    end = run(output, ["a", "b"], store=store)
    assert isinstance(end.error, BifrostProtocolError)
    assert not isinstance(end.error, AirflowFailException)
    assert not Path(output).exists()
    gateway.clear_faults()
    assert run(output, ["a", "b"], store=store, try_number=2).state == "success"
    assert outcomes(output) == ["succeeded", "succeeded"]
    assert len(gateway.batches) == 1


def test_the_results_of_another_batch_are_a_transient_error_and_nothing_is_written(
    gateway: LocalGateway, output: str
) -> None:
    answer = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
    others = [{"custom_id": name, "response": {"status_code": 200, "body": answer}} for name in ("x", "y")]
    gateway.inject(Fault(call="file_content", status=200, body="\n".join(map(json.dumps, others)), times=None))
    end = run(output, ["a", "b"])
    assert isinstance(end.error, BifrostProtocolError), end.error
    assert "rows that are not in the batch" in str(end.error)
    assert not Path(output).exists()


@pytest.mark.parametrize(("cleanup", "left"), [("never", 2), ("input", 1), ("all", 0)])
def test_files_are_deleted_at_the_provider_once_the_output_is_written(
    gateway: LocalGateway, output: str, cleanup: str, left: int
) -> None:
    end = run(output, ["a"], cleanup=cleanup)
    assert end.state == "success", end.error
    [batch] = gateway.batches
    deleted = [request.path.rpartition("/")[2] for request in gateway.requests if request.method == "DELETE"]
    files = [batch["input_file_id"], end.value["batches"][0]["output_file_id"]]
    assert [name for name in files if name not in deleted] == files[2 - left :]


def deleted_in(gateway: LocalGateway) -> set[str]:
    return {request.path.rpartition("/")[2] for request in gateway.requests if request.method == "DELETE"}


def test_the_input_of_a_batch_that_has_ended_is_deleted_even_if_the_run_was_stopped(
    gateway: LocalGateway, output: str, overdue: Store
) -> None:
    inputs = [batch["input_file_id"] for batch in gateway.batches]
    end = run(output, ["a", "b", "c"], store=overdue, try_number=2, timeout=0)
    assert isinstance(end.error, AirflowSensorTimeout), end.error
    assert deleted_in(gateway) == set(inputs)
    asked = len(deleted_in(gateway))
    end = attempt(lambda _: task(output, ["a", "b", "c"]), overdue, try_number=3, max_tries=1)
    assert end.state == "success", end.error
    # Of the third batch.
    assert len([request for request in gateway.requests if request.method == "DELETE"]) == asked + 1


@pytest.mark.parametrize("ended", [True, False])
def test_the_input_of_a_superseded_batch_is_deleted_only_after_the_batch_has_ended(
    gateway: LocalGateway, output: str, ended: bool
) -> None:
    store = Store()
    gateway.inject(Fault(**UNREADABLE))
    assert run(output, ["old"], store=store, deferrable=False).state == "failed"
    gateway.clear_faults()
    [old] = gateway.batches
    gateway.set_batch(old["id"], status="completed" if ended else "in_progress")
    assert run(output, ["new"], store=store, try_number=2).state == "success"
    assert (old["input_file_id"] in deleted_in(gateway)) == ended
    if not ended:
        gateway.set_batch(old["id"], status="completed")
        Path(output).unlink()
        assert run(output, ["new"], store=store, try_number=3).state == "success"
        assert old["input_file_id"] in deleted_in(gateway)


def test_no_file_is_deleted_before_the_output_is_written(gateway: LocalGateway, output: str) -> None:
    gateway.inject(Fault(call="file_content", status=400, times=None))
    run(output, ["a"], cleanup="all")
    assert not [request for request in gateway.requests if request.method == "DELETE"]
