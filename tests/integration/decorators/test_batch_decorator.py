"""``@task.bifrost_batch`` over real HTTP. The example DAGs show that Airflow finds the decorator by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.airflow import End, FakeTI, Store, run_to_its_end
from support.providers import small_batches
from support.runs import cancel

from airflow_bifrost.decorators.batch import _BatchDecoratedOperator, bifrost_batch_task
from airflow_bifrost.exceptions import BatchInputError
from airflow_bifrost.results import read_rows
from airflow_bifrost.runs.record import STATE_KEY
from airflow_bifrost.testing import Fault, LocalGateway


@pytest.fixture
def gateway(quick_gateway: LocalGateway) -> LocalGateway:
    return quick_gateway


def run(
    function: Callable[..., Any],
    output: Path,
    store: Store | None = None,
    *,
    try_number: int = 1,
    asked: dict[str, Any] | None = None,
    **kwargs: Any,
) -> End:
    return run_to_its_end(
        lambda: _BatchDecoratedOperator(
            task_id="ask",
            python_callable=function,
            output_path=str(output),
            model="echo-1",
            poll_interval=0.05,
            deferrable=kwargs.pop("deferrable", True),
            op_kwargs=dict(kwargs),
            **(asked or {}),
        ),
        ti=FakeTI(task_id="ask", try_number=try_number),
        store=store,
    )


def test_a_function_that_returns_a_set_is_refused_before_anything_is_sent(
    gateway: LocalGateway, tmp_path: Path
) -> None:
    end = run(lambda: {"one", "two", "three"}, tmp_path / "out.jsonl")
    assert end.state == "failed"
    assert isinstance(end.error, BatchInputError)
    assert "order differs from process to process" in str(end.error)
    assert not gateway.batches


def test_rows_that_the_function_yields_become_result_rows(gateway: LocalGateway, tmp_path: Path) -> None:
    def ask(words: list[str]) -> Iterator[str]:
        for word in words:
            yield f"Is {word} a fruit?"

    end = run(ask, tmp_path / "out.jsonl", words=["apple", "chair"])
    assert end.state == "success", end.error
    assert [row["text"] for row in read_rows(tmp_path / "out.jsonl")] == [
        "echo: Is apple a fruit?",
        "echo: Is chair a fruit?",
    ]


def test_the_function_is_not_called_again_after_its_rows_are_submitted(gateway: LocalGateway, tmp_path: Path) -> None:
    calls = []

    def ask() -> list[str]:
        calls.append(1)
        return [f"call {len(calls)}"]

    store = Store()
    gateway.inject(Fault(status=400, method="GET", path_contains="/v1/batches/", times=1))
    assert run(ask, tmp_path / "out.jsonl", store, deferrable=False).state == "failed"
    assert run(ask, tmp_path / "out.jsonl", store, try_number=2, deferrable=False).state == "success"
    assert [row["text"] for row in read_rows(tmp_path / "out.jsonl")] == ["echo: call 1"]
    assert len(calls) == len(gateway.batches) == 1


def test_a_clear_after_the_end_does_not_call_the_function_either(gateway: LocalGateway, tmp_path: Path) -> None:
    calls = []

    def ask() -> list[str]:
        calls.append(1)
        return [f"call {len(calls)}"]

    store = Store()
    first = run(ask, tmp_path / "out.jsonl", store)
    assert run(ask, tmp_path / "out.jsonl", store, try_number=2).value == first.value
    assert len(calls) == len(gateway.batches) == 1


def test_the_function_is_called_again_after_an_outcome_that_is_not_accepted(
    gateway: LocalGateway, tmp_path: Path
) -> None:
    given = ["!fail 400"]
    store = Store()
    assert run(lambda: given, tmp_path / "out.jsonl", store).kind == "BatchFailed"
    assert run(lambda: given, tmp_path / "out.jsonl", store, try_number=2).kind == "BatchFailed"
    assert len(gateway.batches) == 1
    given = ["corrected"]
    assert run(lambda: given, tmp_path / "out.jsonl", store, try_number=3).state == "success"
    assert [row["text"] for row in read_rows(tmp_path / "out.jsonl")] == ["echo: corrected"]
    assert len(gateway.batches) == 2


def test_a_clear_after_a_success_with_cancelled_rows_sends_them_again_without_calling_the_function(
    gateway: LocalGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_batches(monkeypatch, "openai")
    calls = []

    def ask() -> list[str]:
        calls.append(1)
        return [f"call {len(calls)}, row {number}" for number in range(6)]

    class CancelsSecond(Store):
        def set(self, key: str, value: Any) -> None:
            super().set(key, value)
            for batch in gateway.batches[1:2]:
                cancel(gateway, batch["id"])

    first = CancelsSecond()
    assert run(ask, tmp_path / "out.jsonl", first, deferrable=False).value["rows"]["cancelled"] == 3
    assert run(ask, tmp_path / "out.jsonl", Store(first), try_number=2, deferrable=False).state == "success"
    assert [row["text"] for row in read_rows(tmp_path / "out.jsonl")] == [f"echo: call 1, row {n}" for n in range(6)]
    assert [batch["rows"] for batch in gateway.batches] == [3, 3, 3]


def test_the_function_is_not_called_again_while_cancelled_rows_are_being_sent_again(
    gateway: LocalGateway, tmp_path: Path
) -> None:
    calls = []

    def ask() -> list[str]:
        calls.append(1)
        return ["one", "two"] if len(calls) < 3 else ["others"]

    class Cancelling(Store):
        def set(self, key: str, value: Any) -> None:
            super().set(key, value)
            for batch in gateway.batches:
                cancel(gateway, batch["id"])

    class Dies(Store):
        def set(self, key: str, value: Any) -> None:
            super().set(key, value)
            if key == STATE_KEY and [part["batch_id"] is not None for part in value["parts"]] == [True, True]:
                raise ValueError("killed")

    cancelled = Cancelling()
    assert run(ask, tmp_path / "out.jsonl", cancelled, deferrable=False).kind == "BatchFailed"
    dying = Dies(cancelled)
    assert run(ask, tmp_path / "out.jsonl", dying, try_number=2, deferrable=False).error.args == ("killed",)
    called = len(calls)
    assert run(ask, tmp_path / "out.jsonl", Store(dying), try_number=3, deferrable=False).state == "success"
    assert len(calls) == called
    assert len(gateway.batches) == 2


@pytest.mark.parametrize("changed", [{"system_prompt": "in German"}, {"request_params": {"max_tokens": 5}}])
def test_the_function_is_called_again_if_the_request_has_changed(
    gateway: LocalGateway, tmp_path: Path, changed: dict[str, Any]
) -> None:
    store = Store()
    for number, asked in enumerate(({}, changed), start=1):
        assert run(lambda: ["a"], tmp_path / "out.jsonl", store, try_number=number, asked=asked).state == "success"
    assert len(gateway.batches) == 2


def test_each_key_of_the_manifest_is_an_xcom_of_the_decorated_task_too() -> None:
    assert bifrost_batch_task(list, output_path="out").multiple_outputs is True  # type: ignore[attr-defined]


def test_rows_are_not_an_argument_of_the_decorator(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the decorated function returns the rows"):
        _BatchDecoratedOperator(task_id="a", python_callable=list, output_path="out", rows=["a"])
