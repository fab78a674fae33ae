"""What must hold whatever carries the requests, over real sockets: the sync client, and the async one over each transport."""

from __future__ import annotations

import gzip
import json
import socket

import pytest
from support.clients import BATCH, TOKEN, RawServer, http_answer

from airflow_bifrost.exceptions import BifrostProtocolError, BifrostUnavailable
from airflow_bifrost.gateway.calls import SMALL_ANSWER
from airflow_bifrost.gateway.retry import RetryPolicy


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def url(server):
    return f"http://127.0.0.1:{server.port}"


def test_an_answer_arrives(connect):
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


def test_a_body_over_the_maximum_is_an_error(connect):
    with (
        RawServer(http_answer(b" " * (SMALL_ANSWER + 70_000))) as server,
        pytest.raises(BifrostProtocolError, match="more than"),
    ):
        connect(base_url=url(server)).get_batch("batch_1")


def test_a_connection_that_is_closed_without_an_answer_is_transient(connect):
    with RawServer(b"") as server, pytest.raises(BifrostUnavailable, match=r"no answer \(\w+: ") as caught:
        connect(base_url=url(server)).get_batch("batch_1")
    assert caught.value.transient is True


def create(client):
    client.create_batch(input_file_id="file-1", idempotency_key="k")


@pytest.mark.parametrize(
    "answer",
    [b"", b"\x00\x01 this is not HTTP\r\n\r\n", http_answer(BATCH)[:-10]],
    ids=["closed without an answer", "not HTTP", "cut short"],
)
def test_a_create_whose_connection_breaks_may_have_been_sent_and_is_not_repeated(connect, answer):
    """httpx-aiohttp calls a connection that the server closed a timeout of connecting, which would mean that nothing was sent."""
    with RawServer(answer) as server, pytest.raises(BifrostUnavailable, match="A batch may exist") as caught:
        create(connect(base_url=url(server), retry=RetryPolicy()))
    assert caught.value.sent is True
    assert len(server.received) == 1


def test_a_create_on_a_slow_gateway_may_have_been_sent(connect):
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(BifrostUnavailable) as caught:
        create(connect(base_url=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.05))
    assert caught.value.sent is True


def test_a_create_on_a_refused_connection_was_not_sent(connect):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(BifrostUnavailable, match="Nothing was submitted, and nothing is billed") as caught:
        create(connect(base_url=f"http://127.0.0.1:{port}"))
    assert caught.value.sent is False


def test_a_create_for_a_host_name_that_does_not_exist_was_not_sent(connect):
    with pytest.raises(BifrostUnavailable) as caught:
        create(connect(base_url="http://gw.invalid"))
    assert caught.value.sent is False


def test_an_answer_that_is_not_http_is_transient(connect):
    with RawServer(b"\x00\x01\x02 this is not HTTP\r\n\r\n") as server, pytest.raises(BifrostUnavailable) as caught:
        connect(base_url=url(server)).get_batch("batch_1")
    assert caught.value.transient is True


def test_an_answer_that_is_cut_short_is_transient(connect):
    whole = http_answer(BATCH)
    with RawServer(whole[:-10]) as server, pytest.raises(BifrostUnavailable) as caught:
        connect(base_url=url(server)).get_batch("batch_1")
    assert caught.value.transient is True


def test_a_gateway_that_does_not_answer_is_given_up_after_the_timeout(connect):
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(BifrostUnavailable, match="no answer") as caught,
    ):
        connect(base_url=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.05).get_batch("batch_1")
    assert caught.value.transient is True


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
    with RawServer(http_answer({**BATCH, "id": "YXJuOmF3czpi+Zg=="})) as server:
        connect(base_url=f"{url(server)}/a%2Fb/c%20d").get_batch("YXJuOmF3czpi+Zg==")
    assert server.received[0].startswith(
        b"GET /a%2Fb/c%20d/openai/v1/batches/YXJuOmF3czpi+Zg==?provider=openai HTTP/1.1\r\n"
    )
