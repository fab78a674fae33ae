"""A user names the batch of each part of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.airflow import Store
from support.providers import small_batches
from support.runs import run

from airflow_bifrost.exceptions import SubmissionInDoubt
from airflow_bifrost.results import read_rows
from airflow_bifrost.testing import LocalGateway

ROWS = ["a", "b", "c", "d", "e"]
ANTHROPIC: dict[str, Any] = {"provider": "anthropic", "request_params": {"max_tokens": 5}}


class Killed(BaseException):
    """The worker got SIGKILL."""


class KillingStore(Store):
    """Kills the worker after a part's batch was created, before it is recorded."""

    parts = [2, 3]

    def set(self, key: str, value: Any) -> None:
        states = {record["state"] for record in value.values()} if key.startswith("bifrost_submission_") else set()
        if "submitted" in states and self.parts and key.endswith(f"_{self.parts[0]}"):
            self.parts = self.parts[1:]
            raise Killed
        super().set(key, value)


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(tmp_path / "out.jsonl")


@pytest.fixture
def unknown_part(quick_gateway: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store of a run whose second part may have been submitted."""
    small_batches(monkeypatch, "anthropic", rows=2)
    store = KillingStore()
    with pytest.raises(Killed):
        run(output, ROWS, store=store, **ANTHROPIC)
    assert len(quick_gateway.batches) == 2
    assert isinstance(run(output, ROWS, store=store, try_number=2, **ANTHROPIC).error, SubmissionInDoubt)
    return store


def test_a_run_continues_with_the_batch_that_the_user_names_for_a_part(
    quick_gateway: LocalGateway, unknown_part: Store, output: str
) -> None:
    """The first part is known, so an ID for it would not count, and the third is submitted as usual."""
    unknown_part.parts = []  # type: ignore[attr-defined]
    first, second = (batch["id"] for batch in quick_gateway.batches)
    adopt = {"adopt": {"1": "batch_unknown", "2": second}}  # JSON has only text as keys
    end = run(output, ROWS, store=unknown_part, try_number=3, on_unknown=adopt, **ANTHROPIC)
    assert end.state == "success", end.error
    assert [batch["batch_id"] for batch in end.value["batches"]][:2] == [first, second]
    assert [row["text"] for row in read_rows(output)] == [f"echo: {row}" for row in ROWS]
    assert [batch["rows"] for batch in quick_gateway.batches] == [2, 2, 1]


def test_a_batch_of_another_part_is_not_adopted(quick_gateway: LocalGateway, unknown_part: Store, output: str) -> None:
    first = quick_gateway.batches[0]["id"]
    adopt = {"adopt": {2: first}}
    error = run(output, ROWS, store=unknown_part, try_number=3, on_unknown=adopt, **ANTHROPIC).error
    assert isinstance(error, SubmissionInDoubt)
    assert "it belongs to another part" in str(error)
    assert len(quick_gateway.batches) == 2


def test_an_id_for_one_part_does_not_count_for_another(
    quick_gateway: LocalGateway, unknown_part: Store, output: str
) -> None:
    second = quick_gateway.batches[1]["id"]
    adopt = {"adopt": {3: second}}
    error = run(output, ROWS, store=unknown_part, try_number=3, on_unknown=adopt, **ANTHROPIC).error
    assert isinstance(error, SubmissionInDoubt)
    assert "part 2" in str(error)


@pytest.mark.parametrize("adopt", [{"two": "b"}, {2: ""}, {}, {0: "b"}, ["b"], ""], ids=str)
def test_an_answer_that_cannot_be_read_is_an_error_when_the_dag_is_parsed(output: str, adopt: Any) -> None:
    with pytest.raises(ValueError, match="on_unknown"):
        run(output, ROWS, on_unknown={"adopt": adopt})


def test_with_several_parts_an_id_without_a_part_does_not_count(
    quick_gateway: LocalGateway, unknown_part: Store, output: str
) -> None:
    second = quick_gateway.batches[1]["id"]
    end = run(output, ROWS, store=unknown_part, try_number=3, on_unknown={"adopt": second}, **ANTHROPIC)
    assert isinstance(end.error, SubmissionInDoubt)
    assert "on_unknown={'adopt': {2: '<its ID>'}}" in str(end.error)
