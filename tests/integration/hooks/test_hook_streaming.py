"""Uploads and downloads: in constant memory, and a whole file or none."""

from __future__ import annotations

import errno
import io
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from support.web_server import WebServer

from airflow_bifrost.exceptions import BatchNotFound, BifrostUnavailable
from airflow_bifrost.testing import Fault, LocalGateway

SIZE = 50 * 2**20
FLAT = 12 * 2**20  # bytes; the gateway runs in this process too


def peak_of(call: Any, *arguments: Any) -> tuple[Any, int]:
    tracemalloc.start()
    try:
        return call(*arguments), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_an_upload_and_a_download_of_50_mb_keep_memory_flat(hook: Any, gateway: LocalGateway, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    line = b'{"custom_id": "' + b"x" * 1006 + b'"}\n'
    with source.open("wb") as file:
        for _ in range(SIZE // len(line)):
            file.write(line)
    hook.get_conn()
    uploaded, peak = peak_of(hook.upload_file, source)
    assert uploaded.bytes == source.stat().st_size
    assert peak < FLAT
    size, peak = peak_of(hook.download_file, uploaded.id, target)
    assert size == target.stat().st_size == source.stat().st_size
    assert peak < FLAT


def test_content_comes_in_chunks(hook: Any, gateway: LocalGateway) -> None:
    chunks = hook.content(gateway.add_file(b"x" * 2**20))
    assert len(chunks) > 1
    assert sum(map(len, chunks)) == 2**20


def test_a_download_that_is_cut_short_leaves_nothing(
    hook: Any, web_server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web_server.answer(200, b"x" * 2**20, "application/octet-stream", length=2**21)
    monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", web_server.uri)
    with pytest.raises(BifrostUnavailable, match="Downloading file 'file_1'"):
        hook.download_file("file_1", tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_a_download_onto_a_full_disk_leaves_nothing(
    hook: Any, gateway: LocalGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_id = gateway.add_file(b"x" * 2**20)
    monkeypatch.setattr("airflow_bifrost.hooks.local_files.open", FullDisk, raising=False)
    with pytest.raises(OSError, match="No space left"):
        hook.download_file(file_id, tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


class FullDisk(io.FileIO):
    def write(self, _: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("fault", [Fault(status=404), Fault(status=503, retry_after=600)])
def test_a_download_that_is_refused_leaves_an_older_file_alone(
    hook: Any, gateway: LocalGateway, tmp_path: Path, fault: Fault
) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("older")
    gateway.inject(fault)
    with pytest.raises((BatchNotFound, BifrostUnavailable)):
        hook.download_file(gateway.add_file(b"newer"), target)
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    assert target.read_text() == "older"


def test_a_download_replaces_an_older_file(hook: Any, gateway: LocalGateway, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("older and longer")
    assert hook.download_file(gateway.add_file(b"newer"), target) == 5
    assert target.read_text() == "newer"


def test_an_empty_file_is_downloaded(hook: Any, gateway: LocalGateway, tmp_path: Path) -> None:
    assert hook.download_file(gateway.add_file(b""), str(tmp_path / "out.jsonl")) == 0
    assert (tmp_path / "out.jsonl").read_bytes() == b""


def test_an_upload_of_a_file_that_is_not_there_asks_nothing_of_the_gateway(
    hook: Any, gateway: LocalGateway, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        hook.upload_file(tmp_path / "nowhere.jsonl")
    assert gateway.requests == []
