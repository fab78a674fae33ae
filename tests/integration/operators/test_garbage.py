"""One malformed answer does not fail an attempt if the gateway has answered correctly before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.airflow import FakeTI, run_to_its_end

from airflow_bifrost import BatchDownloadOperator, BatchRunOperator
from airflow_bifrost.results import read_rows
from airflow_bifrost.testing import Fault, LocalGateway

GARBAGE = [Fault(garbage=True, call="batch_retrieve"), Fault(status=200, body="<html>", call="batch_retrieve")]


@pytest.fixture
def gateway(quick_gateway: LocalGateway) -> LocalGateway:
    return quick_gateway


@pytest.mark.parametrize("garbage", GARBAGE, ids=["bytes", "web page"])
def test_a_download_retries_an_unreadable_batch(garbage: Fault, gateway: LocalGateway, tmp_path: Path) -> None:
    batch_id = gateway.add_batch(rows=3, status="completed")
    gateway.inject(garbage)
    output = str(tmp_path / "out.jsonl")
    end = run_to_its_end(lambda: BatchDownloadOperator(task_id="get", batch_id=batch_id, output_path=output))
    assert end.state == "success", end.error
    assert len(list(read_rows(output))) == 3


@pytest.mark.parametrize("garbage", GARBAGE, ids=["bytes", "web page"])
@pytest.mark.parametrize("deferrable", [True, False])
def test_a_run_retries_an_unreadable_batch_when_it_reads_the_results(
    deferrable: bool, garbage: Fault, gateway: LocalGateway, tmp_path: Path
) -> None:
    class SpoilsTheNextAnswer(FakeTI):
        """The last progress of a wait is pushed after its last poll, and before the results are read."""

        def xcom_push(self, key: str, value: Any) -> None:
            super().xcom_push(key, value)
            if key == "progress" and value["percent"] == 100 and not spoiled:
                spoiled.append(gateway.inject(garbage))

    spoiled: list[None] = []
    output = str(tmp_path / "out.jsonl")
    end = run_to_its_end(
        lambda: BatchRunOperator(
            task_id="run",
            rows=["a", "b"],
            output_path=output,
            model="echo-1",
            poll_interval=0.05,
            deferrable=deferrable,
        ),
        ti=SpoilsTheNextAnswer(task_id="run"),
    )
    assert spoiled
    assert end.state == "success", end.error
    assert [row["outcome"] for row in read_rows(output)] == ["succeeded", "succeeded"]
