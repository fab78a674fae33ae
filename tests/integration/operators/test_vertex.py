"""Vertex from the first row to the last, on a gateway that has it: its files are in Google Cloud Storage."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from support.airflow import run_to_its_end
from support.downloads import download, ended_batch
from support.runs import run
from support.stores import bucket_in_memory

from airflow_bifrost import BatchRunOperator, BatchSensor, BatchSubmitOperator, BifrostHook
from airflow_bifrost.exceptions import ResultsUnavailable
from airflow_bifrost.results import read_rows
from airflow_bifrost.testing import LocalGateway, ProviderBehavior

VERTEX: dict[str, Any] = {
    "provider": "vertex",
    "model": "gemini-2.5-flash",
    "extra_body": {"output_folder": {"url": "gs://bucket/out"}},
    "extra_form": {"storage_config[gcs][bucket]": "bucket"},
}


@pytest.fixture
def gateway(
    request: pytest.FixtureRequest, quick_gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalGateway]:
    version = request.node.callspec.params.get("version", "1.5") if hasattr(request.node, "callspec") else "1.5"
    with LocalGateway(batch_seconds=0.1, version=version) as running:
        monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", running.connection_json(token="sk-bf-good"))
        yield running


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(tmp_path / "out.jsonl")


@pytest.mark.parametrize("version", ["1.5", "2"])
def test_each_row_has_its_result_and_a_transient_failure_is_sent_again(
    gateway: LocalGateway, output: str, version: str
) -> None:
    end = run(output, ["a", "!flaky 503 b", "!fail 400 c", "!flaky 429 d"], accept=["partial"], **VERTEX)
    assert end.state == "success", end.error
    rows = list(read_rows(output))
    assert [row["outcome"] for row in rows] == ["succeeded", "succeeded", "failed", "succeeded"]
    assert (rows[0]["text"], rows[2]["error"]["code"]) == ("echo: a", "400")
    assert end.value["usage_by_model"].keys() == {"gemini-2.5-flash"}
    assert [summary["outcome"] for summary in end.value["batches"]] == ["partial", "succeeded"]
    assert end.value["batches"][0]["output_file_id"].startswith("gs://bucket/out/prediction-model-")
    assert len(gateway.batches) == 2  # the failed rows, and those only


class Mood(BaseModel):
    mood: str


def test_answers_are_validated_against_a_type(gateway: LocalGateway, output: str) -> None:
    end = run(output, ['!say {"mood": "good"}'], output_type=Mood, system_prompt="Say the mood.", **VERTEX)
    assert end.state == "success", end.error
    assert [row["output"] for row in read_rows(output)] == [{"mood": "good"}]


@pytest.mark.parametrize("cleanup", ["input", "all"])
def test_the_input_is_deleted_and_the_results_stay_in_the_store(
    gateway: LocalGateway, output: str, cleanup: str
) -> None:
    end = run(output, ["a"], cleanup=cleanup, **VERTEX)
    assert end.state == "success", end.error
    deleted = [request.path for request in gateway.requests if request.method == "DELETE"]
    (batch,) = gateway.batches
    assert deleted == [f"/openai/v1/files/{batch['input_file_id']}"]
    assert base64.urlsafe_b64decode(batch["input_file_id"] + "==").startswith(b"gs://bucket/vertex-files/")


def test_the_rows_are_the_same_from_the_store_as_through_the_gateway(
    gateway: LocalGateway, output: str, tmp_path: Path
) -> None:
    batch_id = ended_batch(gateway, "vertex")
    assert download(batch_id, output, provider="vertex").state == "success"
    folder = BifrostHook().get_batch(batch_id, provider="vertex").output_file_id
    assert folder is not None
    file_id = base64.urlsafe_b64encode(f"{folder}/predictions.jsonl".encode()).decode().rstrip("=")
    content = tmp_path / "predictions.jsonl"
    BifrostHook().download_file(file_id, content, provider="vertex")
    with bucket_in_memory() as bucket:
        bucket.pipe(f"{folder}/predictions.jsonl", content.read_bytes())
        stored = str(tmp_path / "stored.jsonl")
        assert download(batch_id, stored, provider="vertex").state == "success"
    assert list(read_rows(stored)) == list(read_rows(output))
    assert [row["custom_id"] for row in read_rows(output)] == ["a", "b", "c", "d"]


def test_a_run_never_reads_results_outside_of_its_own_output_folder(gateway: LocalGateway, output: str) -> None:
    gateway.behave("vertex", ProviderBehavior(running_polls=1))  # the task defers

    def operator() -> BatchRunOperator:
        for batch in gateway.batches:  # when the task resumes
            gateway.set_batch(batch["id"], output_file_id="gs://payroll/2026")
        return BatchRunOperator(task_id="run", rows=["a"], output_path=output, poll_interval=0.05, **VERTEX)

    end = run_to_its_end(operator)
    assert isinstance(end.error, ResultsUnavailable)
    assert "gs://payroll/2026" in str(end.error)
    assert not Path(output).exists()


def test_a_download_may_name_the_folder_that_results_must_be_below(gateway: LocalGateway, output: str) -> None:
    batch_id = ended_batch(gateway, "vertex", output_folder={"url": "gs://bucket/out"})
    elsewhere = download(batch_id, output, provider="vertex", results_folder="gs://bucket/other")
    assert isinstance(elsewhere.error, ResultsUnavailable)
    assert download(batch_id, output, provider="vertex", results_folder="gs://bucket/out/").state == "success"


def test_a_batch_is_submitted_waited_for_and_downloaded_by_one_operator_each(
    gateway: LocalGateway, output: str
) -> None:
    submitted = run_to_its_end(lambda: BatchSubmitOperator(task_id="submit", rows=["a", "b"], **VERTEX))
    assert submitted.state == "success", submitted.error
    waited = run_to_its_end(
        lambda: BatchSensor(task_id="wait", batch_id=submitted.value, provider="vertex", poke_interval=0.05)
    )
    assert waited.value["outcome"] == "succeeded"
    assert waited.value["request_counts"]["total"] == 2
    assert download(submitted.value, output, provider="vertex").state == "success"
    assert [row["text"] for row in read_rows(output)] == ["echo: a", "echo: b"]


def test_a_partial_success_without_counts_is_what_its_rows_say(gateway: LocalGateway, output: str) -> None:
    counts = {"total": 0, "completed": 0, "failed": 0}
    batch_id = ended_batch(gateway, "vertex", status="JOB_STATE_PARTIALLY_SUCCEEDED", counts=counts)
    summary = run_to_its_end(lambda: BatchSensor(task_id="wait", batch_id=batch_id, provider="vertex")).value
    assert (summary["status"], summary["outcome"]) == ("completed", "partial")
    end = download(batch_id, output, provider="vertex")
    assert (end.value["rows"]["succeeded"], end.value["rows"]["failed"]) == (2, 2)


def test_lines_of_a_file_that_this_package_did_not_write_are_read_by_their_label(
    gateway: LocalGateway, output: str
) -> None:
    contents = [{"role": "user", "parts": [{"text": "Hi"}]}]
    rows = [{"request": {"contents": contents, "labels": {"bifrost_custom_id": "mine"}}}]
    batch_id = gateway.add_batch("vertex", status="JOB_STATE_SUCCEEDED", rows=rows)
    assert download(batch_id, output, provider="vertex", raw=True).state == "success"
    assert json.loads(Path(output).read_text())["custom_id"] == "mine"
