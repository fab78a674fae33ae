"""BatchRunOperator when its folder, input or output vanishes, moves or is replaced: nothing is paid for again."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.airflow import FakeTI, Store, TaskOutput, run_to_its_end
from support.providers import small_batches
from support.runs import UNREADABLE, attempt, outcomes, run, sizes, task

from airflow_bifrost import BatchRunOperator
from airflow_bifrost.decorators.batch import _BatchDecoratedOperator
from airflow_bifrost.results import read_rows
from airflow_bifrost.testing import Fault, LocalGateway


@pytest.fixture
def gateway(quick_gateway: LocalGateway) -> LocalGateway:
    return quick_gateway


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
        return task(output, TaskOutput(rows), **arguments)

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
