"""What a run pays for and writes when its environment changes: limits, requests, folders, clocks, users."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import XComArg
from pydantic import BaseModel
from support.airflow import End, FakeTI, Store, run_to_its_end
from support.providers import small_batches
from support.runs import outcomes, run

from airflow_bifrost import BatchRunOperator
from airflow_bifrost._compat import AirflowFailException, AirflowSensorTimeout
from airflow_bifrost.decorators.batch import _BatchDecoratedOperator
from airflow_bifrost.exceptions import BatchFailed, BifrostProtocolError
from airflow_bifrost.results import read_rows
from airflow_bifrost.runs import state as state_module
from airflow_bifrost.runs.record import CANCEL_KEY, STATE_KEY
from airflow_bifrost.testing import Fault, LocalGateway, ProviderBehavior
from airflow_bifrost.triggers import uncancelled
from airflow_bifrost.worker.kill import TaskStopped

# Ends an attempt that waits.
UNREADABLE = {
    "status": 400,
    "method": "GET",
    "path_contains": "/v1/batches/",
    "times": None,
}


@pytest.fixture
def gateway(quick_gateway: LocalGateway) -> LocalGateway:
    return quick_gateway


class Answer(BaseModel):
    good: bool


class OtherAnswer(BaseModel):
    bad: str


GOOD = '!say {"good": true}'


def attempt(make: Callable[[int], BatchRunOperator], store: Store, *, try_number: int = 1, max_tries: int = 0) -> End:
    """One attempt of a task whose DAG file is read again after each deferral.

    :param make: makes the task, of the number of deferrals so far.
    """
    made: list[BatchRunOperator] = []

    def make_task() -> BatchRunOperator:
        made.append(make(len(made)))
        return made[-1]

    ti = FakeTI(task_id="run", try_number=try_number, max_tries=max_tries)
    return run_to_its_end(make_task, ti=ti, store=store)


def task(output: str, rows: Any, **arguments: Any) -> BatchRunOperator:
    return BatchRunOperator(
        task_id="run", output_path=output, rows=rows, **{"model": "echo-1", "poll_interval": 0.05} | arguments
    )


class FromXCom(XComArg):
    """The output of another task."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def iter_references(self) -> Any:
        return iter(())

    def resolve(self, context: Any) -> Any:
        return self.value


def sizes(gateway: LocalGateway) -> list[int]:
    return [batch["rows"] for batch in gateway.batches]


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
    monkeypatch.setattr(state_module, "CANCEL_GRACE", 0.0)
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


# Folders and outputs that vanish or move


@pytest.mark.usefixtures("deferring")
@pytest.mark.parametrize("ids", ["automatic", "own"])
def test_paid_results_are_written_even_if_the_folder_is_lost(
    gateway: LocalGateway, output: str, tmp_path: Path, ids: str
) -> None:
    rows: list[Any] = ["a", "b", "!fail 400"]
    if ids == "own":
        message = [{"role": "user", "content": "hi"}]
        rows = [{"custom_id": name, "body": {"model": "echo-1", "messages": message}} for name in ("x", "y", "z")]

    def make(number: int) -> BatchRunOperator:
        if number:
            for folder in tmp_path.glob("*-parts"):
                shutil.rmtree(folder)
        return task(output, rows, request_params={"max_tokens": 9})

    end = attempt(make, Store())
    assert end.state == "success", end.error
    assert [row["custom_id"] for row in read_rows(output)] == (
        ["x", "y", "z"] if ids == "own" else [f"row-{number:09d}" for number in (1, 2, 3)]
    )
    assert len(gateway.batches) == 1


def test_a_decorated_function_is_not_called_again_even_if_the_folder_is_lost(
    gateway: LocalGateway, tmp_path: Path
) -> None:
    calls: list[int] = []

    def ask() -> list[str]:
        calls.append(1)
        return [f"call {len(calls)}", "!flaky 503"]

    def make(number: int) -> Any:
        for folder in tmp_path.glob("*-parts") if number else ():
            shutil.rmtree(folder)
        return _BatchDecoratedOperator(
            task_id="run",
            python_callable=ask,
            output_path=str(tmp_path / "out.jsonl"),
            model="echo-1",
            poll_interval=0.05,
        )

    end = attempt(make, Store())
    assert end.state == "success", end.error
    assert calls == [1]
    assert [row["outcome"] for row in read_rows(tmp_path / "out.jsonl")] == ["succeeded", "failed"]
    assert len(gateway.batches) == 1


def test_unsent_request_lines_are_rebuilt_if_the_folder_is_lost(
    gateway: LocalGateway, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_batches(monkeypatch, "openai", rows=2)

    def make(number: int) -> BatchRunOperator:
        for folder in tmp_path.glob("*-parts") if number else ():
            shutil.rmtree(folder)
        return task(output, ["a", "b", "!flaky 503", "d", "e"], max_parallel_batches=1)

    end = attempt(make, Store())
    assert end.state == "success", end.error
    assert outcomes(output) == ["succeeded"] * 5
    assert sizes(gateway) == [2, 2, 1, 1]


@pytest.mark.parametrize("source", ["file", "XCom"])
@pytest.mark.parametrize("folder_is_lost", [False, True])
def test_an_input_that_has_vanished_does_not_keep_paid_results_from_being_written(
    gateway: LocalGateway, output: str, tmp_path: Path, source: str, folder_is_lost: bool
) -> None:
    store, path = Store(), tmp_path / "in.jsonl"
    path.write_text('"a"\n"b"\n')

    def make(rows: list[str] | None, **arguments: Any) -> BatchRunOperator:
        if source == "file":
            return task(output, None, input_path=str(path), **arguments)
        return task(output, FromXCom(rows), **arguments)

    gateway.inject(Fault(**UNREADABLE))
    assert attempt(lambda _: make(["a", "b"], deferrable=False), store).state == "failed"
    gateway.clear_faults()
    path.unlink()
    for folder in tmp_path.glob("*-parts") if folder_is_lost else ():
        shutil.rmtree(folder)
    end = attempt(lambda _: make(None), store, try_number=2)
    assert end.state == "success", end.error
    assert [row["text"] for row in read_rows(output)] == ["echo: a", "echo: b"]
    assert sizes(gateway) == [2]


def test_a_missing_input_file_is_an_error_if_nothing_was_submitted(
    gateway: LocalGateway, output: str, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.jsonl"):
        attempt(lambda _: task(output, None, input_path=str(tmp_path / "nothing.jsonl")), Store())
    assert sizes(gateway) == []


@pytest.mark.usefixtures("deferring")
def test_a_clear_sends_the_lost_rows_of_a_decorated_function(
    gateway: LocalGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_batches(monkeypatch, "openai", rows=2)
    store, output = Store(), str(tmp_path / "out.jsonl")

    def make(number: int) -> Any:
        for folder in tmp_path.glob("*-parts") if number else ():
            shutil.rmtree(folder)
        return _BatchDecoratedOperator(
            task_id="run",
            python_callable=lambda: ["a", "b", "c"],
            output_path=output,
            model="echo-1",
            poll_interval=0.05,
            max_parallel_batches=1,
        )

    assert attempt(make, store).value["rows"]["missing"] == 1
    end = attempt(make, store, try_number=2, max_tries=1)
    assert end.state == "success", end.error
    assert [row["text"] for row in read_rows(output)] == ["echo: a", "echo: b", "echo: c"]
    assert sizes(gateway) == [2, 1]


@pytest.mark.usefixtures("deferring")
@pytest.mark.parametrize("ids", ["automatic", "own"])
def test_rows_whose_request_lines_are_lost_are_counted_as_missing(
    gateway: LocalGateway, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: str
) -> None:
    small_batches(monkeypatch, "openai", rows=2)
    body = {"model": "echo-1", "messages": [{"role": "user", "content": "hi"}]}
    rows: list[Any] = [{"custom_id": name, "body": body} for name in "abcde"] if ids == "own" else list("abcde")

    def make(number: int) -> BatchRunOperator:
        for folder in tmp_path.glob("*-parts") if number else ():
            shutil.rmtree(folder)
        return task(output, rows if number == 0 else ["other"], max_parallel_batches=1)

    end = attempt(make, Store())
    assert end.state == "success", end.error
    counts = end.value["rows"]
    assert (counts["total"], counts["succeeded"], counts["missing"]) == (5, 2, 3)
    assert sizes(gateway) == [2]


@pytest.mark.parametrize("remembering", [True, False])
def test_an_output_path_that_renders_differently_after_a_deferral_changes_nothing(
    gateway: LocalGateway, tmp_path: Path, remembering: bool
) -> None:
    made: list[str] = []

    def make() -> BatchRunOperator:
        made.append(str(tmp_path / f"out-{len(made)}.jsonl"))
        return task(made[-1], ["a", "!flaky 503"])

    end = run_to_its_end(make, ti=FakeTI(task_id="run"), remembering=remembering)
    assert end.state == "success", end.error
    assert len(made) > 1  # more often, unless the machine is busy
    assert end.value["output_path"] == made[0]
    assert outcomes(made[0]) == ["succeeded", "succeeded"]


def test_an_output_that_was_replaced_by_one_of_the_same_size_is_written_again(
    gateway: LocalGateway, output: str
) -> None:
    store = Store()
    run(output, ["Monday"], store=store)
    own = Path(output).read_bytes()
    Path(output).write_bytes(own.replace(b"Monday", b"Sunday"))
    assert run(output, ["Monday"], store=store, try_number=2).state == "success"
    assert Path(output).read_bytes() == own
    assert len(gateway.batches) == 1


def test_a_clear_after_success_needs_nothing_of_the_provider(gateway: LocalGateway, output: str) -> None:
    store = Store()
    first = run(output, ["a"], store=store)
    gateway.inject(Fault(status=404, path_contains="/v1/", times=None))
    assert run(output, ["a"], store=store, try_number=2).value == first.value


def test_a_clear_after_success_finds_a_receipt_if_the_state_is_lost(gateway: LocalGateway, output: str) -> None:
    first = run(output, ["a"], store=Store())
    asked = len(gateway.requests)
    assert run(output, ["a"], store=Store(), try_number=2).value == first.value
    assert len(gateway.requests) == asked


def test_the_task_warns_about_a_local_output_with_several_workers_before_it_sends_anything(
    gateway: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    run(output, ["a"])
    assert "is on the disk of this worker" in caplog.text


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


# A user ends the task


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
