"""BatchDownloadOperator over real HTTP."""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest
from integration.conftest import End, run_to_its_end

from airflow_bifrost import BatchDownloadOperator
from airflow_bifrost.exceptions import BatchNotFound, BifrostUnavailable, ResultsUnavailable
from airflow_bifrost.results import read_rows, source
from airflow_bifrost.testing import Fault, LocalGateway

PROMPTS = {"a": "hello", "b": "!fail 400", "c": "!flaky", "d": "bye"}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "PAUSE", 0.0)


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(tmp_path / "deep" / "out.jsonl")


def lines(provider: str, prompts: dict[str, str]) -> list[dict[str, Any]]:
    rows = []
    for custom_id, prompt in prompts.items():
        messages = [{"role": "user", "content": prompt}]
        rows.append(
            {
                "anthropic": {"custom_id": custom_id, "params": {"model": "e", "max_tokens": 64, "messages": messages}},
                "gemini": {"key": custom_id, "request": {"contents": [{"role": "user", "parts": [{"text": prompt}]}]}},
                "bedrock": {"recordId": custom_id, "modelInput": {"max_tokens": 64, "messages": messages}},
            }.get(
                provider,
                {
                    "custom_id": custom_id,
                    "method": "POST",
                    "url": "/v1/chat/completions",
                    "body": {"model": "e", "messages": messages},
                },
            )
        )
    return rows


def ended_batch(
    gateway: LocalGateway, provider: str = "openai", prompts: dict[str, str] = PROMPTS, **fields: Any
) -> str:
    status = "ended" if provider == "anthropic" else "completed"
    return gateway.add_batch(provider, status=status, rows=lines(provider, prompts), **fields)


def download(batch_id: str, output: str, **arguments: Any) -> End:
    return run_to_its_end(
        lambda: BatchDownloadOperator(task_id="download", batch_id=batch_id, output_path=output, **arguments)
    )


@pytest.mark.parametrize("provider", ["openai", "azure", "anthropic", "gemini"])
def test_each_row_comes_home_in_the_same_shape_from_each_provider(
    gateway: LocalGateway, output: str, provider: str
) -> None:
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


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> fsspec.AbstractFileSystem:
    """A bucket in memory, where S3 would be: what Airflow's Amazon provider brings."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()

    def located(uri: str, conn_id: str | None) -> tuple[SimpleNamespace, fsspec.AbstractFileSystem]:
        return SimpleNamespace(path=uri.removeprefix("s3://")), memory

    monkeypatch.setattr(source, "locate", located)
    return memory


def test_results_of_bedrock_are_read_below_its_prefix_where_other_jobs_have_theirs_too(
    gateway: LocalGateway, output: str, s3: fsspec.AbstractFileSystem
) -> None:
    batch_id = ended_batch(gateway, "bedrock", output_file_id="s3://bucket/out/")
    job = base64.b64decode(batch_id).decode().rpartition("/")[2]
    for folder, custom_id in ((job, "a"), (f"{job}/more", "b"), ("ofanotherjob", "c")):
        line = {"recordId": custom_id, "modelInput": {}, "modelOutput": {"content": [{"type": "text", "text": "yes"}]}}
        with s3.open(f"bucket/out/{folder}/in.jsonl.out", "wb") as file:
            file.write(json.dumps(line).encode() + b"\n")
    end = download(batch_id, output, provider="bedrock")
    assert end.state == "success", end.error
    assert [(row["custom_id"], row["text"]) for row in read_rows(output)] == [("a", "yes"), ("b", "yes")]


def test_a_prefix_with_nothing_below_it_is_an_error_that_says_where_it_looked(
    gateway: LocalGateway, output: str, s3: fsspec.AbstractFileSystem
) -> None:
    batch_id = ended_batch(gateway, "bedrock", output_file_id="s3://bucket/none/")
    end = download(batch_id, output, provider="bedrock")
    assert isinstance(end.error, ResultsUnavailable)
    assert "s3://bucket/none/" in str(end.error)


def test_a_row_that_the_gateway_invents_is_no_result(gateway: LocalGateway, output: str) -> None:
    end = download(ended_batch(gateway, "gemini", dest=False), output, provider="gemini")
    assert isinstance(end.error, ResultsUnavailable)
    assert not Path(output).exists()


def test_raw_results_are_the_lines_of_the_provider(gateway: LocalGateway, output: str) -> None:
    end = download(ended_batch(gateway), output, raw=True)
    rows = [json.loads(line) for line in Path(output).read_text().splitlines()]
    assert sorted(row["custom_id"] for row in rows) == ["a", "b", "c", "d"]
    assert all("response" in row for row in rows)
    assert end.value["rows"] is None


def test_raw_native_results_are_lines_too(gateway: LocalGateway, output: str) -> None:
    download(ended_batch(gateway, "anthropic"), output, provider="anthropic", raw=True)
    rows = [json.loads(line) for line in Path(output).read_text().splitlines()]
    assert [row["custom_id"] for row in rows] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_download_that_breaks_off_begins_anew(gateway: LocalGateway, output: str, provider: str) -> None:
    batch_id = ended_batch(gateway, provider)
    path = "/content" if provider == "openai" else "/results"
    gateway.inject(Fault(drop=True, path_contains=path, times=2))
    assert download(batch_id, output, provider=provider).state == "success"
    assert len(list(read_rows(output))) == 4


def test_a_batch_that_runs_has_no_results_yet(gateway: LocalGateway, output: str) -> None:
    end = download(gateway.add_batch(status="in_progress"), output)
    assert isinstance(end.error, ResultsUnavailable)
    assert "Wait for it first" in str(end.error)


def test_an_unknown_batch_is_not_found(gateway: LocalGateway, output: str) -> None:
    assert isinstance(download("batch_none", output).error, BatchNotFound)


def test_what_cannot_be_had_leaves_the_file_as_it_was(
    gateway: LocalGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("before")
    from airflow_bifrost.gateway import retry

    monkeypatch.setattr(retry.RetryPolicy, "delay", lambda *_, **__: None)
    gateway.inject(Fault(status=503, path_contains="/content", times=None))
    assert isinstance(download(ended_batch(gateway), str(path)).error, BifrostUnavailable)
    assert [file.name for file in tmp_path.iterdir()] == ["out.jsonl"]
    assert path.read_text() == "before"


def test_counts_that_differ_from_the_batch_are_said(
    gateway: LocalGateway, output: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    batch_id = ended_batch(gateway, counts={"total": 9, "completed": 9, "failed": 0})
    assert download(batch_id, output).state == "success"
    assert "The counts differ" in caplog.text


def test_a_batch_without_any_result_makes_an_empty_file(gateway: LocalGateway, output: str) -> None:
    end = download(gateway.add_batch(status="failed", rows=3), output)
    assert end.state == "success", end.error
    assert list(read_rows(output)) == []
