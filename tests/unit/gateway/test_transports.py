"""What must hold whatever carries the requests, over real sockets: the sync client, and the async one over each transport."""

from __future__ import annotations

import gzip
import json
import socket
import time

import pytest

from airflow_bifrost.exceptions import BifrostProtocolError, BifrostUnavailable
from airflow_bifrost.gateway.client import SMALL_ANSWER

from .conftest import BATCH, TOKEN, RawServer, http_answer


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def url(server):
    return f"http://127.0.0.1:{server.port}"


def test_an_answer_comes_through(connect):
    with RawServer(http_answer(BATCH)) as server:
        assert connect(base_url=url(server)).get_batch("batch_1").id == "batch_1"
    (request,) = server.received
    assert request.startswith(b"GET /openai/v1/batches/batch_1?provider=openai HTTP/1.1\r\n")
    assert f"authorization: bearer {TOKEN}".encode() in request.lower()


def test_a_compressed_answer_is_read(connect):
    body = gzip.compress(json.dumps(BATCH).encode())
    with RawServer(http_answer(body, headers="Content-Encoding: gzip\r\n")) as server:
        assert connect(base_url=url(server)).get_batch("batch_1").id == "batch_1"


def test_a_redirect_is_not_followed(connect):
    with RawServer(http_answer(BATCH)) as elsewhere:
        moved = http_answer(b"", "302 Found", f"Location: {url(elsewhere)}/openai/v1/batches/batch_1\r\n")
        with RawServer(moved) as server, pytest.raises(BifrostProtocolError, match="not followed"):
            connect(base_url=url(server)).get_batch("batch_1")
    assert elsewhere.received == []


def test_a_body_over_the_cap_is_given_up(connect):
    with (
        RawServer(http_answer(b" " * (SMALL_ANSWER + 70_000))) as server,
        pytest.raises(BifrostProtocolError, match="more than"),
    ):
        connect(base_url=url(server)).get_batch("batch_1")


def test_a_connection_that_is_closed_without_an_answer_can_pass(connect):
    with RawServer(b"") as server, pytest.raises(BifrostUnavailable, match=r"no answer \(\w+: ") as caught:
        connect(base_url=url(server)).get_batch("batch_1")
    assert caught.value.transient is True


def test_what_is_no_http_can_pass(connect):
    with RawServer(b"\x00\x01\x02 this is not HTTP\r\n\r\n") as server, pytest.raises(BifrostUnavailable) as caught:
        connect(base_url=url(server)).get_batch("batch_1")
    assert caught.value.transient is True


def test_an_answer_cut_short_can_pass(connect):
    whole = http_answer(BATCH)
    with RawServer(whole[:-10]) as server, pytest.raises(BifrostUnavailable) as caught:
        connect(base_url=url(server)).get_batch("batch_1")
    assert caught.value.transient is True


def test_a_gateway_that_does_not_answer_is_given_up_after_the_timeout(connect):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(BifrostUnavailable, match="no answer") as caught:
            connect(base_url=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.3).get_batch("batch_1")
    assert caught.value.transient is True
    assert time.monotonic() - began < 10


def test_a_proxy_of_the_environment_is_used(connect, monkeypatch):
    with RawServer(http_answer(BATCH)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", url(proxy))
        monkeypatch.setenv("http_proxy", url(proxy))
        assert connect(base_url="http://gw.invalid").get_batch("batch_1").id == "batch_1"
    assert proxy.received[0].startswith(b"GET http://gw.invalid/openai/v1/batches/batch_1?provider=openai HTTP/1.1\r\n")


def test_a_host_that_needs_no_proxy_is_asked_directly(connect, monkeypatch):
    with RawServer(b"") as proxy, RawServer(http_answer(BATCH)) as server:
        monkeypatch.setenv("http_proxy", url(proxy))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert connect(base_url=url(server)).get_batch("batch_1").id == "batch_1"
    assert proxy.received == []


def test_a_path_goes_over_the_wire_as_it_is(connect):
    with RawServer(http_answer(BATCH)) as server:
        connect(base_url=f"{url(server)}/a%2Fb/c%20d").get_batch("YXJuOmF3czpi+Zg==")
    assert server.received[0].startswith(
        b"GET /a%2Fb/c%20d/openai/v1/batches/YXJuOmF3czpi+Zg==?provider=openai HTTP/1.1\r\n"
    )
