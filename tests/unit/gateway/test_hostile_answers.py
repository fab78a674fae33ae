"""Hostile HTTP answers, over real sockets: the sync client, and the async one over each transport."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import format_exception

import pytest
from support.clients import BATCH, TOKEN, RawServer, http_answer
from support.lying_server import DrippingServer, bomb

from airflow_bifrost.exceptions import BifrostGatewayError, BifrostProtocolError, BifrostUnavailable
from airflow_bifrost.gateway.body import STEP, Inflater, Patience
from airflow_bifrost.gateway.calls import file_content
from airflow_bifrost.gateway.exchange import RequestContext

CONTEXT = RequestContext(file_content("f", "openai"), "unit", now=0.0)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
MIB = 2**20


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def url(server, host="127.0.0.1"):
    return f"http://{host}:{server.port}"


def encoded(body: bytes, encoding: str, status: str = "200 OK") -> bytes:
    return http_answer(body, status, f"Content-Encoding: {encoding}\r\n")


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Within the block, no more than this many bytes are allocated at any time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


# Content encodings


def test_an_encoding_that_was_not_asked_for_is_refused_before_it_is_inflated(connect):
    for encoding in ("gzip, gzip", "br", "zstd", "deflate"):
        with (
            RawServer(encoded(bomb(32, layers=2), encoding)) as server,
            at_most(16 * MIB),
            pytest.raises(BifrostProtocolError, match="has the content encoding"),
        ):
            connect(base_url=url(server)).get_batch("batch_1")
        assert b"\r\naccept-encoding: gzip\r\n" in server.received[0].lower()


def test_a_compressed_answer_is_inflated_only_up_to_the_maximum(connect):
    with (
        RawServer(encoded(bomb(32), "gzip")) as server,
        at_most(24 * MIB),
        pytest.raises(BifrostProtocolError, match="more than"),
    ):
        connect(base_url=url(server)).get_batch("batch_1")


def test_a_compressed_error_over_the_maximum_is_known_by_its_status(connect):
    for encoding in ("gzip", "gzip, gzip", "br"):
        with (
            RawServer(encoded(bomb(32), encoding, "503 Service Unavailable")) as server,
            at_most(24 * MIB),
            pytest.raises(BifrostUnavailable, match="answered 503"),
        ):
            connect(base_url=url(server)).get_batch("batch_1")


def test_a_compressed_file_takes_no_memory(connect):
    with RawServer(encoded(bomb(32), "gzip")) as server, at_most(8 * MIB):
        assert connect(base_url=url(server)).download_nowhere("file-1") == 32 * MIB


def test_a_file_in_two_layers_is_refused(connect):
    with (
        RawServer(encoded(bomb(32, layers=2), "gzip, gzip")) as server,
        at_most(16 * MIB),
        pytest.raises(BifrostProtocolError, match="has the content encoding"),
    ):
        connect(base_url=url(server)).download_file("file-1", io.BytesIO())


def test_a_file_of_several_gzip_members_is_read_to_its_end(connect):
    body = gzip.compress(b"one\n") + gzip.compress(b"two\n")
    with RawServer(encoded(body, "x-gzip")) as server:
        assert b"".join(connect(base_url=url(server)).download("file-1")) == b"one\ntwo\n"


@pytest.mark.parametrize("body", [gzip.compress(json.dumps(BATCH).encode())[:-9], b"no gzip at all"])
def test_a_compressed_answer_that_is_broken_is_transient(connect, body):
    with RawServer(encoded(body, "gzip")) as server, pytest.raises(BifrostUnavailable, match="gzip") as caught:
        connect(base_url=url(server)).get_batch("batch_1")
    assert caught.value.transient is True


def test_a_chunk_is_inflated_in_steps_and_only_as_far_as_they_are_taken():
    with at_most(4 * STEP):
        pieces = Inflater(True, CONTEXT).feed(bomb(32))
        sizes = [len(next(pieces)) for _ in range(3)]
    assert sizes == [STEP, STEP, STEP]


# A server that sends its answer in tiny pieces


DRIPS = {
    "header": (HEAD + b"X-Drip: ", b"a"),
    "interim answers": (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "body": (HEAD + b"Content-Length: 100000\r\n\r\n", b" "),
    "chunk extension": (CHUNKED + b"2;x=", b"a"),
    "trailer": (CHUNKED + b"2\r\n{}\r\n0\r\nX-Drip: ", b"a"),
}


@pytest.mark.parametrize("drip", DRIPS)
def test_an_answer_that_drips_in_is_given_up_after_the_timeout(connect, drip):
    with (
        DrippingServer(*DRIPS[drip]) as server,
        pytest.raises(BifrostUnavailable, match=r"not complete after 0\.05 s") as caught,
    ):
        connect(base_url=server.url, timeout=0.05).get_batch("batch_1")
    assert caught.value.transient is True


def test_a_create_whose_answer_drips_in_may_have_been_sent(connect):
    with DrippingServer(*DRIPS["header"]) as server, pytest.raises(BifrostUnavailable, match="A batch may exist"):
        connect(base_url=server.url, timeout=0.1).create_batch(input_file_id="file-1", idempotency_key="k")


@pytest.mark.parametrize("drip", ["header", "body", "chunk extension"])
def test_a_download_that_drips_in_is_given_up(connect, drip):
    with DrippingServer(*DRIPS[drip]) as server, pytest.raises(BifrostUnavailable, match=r"not complete|came at less"):
        connect(base_url=server.url, timeout=0.1).download_file("file-1", io.BytesIO())


def test_a_download_may_take_as_long_as_it_makes_progress_and_no_longer():
    patience = Patience(60.0)
    for _ in range(1000):
        patience.spend(59.0)
        patience.on_progress(MIB)
        assert patience.left > 0
    assert patience.left <= 60.0  # progress never extends the limit beyond the timeout
    for _ in range(3):
        patience.spend(30.0)
        patience.on_progress(10)
    assert patience.left < 0


def test_a_large_upload_gets_more_time_than_a_small_call():
    assert Patience(60.0, size=200 * MIB).left > 3600
    assert Patience(60.0).left == 60


# Cookies, proxies, and what an error carries


def test_a_cookie_is_not_stored(connect):
    with RawServer(http_answer(BATCH, headers="Set-Cookie: session=of-another-token; Path=/\r\n")) as server:
        client = connect(base_url=url(server, "localhost"))
        client.get_batch("batch_1")
        client.get_batch("batch_1")
    assert len(server.received) == 2
    assert not any(b"cookie" in request.lower() for request in server.received)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_gateway_on_this_machine_is_never_asked_through_a_proxy(connect, monkeypatch, host):
    with RawServer(b"") as proxy, RawServer(http_answer(BATCH)) as server:
        for name in ("http_proxy", "all_proxy"):
            monkeypatch.setenv(name, url(proxy))
        assert connect(base_url=url(server, host)).get_batch("batch_1").id == "batch_1"
    assert proxy.received == []


@pytest.mark.parametrize(
    "answer",
    [
        f"HTTP/1.1 200 OK\r\n{TOKEN}\r\n\r\n".encode(),
        f"{TOKEN} 200\r\n\r\n".encode(),
        http_answer(TOKEN.encode()),
        http_answer({"id": TOKEN}),
        encoded(b"", TOKEN),
    ],
    ids=["header line", "status line", "body", "id", "encoding"],
)
def test_the_traceback_of_an_error_does_not_have_the_token_that_the_server_echoed(connect, answer):
    with RawServer(answer) as server, pytest.raises(BifrostGatewayError) as caught:
        connect(base_url=url(server)).get_batch("batch_1")
    assert TOKEN not in "".join(format_exception(caught.value))


def test_headers_without_end_are_an_error(connect):
    for flood in (HEAD + b"X-A: a\r\n" * 500_000, HEAD + b"X-A: " + b"a" * 4_000_000):
        with RawServer(flood) as server, at_most(24 * MIB), pytest.raises(BifrostUnavailable):
            connect(base_url=url(server)).get_batch("batch_1")
