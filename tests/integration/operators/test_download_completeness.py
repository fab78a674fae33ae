"""BatchDownloadOperator never accepts fewer results than the batch counts as complete."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from support.airflow import End
from support.downloads import download, ended_batch, shown

from airflow_bifrost._compat import AirflowFailException
from airflow_bifrost.exceptions import BatchNotFound, BifrostProtocolError
from airflow_bifrost.results import collect, read_rows
from airflow_bifrost.testing import Fault, LocalGateway

GARBAGE = {
    "garbage": b"\x00\xff not a file",
    "empty": b"",
    "an error": {"error": {"message": "no"}},
    "a web page": "<html></html>",
    "half a file": b'{"custom_id": "a", "response": {"status_code": 200, "body": {"choices": [{"te',
}
unreadable = pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE)
PROMPTS = {"a": "hello", "b": "bye", "c": "again"}
MIXED = {"a": "hello", "b": "!fail 400", "c": "!flaky", "d": "bye"}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "POLICY", collect.ReadPolicy(pause=0.0))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    path = tmp_path / "out.jsonl"
    path.write_text("before\n")
    return path


def can_be_retried(end: End) -> bool:
    return isinstance(end.error, BifrostProtocolError) and not isinstance(end.error, AirflowFailException)


@pytest.mark.parametrize("raw", [False, True], ids=["rows", "raw"])
@unreadable
def test_an_unreadable_200_is_read_again(gateway: LocalGateway, output: Path, body: Any, raw: bool) -> None:
    batch_id = ended_batch(gateway, prompts=PROMPTS)
    gateway.inject(Fault(status=200, body=body, path_contains="/content", times=2))
    end = download(batch_id, str(output), raw=raw)
    assert end.state == "success", end.error
    assert sorted(row["custom_id"] for row in read_rows(output)) == ["a", "b", "c"]


@pytest.mark.parametrize("raw", [False, True], ids=["rows", "raw"])
@unreadable
def test_results_that_stay_unreadable_are_a_transient_error_and_nothing_is_written(
    gateway: LocalGateway, output: Path, body: Any, raw: bool
) -> None:
    batch_id = ended_batch(gateway, prompts=PROMPTS)
    gateway.inject(Fault(status=200, body=body, path_contains="/content", times=None))
    end = download(batch_id, str(output), raw=raw)
    assert can_be_retried(end), end
    assert batch_id in str(end.error)
    assert "The rows are paid for, and nothing was written" in str(end.error)
    assert output.read_text() == "before\n"
    assert [path.name for path in output.parent.iterdir()] == ["out.jsonl"]


@pytest.mark.parametrize("provider", ["openai", "azure", "anthropic", "gemini"])
def test_fewer_results_than_the_batch_counts_are_an_error(gateway: LocalGateway, output: Path, provider: str) -> None:
    batch_id = ended_batch(gateway, provider, {**PROMPTS, "d": "!missing"})
    end = download(batch_id, str(output), provider=provider)
    assert can_be_retried(end), end
    assert "3 results can be read, but the batch counts 4" in str(end.error)
    assert output.read_text() == "before\n"


def test_a_line_that_cannot_be_read_is_a_missing_result(gateway: LocalGateway, output: Path) -> None:
    end = download(ended_batch(gateway, prompts={**PROMPTS, "d": "!garble"}), str(output))
    assert can_be_retried(end), end
    assert "1 lines cannot be read" in str(end.error)


def test_an_unreadable_error_file_is_not_taken_for_an_empty_one(gateway: LocalGateway, output: Path) -> None:
    batch_id = ended_batch(gateway, prompts=MIXED)
    error_file = shown(gateway, batch_id)["error_file_id"]
    gateway.inject(Fault(garbage=True, path_contains=error_file, times=None))
    assert can_be_retried(download(batch_id, str(output)))
    assert output.read_text() == "before\n"


def test_incomplete_results_are_written_if_the_user_allows_it(
    gateway: LocalGateway, output: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    end = download(ended_batch(gateway, prompts={**PROMPTS, "d": "!missing"}), str(output), allow_incomplete=True)
    assert end.state == "success", end.error
    assert [row["custom_id"] for row in read_rows(output)] == ["a", "b", "c"]
    assert "3 results can be read, but the batch counts 4" in caplog.text


def test_a_deleted_error_file_does_not_block_a_complete_output(
    gateway: LocalGateway, output: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    batch_id = ended_batch(gateway, prompts=MIXED)
    error_file = shown(gateway, batch_id)["error_file_id"]
    gateway.inject(Fault(status=404, path_contains=error_file, times=None))
    end = download(batch_id, str(output))
    assert end.state == "success", end.error
    assert [row["custom_id"] for row in read_rows(output)] == ["a", "d"]
    assert "They were not billed" in caplog.text


def test_a_deleted_output_file_is_an_error(gateway: LocalGateway, output: Path) -> None:
    batch_id = ended_batch(gateway, prompts=MIXED)
    output_file = shown(gateway, batch_id)["output_file_id"]
    gateway.inject(Fault(status=404, path_contains=output_file, times=None))
    assert isinstance(download(batch_id, str(output)).error, BatchNotFound)
    assert output.read_text() == "before\n"


# A batch that is terminal before it names its files

FILES = ("output_file_id", "error_file_id")
NO_COUNTS = {"total": 0, "completed": 0, "failed": 0}


class Late:
    """A policy whose pauses take no time. After three of them, the batch names its files."""

    def __init__(self, gateway: LocalGateway, batch_id: str, **hidden: Any) -> None:
        hidden = {**dict.fromkeys(FILES), **hidden}
        batch = shown(gateway, batch_id)
        self.time, self.pauses = 0.0, 0
        self.appear = lambda: gateway.set_batch(batch_id, **{name: batch.get(name) for name in hidden})
        gateway.set_batch(batch_id, **hidden)

    @property
    def policy(self) -> collect.ReadPolicy:
        return collect.ReadPolicy(sleep=self.sleep, clock=lambda: self.time)

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.pauses += 1
        if self.pauses == 3:
            self.appear()


@pytest.mark.parametrize(
    ("status", "counts"),
    [("completed", {}), ("completed", {"request_counts": NO_COUNTS}), ("expired", {}), ("cancelled", {})],
    ids=["completed", "completed, without counts", "expired", "cancelled"],
)
def test_a_batch_that_ended_is_polled_until_it_names_its_files(
    gateway: LocalGateway, output: Path, monkeypatch: pytest.MonkeyPatch, status: str, counts: dict[str, Any]
) -> None:
    batch_id = ended_batch(gateway, prompts=PROMPTS, status=status)
    succeeded = shown(gateway, batch_id)["request_counts"]["completed"]
    late = Late(gateway, batch_id, **counts)
    monkeypatch.setattr(collect, "POLICY", late.policy)
    end = download(batch_id, str(output))
    assert end.state == "success", end.error
    assert succeeded > 0
    assert end.value["rows"]["succeeded"] == succeeded
    assert late.pauses == 3


@pytest.mark.parametrize("raw", [False, True], ids=["rows", "raw"])
@pytest.mark.parametrize("counts", [{}, {"request_counts": NO_COUNTS}], ids=["counts", "no counts"])
def test_files_that_never_appear_are_an_error_after_the_grace_and_nothing_is_written(
    gateway: LocalGateway, output: Path, monkeypatch: pytest.MonkeyPatch, counts: dict[str, Any], raw: bool
) -> None:
    batch_id = ended_batch(gateway, prompts=PROMPTS)
    late = Late(gateway, batch_id, **counts)
    late.appear = lambda: None
    monkeypatch.setattr(collect, "POLICY", late.policy)
    end = download(batch_id, str(output), raw=raw, results_grace=100)
    assert can_be_retried(end), end
    assert "has not named its output file within 100 s. Its rows are paid for, and nothing was written" in str(
        end.error
    )
    assert late.time == 100
    assert output.read_text() == "before\n"


def test_a_batch_is_not_awaited_if_its_counts_prove_that_nothing_succeeded(gateway: LocalGateway, output: Path) -> None:
    batch_id = gateway.add_batch(status="completed", rows=3)
    counts = {"total": 3, "completed": 0, "failed": 3}
    gateway.set_batch(batch_id, request_counts=counts, **dict.fromkeys(FILES))
    end = download(batch_id, str(output))
    assert end.state == "success", end.error
    assert list(read_rows(output)) == []
