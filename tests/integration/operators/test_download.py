"""BatchDownloadOperator over real HTTP."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.airflow import FakeTI, run_to_its_end
from support.downloads import download, ended_batch, shown
from support.stores import Bucket, bucket_in_memory

from airflow_bifrost import BatchSubmitOperator, BifrostHook
from airflow_bifrost.exceptions import BatchNotFound, BifrostUnavailable, ResultsUnavailable
from airflow_bifrost.gateway import retry
from airflow_bifrost.results import collect, read_rows
from airflow_bifrost.testing import Fault, LocalGateway


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "POLICY", collect.ReadPolicy(pause=0.0))


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(tmp_path / "deep" / "out.jsonl")


@pytest.mark.parametrize("provider", ["openai", "azure", "anthropic", "gemini"])
def test_rows_of_every_provider_have_the_same_form(gateway: LocalGateway, output: str, provider: str) -> None:
    end = download(ended_batch(gateway, provider), output, provider=provider)
    assert end.state == "success", end.error
    rows = {row["custom_id"]: row for row in read_rows(output)}
    assert {custom_id: row["outcome"] for custom_id, row in rows.items()} == {
        "a": "succeeded",
        "b": "failed",
        "c": "failed",
        "d": "succeeded",
    }
    assert "hello" in rows["a"]["text"]
    assert rows["a"]["usage"]["total_tokens"] > 0
    assert end.value["rows"] == {
        "total": 4,
        "succeeded": 2,
        "failed": 2,
        "expired": 0,
        "cancelled": 0,
        "missing": 0,
    }
    assert end.value["usage"]["total_tokens"] > 0
    assert [summary["provider"] for summary in end.value["batches"]] == [provider]


# Results in an object store


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with bucket_in_memory() as bucket:
        yield bucket


def put(bucket: Bucket, name: str, *lines: dict[str, Any], end: bytes = b"\n") -> None:
    with bucket.open(f"bucket/out/{name}", "wb") as file:
        file.write(b"\n".join(json.dumps(line).encode() for line in lines) + end)


def of_bedrock(custom_id: str) -> dict[str, Any]:
    return {
        "recordId": custom_id,
        "modelInput": {},
        "modelOutput": {"content": [{"type": "text", "text": "yes"}]},
    }


def test_results_of_bedrock_are_read_below_its_prefix_without_those_of_other_jobs(
    gateway: LocalGateway, output: str, bucket: Bucket
) -> None:
    batch_id = ended_batch(gateway, "bedrock", output_file_id="s3://bucket/out/")
    job = base64.b64decode(batch_id).decode().rpartition("/")[2]
    put(bucket, f"{job}/in.jsonl.out", of_bedrock("a"), end=b"")
    put(bucket, f"{job}/more/in.jsonl.out", of_bedrock("b"))
    put(bucket, "ofanotherjob/in.jsonl.out", of_bedrock("c"))
    put(bucket, f"{job}/manifest.json.out", {"totalRecordCount": 2})
    end = download(batch_id, output, provider="bedrock")
    assert end.state == "success", end.error
    assert [(row["custom_id"], row["text"]) for row in read_rows(output)] == [("a", "yes"), ("b", "yes")]


def test_a_prefix_without_results_is_an_error_that_names_it(gateway: LocalGateway, output: str, bucket: Bucket) -> None:
    batch_id = ended_batch(gateway, "bedrock", output_file_id="s3://bucket/none/")
    end = download(batch_id, output, provider="bedrock")
    assert isinstance(end.error, ResultsUnavailable)
    assert "s3://bucket/none/" in str(end.error)
    assert not Path(output).exists()


def test_a_row_that_the_gateway_invents_is_not_a_result(gateway: LocalGateway, output: str) -> None:
    end = download(ended_batch(gateway, "gemini", dest=False), output, provider="gemini")
    assert isinstance(end.error, ResultsUnavailable)
    assert not Path(output).exists()


def test_raw_results_are_the_lines_of_the_provider(gateway: LocalGateway, output: str) -> None:
    end = download(ended_batch(gateway), output, raw=True)
    rows = [json.loads(line) for line in Path(output).read_text().splitlines()]
    assert sorted(row["custom_id"] for row in rows) == ["a", "b", "c", "d"]
    assert all("response" in row for row in rows)
    assert end.value["rows"] is None


def test_raw_native_results_are_lines_as_well(gateway: LocalGateway, output: str) -> None:
    download(ended_batch(gateway, "anthropic"), output, provider="anthropic", raw=True)
    rows = [json.loads(line) for line in Path(output).read_text().splitlines()]
    assert [row["custom_id"] for row in rows] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_download_that_breaks_off_starts_again(gateway: LocalGateway, output: str, provider: str) -> None:
    batch_id = ended_batch(gateway, provider)
    path = "/content" if provider == "openai" else "/results"
    gateway.inject(Fault(drop=True, path_contains=path, times=2))
    assert download(batch_id, output, provider=provider).state == "success"
    assert len(list(read_rows(output))) == 4


def test_a_running_batch_has_no_results_yet(gateway: LocalGateway, output: str) -> None:
    end = download(gateway.add_batch(status="in_progress"), output)
    assert isinstance(end.error, ResultsUnavailable)
    assert "Wait for it first" in str(end.error)


def test_an_unknown_batch_is_not_found(gateway: LocalGateway, output: str) -> None:
    assert isinstance(download("batch_none", output).error, BatchNotFound)


def test_a_failed_download_leaves_the_file_as_it_was(
    gateway: LocalGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("before")
    monkeypatch.setattr(retry.RetryPolicy, "delay", lambda *_, **__: None)
    gateway.inject(Fault(status=503, path_contains="/content", times=None))
    assert isinstance(download(ended_batch(gateway), str(path)).error, BifrostUnavailable)
    assert [file.name for file in tmp_path.iterdir()] == ["out.jsonl"]
    assert path.read_text() == "before"


def test_more_results_than_the_batch_counts_are_logged(
    gateway: LocalGateway, output: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    batch_id = ended_batch(gateway, counts={"total": 3, "completed": 1, "failed": 2})
    assert download(batch_id, output).state == "success"
    assert "counts differ from its results. succeeded: the batch counts 1, its results 2" in caplog.text


def test_a_batch_without_any_result_makes_an_empty_file(gateway: LocalGateway, output: str) -> None:
    end = download(gateway.add_batch(status="failed", rows=3), output)
    assert end.state == "success", end.error
    assert list(read_rows(output)) == []


# The input file


def submitted(gateway: LocalGateway, **arguments: Any) -> tuple[str, str]:
    """A batch that BatchSubmitOperator has submitted and that has ended, and its input file."""
    arguments = {"rows": ["a"], "model": "echo-1"} | arguments
    end = run_to_its_end(lambda: BatchSubmitOperator(task_id="submit", **arguments), ti=FakeTI(task_id="submit"))
    while shown(gateway, end.value)["status"] != "completed":
        time.sleep(0.02)
    return end.value, shown(gateway, end.value)["input_file_id"]


def deleted_in(gateway: LocalGateway) -> list[str]:
    return [request.path.rpartition("/")[2] for request in gateway.requests if request.method == "DELETE"]


@pytest.mark.parametrize(("arguments", "deleted"), [({}, True), ({"cleanup": "never"}, False)])
def test_the_input_file_is_deleted_once_the_results_are_written(
    quick_gateway: LocalGateway, tmp_path: Path, arguments: dict[str, Any], deleted: bool
) -> None:
    batch_id, input_file_id = submitted(quick_gateway)
    end = download(batch_id, str(tmp_path / "out.jsonl"), **arguments)
    assert end.state == "success", end.error
    assert deleted_in(quick_gateway) == ([input_file_id] if deleted else [])


def test_an_input_file_of_the_user_is_never_deleted(quick_gateway: LocalGateway, tmp_path: Path) -> None:
    _, own = submitted(quick_gateway)
    row = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "e", "messages": []}}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    with BifrostHook() as hook:
        file = hook.upload_file(tmp_path / "mine.jsonl")
    batch_id, input_file_id = submitted(quick_gateway, rows=None, input_file_id=file.id, model=None)
    assert download(batch_id, str(tmp_path / "out.jsonl")).state == "success"
    assert input_file_id == file.id != own
    assert deleted_in(quick_gateway) == []


def test_no_input_file_is_deleted_if_the_results_cannot_be_written(quick_gateway: LocalGateway, tmp_path: Path) -> None:
    batch_id, _ = submitted(quick_gateway)
    quick_gateway.inject(Fault(call="file_content", status=400, times=None))
    assert download(batch_id, str(tmp_path / "out.jsonl")).state == "failed"
    assert deleted_in(quick_gateway) == []


@pytest.mark.parametrize("raw", [False, True], ids=["rows", "raw"])
@pytest.mark.parametrize("complete", [True, False])
def test_results_are_deleted_only_if_all_of_them_were_read(
    quick_gateway: LocalGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complete: bool, raw: bool
) -> None:
    monkeypatch.setattr(collect, "POLICY", collect.ReadPolicy(pause=0.0))
    batch_id, input_file_id = submitted(quick_gateway)
    output_file_id = shown(quick_gateway, batch_id)["output_file_id"]
    if not complete:
        quick_gateway.inject(Fault(call="file_content", status=200, body=b"", times=None))
    end = download(batch_id, str(tmp_path / "out.jsonl"), cleanup="all", allow_incomplete=True, raw=raw)
    assert end.state == "success", end.error
    assert deleted_in(quick_gateway) == [input_file_id, output_file_id][: 1 + complete]
