"""Uploads and downloads, over both clients: streamed, and bounded in size."""

from __future__ import annotations

import io
import json
import tracemalloc
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clients import BATCH, FILE, Gateway, RawServer, answer, http_answer

from airflow_bifrost.exceptions import (
    BifrostProtocolError,
    BifrostUnavailable,
)
from airflow_bifrost.gateway.calls import SMALL_ANSWER
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.retry import RetryPolicy


class Disk(io.RawIOBase):
    """A file of ``size`` bytes that counts how it is read."""

    def __init__(self, size: int) -> None:
        self.size, self.position, self.reads = size, 0, []

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = offset + (0, self.position, self.size)[whence]
        return self.position

    def tell(self) -> int:
        return self.position

    def read(self, size: int = -1) -> bytes:
        self.reads.append(size)
        given = min(size if size >= 0 else self.size, self.size - self.position)
        self.position += given
        return bytes(given)


class Draining(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Takes a request's body piece by piece and keeps none of it."""

    def __init__(self, given: Any = FILE) -> None:
        self.given, self.taken = given, 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.taken = sum(len(chunk) for chunk in request.stream)
        self.headers = request.headers
        return answer(self.given)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        async for chunk in request.stream:
            self.taken += len(chunk)
        self.headers = request.headers
        return answer(self.given)


def test_an_upload_is_streamed_from_disk_in_small_pieces(connect):
    disk, transport = Disk(64 * 2**20), Draining()
    client = connect(transport=transport)
    tracemalloc.start()
    client.upload_file(disk, purpose="batch", idempotency_key="k")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 2**20
    assert max(disk.reads) <= 2**20
    assert min(disk.reads) > 0
    assert transport.taken == int(transport.headers["content-length"]) > disk.size


@settings(deadline=None, max_examples=30)
@given(st.lists(st.dictionaries(st.text(max_size=5), st.text()), min_size=1, max_size=20))
def test_rows_of_a_file_go_into_the_call_as_if_they_were_given(rows):
    jsonl = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    gateway = Gateway(BATCH)
    with GatewayClient(GatewayConfig("https://gw.example"), transport=httpx.MockTransport(gateway)) as client:
        asked = {"provider": "anthropic", "idempotency_key": "k", "metadata": {"a": "é"}}
        client.create_batch(**asked, rows=io.BytesIO(jsonl))
        client.create_batch(**asked, requests=rows)
    streamed, given = gateway.requests
    assert json.loads(streamed.content) == json.loads(given.content)
    assert (streamed.method, streamed.url, streamed.headers["content-type"]) == (
        given.method,
        given.url,
        given.headers["content-type"],
    )
    assert int(streamed.headers["content-length"]) == len(streamed.content)
    assert "transfer-encoding" not in streamed.headers


def test_rows_of_a_file_are_streamed_from_disk_in_small_pieces():
    disk, transport = Disk(64 * 2**20), Draining(BATCH)
    with GatewayClient(GatewayConfig("https://gw.example"), transport=transport) as client:
        tracemalloc.start()
        client.create_batch(provider="anthropic", idempotency_key="k", rows=disk)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 4 * 2**20
    assert transport.taken == int(transport.headers["content-length"]) > disk.size


class Endless(httpx.SyncByteStream, httpx.AsyncByteStream):
    """``pieces`` pieces of a mebibyte, made when asked for."""

    def __init__(self, pieces: int, fault: Exception | None = None) -> None:
        self.pieces, self.fault, self.sent = pieces, fault, 0

    def __iter__(self):
        for _ in range(self.pieces):
            self.sent += 1
            yield bytes(2**20)
        if self.fault:
            raise self.fault

    async def __aiter__(self):
        for piece in self:
            yield piece


def streaming(stream: Endless, status: int = 200, kind: str = "application/octet-stream") -> Any:
    return lambda request: httpx.Response(status, headers={"content-type": kind}, stream=stream)


class Streaming(httpx.BaseTransport, httpx.AsyncBaseTransport):
    def __init__(self, handler: Any) -> None:
        self.handle_request = handler

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)


def test_a_download_is_streamed(connect):
    client = connect(transport=Streaming(streaming(Endless(64))))
    tracemalloc.start()
    total = client.download_nowhere("file-1")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 64 * 2**20
    assert peak < 8 * 2**20


def test_an_empty_file_is_no_error(connect):
    assert connect(Gateway(httpx.Response(200, headers={"content-type": "text/plain"}))).download("file-1") == []


def test_a_download_cut_short_is_an_error_and_no_short_file(connect):
    cut = http_answer(b"x" * 100).replace(b"Content-Length: 100", b"Content-Length: 200")
    with RawServer(cut) as server, pytest.raises(BifrostUnavailable, match="Downloading file 'file-1'"):
        connect(base_url=f"http://127.0.0.1:{server.port}").download("file-1")


def test_a_web_page_is_no_file(connect):
    page = httpx.Response(200, headers={"content-type": "text/html; charset=utf-8"}, text="<html>")
    with pytest.raises(BifrostProtocolError):
        connect(Gateway(page)).download("file-1")


def test_opening_a_download_is_retried_but_reading_on_is_not(connect):
    fault = answer({"error": {"message": "later"}}, 503)
    gateway = Gateway(fault, fault, httpx.Response(200, headers={"content-type": "text/plain"}, text="x"))
    assert connect(gateway, retry=RetryPolicy()).download("file-1") == [b"x"]
    broken = Endless(2, httpx.ReadError("cut"))
    client = connect(transport=Streaming(streaming(broken)), retry=RetryPolicy())
    with pytest.raises(BifrostUnavailable):
        client.download("file-1")
    assert broken.sent == 2


# Sizes


def test_an_answer_over_8_mib_is_given_up_before_it_is_read_whole(connect):
    stream = Endless(64)
    with pytest.raises(BifrostProtocolError, match="more than 8388608 bytes"):
        connect(transport=Streaming(streaming(stream, kind="application/json"))).get_batch("batch_1")
    assert stream.sent <= SMALL_ANSWER / 2**20 + 2


@pytest.mark.parametrize("call", ["get_batch", "download"])
def test_the_status_decides_about_an_error_over_8_mib(connect, call):
    with pytest.raises(BifrostUnavailable) as caught:
        getattr(connect(transport=Streaming(streaming(Endless(64), 503))), call)("batch_1")
    assert caught.value.status_code == 503
