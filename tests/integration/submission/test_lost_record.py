"""A task whose record is lost finds its batches in the provider's list, however it splits its rows now."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.airflow import Store
from support.providers import small_batches
from support.runs import run

from airflow_bifrost.exceptions import SubmissionInDoubt
from airflow_bifrost.testing import Fault, LocalGateway

ROWS = [str(number) for number in range(5)]
UNREADABLE = Fault(status=400, method="GET", path_contains="/v1/batches/", times=None)


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(tmp_path / "out.jsonl")


@pytest.fixture
def submitted(quick_gateway: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch) -> LocalGateway:
    """An attempt has submitted batches of three and two rows, and failed."""
    small_batches(monkeypatch, "openai", rows=3)
    quick_gateway.inject(UNREADABLE)
    assert run(output, ROWS, store=Store(), deferrable=False).state == "failed"
    quick_gateway.clear_faults()
    assert sizes(quick_gateway) == [3, 2]
    return quick_gateway


def sizes(gateway: LocalGateway) -> list[int]:
    return [batch["rows"] for batch in gateway.batches]


def test_batches_of_another_split_of_the_same_rows_are_not_paid_for_again(
    submitted: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_batches(monkeypatch, "openai", rows=2)
    error = run(output, ROWS, store=Store(), try_number=2, on_changed_input="cancel").error
    assert isinstance(error, SubmissionInDoubt)
    assert all(batch["id"] in str(error) for batch in submitted.batches)
    assert "max_request_body_size_mb" in str(error)
    assert sizes(submitted) == [3, 2]
    assert not {"cancelling", "cancelled"} & {batch["status"] for batch in submitted.batches}


def test_with_the_former_limits_the_run_continues_with_its_batches(submitted: LocalGateway, output: str) -> None:
    end = run(output, ROWS, store=Store(), try_number=2)
    assert end.state == "success", end.error
    assert sizes(submitted) == [3, 2]


def test_other_rows_are_submitted_although_the_record_is_lost(submitted: LocalGateway, output: str) -> None:
    end = run(output, ROWS[1:], store=Store(), try_number=2)
    assert end.state == "success", end.error
    assert sizes(submitted) == [3, 2, 3, 1]


def test_batches_of_a_later_round_are_not_another_split(
    quick_gateway: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_batches(monkeypatch, "openai", rows=3)
    rows = [*ROWS, "!flaky 503"]
    assert run(output, rows, store=Store()).state == "success"
    assert sizes(quick_gateway) == [3, 3, 1]
    Path(output).unlink()
    end = run(output, rows, store=Store(), try_number=2)
    assert end.state == "success", end.error
    assert sizes(quick_gateway) == [3, 3, 1]
