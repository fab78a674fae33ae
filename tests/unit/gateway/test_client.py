"""Every call, over both clients: what goes over the wire, and what comes back."""

from __future__ import annotations

import io
import json
import logging
import tracemalloc
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clients import BATCH, FILE, TOKEN, RawServer, answer, http_answer

from airflow_bifrost.exceptions import (
    BifrostAuthError,
    BifrostConfigurationError,
    BifrostGatewayError,
    BifrostProtocolError,
    BifrostRateLimited,
    BifrostUnavailable,
)
from airflow_bifrost.gateway.calls import SMALL_ANSWER
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.models import DeletedFile, File
from airflow_bifrost.gateway.retry import RetryPolicy

IDEMPOTENCY = "x-bf-eh-idempotency-key"


class Gateway:
    """Answers with ``answers`` in turn, the last one for ever; keeps the requests."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(given, Exception):
            raise given
        if isinstance(given, httpx.Response):
            return httpx.Response(given.status_code, headers=given.headers, content=given.content)
        return answer(given)

    @property
    def last(self) -> httpx.Request:
        return self.requests[-1]


def query(request: httpx.Request) -> dict[str, list[str]]:
    return parse_qs(request.url.query.decode())


def page(*ids: str, cursor: str | None = None, name: str = "next_cursor", **fields: Any) -> dict[str, Any]:
    listing = {"object": "list", "data": [{"id": i, "status": "completed"} for i in ids], "extra_fields": {}, **fields}
    return listing | ({"has_more": True, name: cursor} if cursor else {})


# Where each call goes, and where the provider goes

READING = [
    ("get_batch", ("batch_1",), "GET", "/openai/v1/batches/batch_1", BATCH),
    ("cancel_batch", ("batch_1",), "POST", "/openai/v1/batches/batch_1/cancel", BATCH),
    ("get_raw", ("batch_1",), "GET", "/openai/v1/batches/batch_1", BATCH),
    ("list_page", (), "GET", "/openai/v1/batches", page("a")),
    ("list_raw", (), "GET", "/openai/v1/batches", page("a")),
    ("list_batches", (), "GET", "/openai/v1/batches", page("a")),
    ("batch_results", ("batch_1",), "GET", "/v1/batches/batch_1/results", {"batch_id": "batch_1", "results": []}),
    ("list_files", (), "GET", "/openai/v1/files", page("f")),
    ("list_files_page", (), "GET", "/openai/v1/files", page("f")),
    ("get_file", ("file-1",), "GET", "/openai/v1/files/file-1", FILE),
    ("delete_file", ("file-1",), "DELETE", "/openai/v1/files/file-1", {"id": "file-1", "deleted": True}),
    ("download", ("file-1",), "GET", "/openai/v1/files/file-1/content", "text"),
    ("download_file", ("file-1", io.BytesIO()), "GET", "/openai/v1/files/file-1/content", "text"),
    ("results", ("batch_1",), "GET", "/v1/batches/batch_1/results", {"batch_id": "batch_1", "results": []}),
]


@pytest.mark.parametrize(("call", "args", "method", "path", "body"), READING, ids=[row[0] for row in READING])
def test_calls_without_a_body_name_the_provider_in_the_query(connect, call, args, method, path, body):
    gateway = Gateway(body)
    getattr(connect(gateway), call)(*args, provider=" Azure ")
    assert (gateway.last.method, gateway.last.url.path) == (method, path)
    assert query(gateway.last)["provider"] == ["azure"]
    assert gateway.last.content == b""
    assert gateway.last.headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(("configured", "sent"), [("Anthropic", "anthropic"), ("", "openai")])
def test_the_provider_is_sent_in_lower_case_even_when_only_the_connection_names_it(connect, configured, sent):
    gateway = Gateway(BATCH)
    connect(gateway, provider=configured).get_batch("batch_1")
    assert query(gateway.last) == {"provider": [sent]}


def test_a_create_names_the_provider_in_the_json_body_only(connect):
    gateway = Gateway(BATCH)
    batch = connect(gateway).create_batch(
        provider="azure", input_file_id="file-1", endpoint="/v1/embeddings", idempotency_key="k1", metadata={"a": "b"}
    )
    assert batch.id == "batch_1"
    assert (gateway.last.method, str(gateway.last.url)) == ("POST", "https://gw.example/openai/v1/batches")
    assert json.loads(gateway.last.content) == {
        "input_file_id": "file-1",
        "endpoint": "/v1/embeddings",
        "metadata": {"a": "b"},
        "provider": "azure",
    }
    assert gateway.last.headers[IDEMPOTENCY] == "k1"


def test_an_upload_names_the_provider_in_a_form_field_only(connect):
    gateway = Gateway(FILE)
    file = connect(gateway).upload_file(
        io.BytesIO(b'{"a": 1}\n'),
        filename="in.jsonl",
        provider="bedrock",
        purpose="batch",
        idempotency_key="k2",
        extra_form={"storage_config[s3][bucket]": "b"},
    )
    assert isinstance(file, File)
    assert str(gateway.last.url) == "https://gw.example/openai/v1/files"
    assert gateway.last.headers[IDEMPOTENCY] == "k2"
    body = gateway.last.content.decode()
    assert 'name="provider"\r\n\r\nbedrock\r\n' in body
    assert 'name="purpose"\r\n\r\nbatch\r\n' in body
    assert 'name="storage_config[s3][bucket]"\r\n\r\nb\r\n' in body
    assert 'name="file"; filename="in.jsonl"' in body
    assert '\r\n\r\n{"a": 1}\n\r\n' in body


def test_health_is_asked_without_the_token_and_without_the_prefix(connect):
    gateway = Gateway({"status": "ok", "components": {"db_pings": "ok"}})
    assert connect(gateway, base_url="https://gw.example/behind/a/proxy/").health().components == {"db_pings": "ok"}
    assert gateway.last.url.path == "/behind/a/proxy/health"
    assert "authorization" not in gateway.last.headers


def test_an_unhealthy_gateway_is_unavailable(connect):
    with pytest.raises(BifrostUnavailable):
        connect(Gateway(answer({"status": "unhealthy"}, 503))).health()


def test_the_version_is_asked_without_the_token_and_without_the_prefix(connect):
    gateway = Gateway("v1.4.19")
    assert connect(gateway, base_url="https://gw.example/behind/a/proxy/").version() == "v1.4.19"
    assert gateway.last.url.path == "/behind/a/proxy/api/version"
    assert "authorization" not in gateway.last.headers


@pytest.mark.parametrize("body", [{"version": "v1"}, None, 7])
def test_a_gateway_that_says_its_version_in_another_way_does_not_say_it(connect, body):
    assert connect(Gateway(answer(body))).version() is None


# Listening in


def test_on_answer_gets_each_raw_answer_with_its_request(connect):
    heard = []
    gateway = Gateway({**BATCH, "new": 1})
    connect(gateway, on_answer=lambda *pair: heard.append(pair)).get_batch("batch_1", provider="azure")
    [(request, raw)] = heard
    assert (request.method, request.path, request.query) == ("GET", "/v1/batches/batch_1", (("provider", "azure"),))
    assert (raw.status_code, raw.headers["content-type"]) == (200, "application/json")
    assert json.loads(raw.body)["new"] == 1


def test_answers_that_are_errors_are_heard_too_each_time(connect):
    heard = []
    gateway = Gateway(answer({"error": {"message": "no"}}, 503), answer(BATCH))
    listening = connect(gateway, retry=RetryPolicy(), on_answer=lambda _, raw: heard.append(raw.status_code))
    assert listening.get_batch("batch_1").id == "batch_1"
    assert heard == [503, 200]


def test_no_answer_is_not_heard(connect):
    def refuse(request):
        raise httpx.ConnectError("refused")

    with pytest.raises(BifrostUnavailable):
        connect(refuse, on_answer=lambda *_: pytest.fail("nothing was answered")).get_batch("batch_1")


def test_a_deleted_file_says_so(connect):
    assert connect(Gateway({"id": "file-1", "deleted": True})).delete_file("file-1") == DeletedFile(
        id="file-1", deleted=True
    )


def test_without_a_token_no_authorization_is_sent(connect):
    gateway = Gateway(BATCH)
    connect(gateway, token=None).get_batch("batch_1")
    assert "authorization" not in gateway.last.headers


@pytest.mark.parametrize("base", ["https://gw.example/a%20b", "https://gw.example/a%2Fb/"])
def test_the_path_of_the_base_url_goes_over_the_wire_as_it_is_written(connect, base):
    gateway = Gateway(BATCH)
    connect(gateway, base_url=base).get_batch("batch_1")
    assert gateway.last.url.raw_path.decode().startswith(
        base.removeprefix("https://gw.example").rstrip("/") + "/openai/v1"
    )


# Ids on the wire


@pytest.mark.parametrize("batch_id", ["YXJuOmF3cw==", "batches-gem123", "a:b+c@d,e;f=g~h!$&'()*"])
def test_an_id_reaches_the_socket_literally(connect, batch_id):
    with RawServer(http_answer({**BATCH, "id": batch_id})) as server:
        connect(base_url=f"http://127.0.0.1:{server.port}").get_batch(batch_id, provider="bedrock")
    assert server.received[0].splitlines()[0] == f"GET /openai/v1/batches/{batch_id}?provider=bedrock HTTP/1.1".encode()


@pytest.mark.parametrize("call", ["get_batch", "cancel_batch", "batch_results", "get_file", "delete_file", "download"])
@pytest.mark.parametrize("bad", ["", "a/b", "..", "a%2Fb", "a b", "ä", "a\n", "x" * 1025, None])
def test_an_id_that_would_ask_for_something_else_is_refused_before_any_request(connect, call, bad):
    gateway = Gateway(BATCH)
    with pytest.raises(ValueError, match="_id"):
        getattr(connect(gateway), call)(bad)
    assert gateway.requests == []


# Listing


def test_a_listing_follows_the_cursor_to_the_last_page(connect):
    gateway = Gateway(page("a", "b", cursor="c1"), page("c", cursor="c2=="), page("d"))
    assert [batch.id for batch in connect(gateway).list_batches(page_size=2)] == ["a", "b", "c", "d"]
    assert [query(request).get("after") for request in gateway.requests] == [None, ["c1"], ["c2=="]]
    assert {query(request)["limit"][0] for request in gateway.requests} == {"2"}


def test_a_listing_of_files_calls_its_cursor_after(connect):
    gateway = Gateway(page("a", cursor="c1", name="after"), page("b"))
    assert [file.id for file in connect(gateway).list_files()] == ["a", "b"]
    assert query(gateway.last)["after"] == ["c1"]


@pytest.mark.parametrize("call", ["list_batches", "list_files"])
def test_a_listing_that_reaches_the_last_page_is_complete(connect, call):
    listed = getattr(connect(Gateway(page("a", cursor="c1"), page("b"))), call)()
    assert [item.id for item in listed] == ["a", "b"]
    assert (listed.listing.complete, listed.listing.why_incomplete) == (True, None)


# A list that is cut short, and what to say about it; each in its own way
CUT_SHORT = {
    "a page says that there are more, but gives no cursor": [page("a", has_more=True)],
    "a page has no data": [page("a", cursor="c1"), {"object": "list", "extra_fields": {}}],
    "a cursor came twice": [page("a", cursor="same")],
    "brought nothing new": [page("a", cursor=f"c{number}") for number in range(50)],
    "a cursor came twice, with new entries": [page("a", cursor="c1"), page("b", cursor="c2"), page("c", cursor="c1")],
    "brought nothing new, as each was empty": [page(cursor=f"c{number}") for number in range(500)],
    "a page says that there are more, by an unclear has_more": [page("a", has_more="no")],
}


@pytest.mark.parametrize("call", ["list_batches", "list_files"])
@pytest.mark.parametrize(("why", "pages"), CUT_SHORT.items(), ids=CUT_SHORT)
def test_a_listing_that_is_cut_short_ends_and_is_not_complete(connect, call, why, pages):
    """Taken for complete, it would prove that a batch does not exist, which would be paid for again."""
    gateway = Gateway(*pages)
    listed = getattr(connect(gateway), call)()
    assert listed.listing.complete is False
    assert why.partition(",")[0] in listed.listing.why_incomplete
    assert len(gateway.requests) <= 22
    assert len({item.id for item in listed}) == len(listed)


def test_an_unreadable_page_is_an_error_and_not_the_end_of_the_list(connect):
    gateway = Gateway(page("a", cursor="c1"), {"error": {"message": "no"}, "extra_fields": {}})
    with pytest.raises(BifrostProtocolError):
        connect(gateway).list_batches()


def test_a_listing_of_a_provider_with_one_page_asks_once_and_is_not_complete(connect):
    gateway = Gateway(page("a", cursor="c1"), page("b"))
    listed = connect(gateway).list_batches(provider="anthropic")
    assert [batch.id for batch in listed] == ["a"]
    assert "only the first page" in listed.listing.why_incomplete
    assert len(gateway.requests) == 1
    assert connect(Gateway(page("a"))).list_batches(provider="anthropic").listing.complete


def test_a_listing_goes_on_past_the_empty_page_of_a_key_without_batches(connect):
    listed = connect(Gateway(page(cursor="key-2"), page("a"))).list_batches()
    assert [batch.id for batch in listed] == ["a"]
    assert listed.listing.complete


def test_a_listing_goes_on_past_the_pages_of_a_second_key_for_the_same_account(connect):
    gateway = Gateway(
        page("a", cursor="k1"), page("b", cursor="k2"), page("a", cursor="k3"), page("b", cursor="k4"), page("c")
    )
    listed = connect(gateway).list_batches()
    assert [batch.id for batch in listed] == ["a", "b", "c"]
    assert listed.listing.complete


def test_a_listing_that_nobody_read_to_its_end_is_not_complete():
    with GatewayClient(
        GatewayConfig("https://gw.example"), transport=httpx.MockTransport(Gateway(page("a", "b")))
    ) as client:
        listing = client.list_batches()
        assert next(iter(listing)).id == "a"
        assert listing.complete is False


# Streaming


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


# Retries

FAULT = answer({"error": {"message": "later"}}, 503)
RETRIED = [row[:2] for row in READING] + [("health", ())]


@pytest.mark.parametrize(("call", "args"), RETRIED, ids=[row[0] for row in RETRIED])
def test_a_call_that_changes_nothing_twice_is_retried(connect, call, args):
    body = next((row[4] for row in READING if row[0] == call), {"status": "ok"})
    gateway = Gateway(FAULT, httpx.ConnectError("refused"), body)
    getattr(connect(gateway, retry=RetryPolicy()), call)(*args)
    assert len(gateway.requests) == 3
    assert len(connect.sleeps) == 2


UNKNOWN_RESULT = [
    FAULT,
    answer({}, 429, retry_after="0"),
    httpx.ReadTimeout("slow"),
    httpx.ReadError("cut"),
    answer({}, 201),
]
CREATES = [{"input_file_id": "file-1"}, {"requests": [{"custom_id": "1"}]}, {"rows": True}]


def create(client, arguments):
    rows = {"rows": io.BytesIO(b'{"custom_id": "1"}\n')} if "rows" in arguments else {}
    return client.create_batch(provider="anthropic", idempotency_key="k", **{**arguments, **rows})


@pytest.mark.parametrize("fault", UNKNOWN_RESULT, ids=str)
@pytest.mark.parametrize("arguments", CREATES, ids=str)
def test_a_create_that_may_have_reached_the_provider_is_never_sent_twice(connect, fault, arguments):
    gateway = Gateway(fault)
    with pytest.raises(BifrostGatewayError, match="A batch may exist and be billed") as caught:
        create(connect(gateway, retry=RetryPolicy(), worked_before=True), arguments)
    assert caught.value.sent is True
    assert len(gateway.requests) == 1
    assert connect.sleeps == []


NOT_SENT = [
    httpx.ConnectError("refused"),
    httpx.ConnectTimeout("slow"),
    httpx.PoolTimeout("busy"),
    answer({"type": "request_limited", "error": {"message": "no"}}, 429),
    answer({"error": {"message": "request dropped: queue is full"}, "extra_fields": {}}, 500),
]


@pytest.mark.parametrize("fault", NOT_SENT, ids=str)
@pytest.mark.parametrize("arguments", CREATES, ids=str)
def test_a_create_that_did_not_reach_the_provider_is_sent_again(connect, fault, arguments):
    gateway = Gateway(fault, fault, BATCH)
    assert create(connect(gateway, retry=RetryPolicy()), arguments).id == "batch_1"
    assert len(gateway.requests) == 3
    assert gateway.requests[0].content == gateway.requests[2].content


def test_a_create_on_a_refused_connection_says_that_nothing_was_submitted(connect):
    with pytest.raises(BifrostUnavailable, match="Nothing was submitted, and nothing is billed") as caught:
        create(connect(Gateway(httpx.ConnectError("refused"))), CREATES[0])
    assert caught.value.sent is False
    assert "may exist" not in str(caught.value)


@pytest.mark.parametrize("fault", [FAULT, httpx.ConnectError("no"), httpx.ReadError("cut"), answer({}, 429)], ids=str)
def test_an_upload_is_sent_again_as_a_whole(connect, fault):
    gateway = Gateway(fault, FILE)
    told = []
    file = connect(gateway, retry=RetryPolicy()).upload_file(
        io.BytesIO(b"some rows"), purpose="batch", idempotency_key="k", on_repeat=lambda: told.append(1)
    )
    assert file.id == "file-1"
    assert all(b"some rows" in request.content for request in gateway.requests)
    assert len(gateway.requests) == 2
    assert told == [1]


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 413])
def test_a_permanent_error_is_not_retried(connect, status):
    gateway = Gateway(answer({"error": {"message": "no"}}, status))
    with pytest.raises(BifrostGatewayError):
        connect(gateway, retry=RetryPolicy()).get_batch("batch_1")
    assert len(gateway.requests) == 1


def test_retry_after_is_waited_for_and_ends_the_call_when_it_exceeds_the_budget(connect):
    gateway = Gateway(answer({}, 429, retry_after="7"), BATCH)
    connect(gateway, retry=RetryPolicy(budget=60)).get_batch("batch_1")
    assert 7 <= connect.sleeps[0] < 8
    with pytest.raises(BifrostRateLimited) as caught:
        connect(Gateway(answer({}, 429, retry_after="61")), retry=RetryPolicy(budget=60)).get_batch("batch_1")
    assert caught.value.retry_after == 61


GARBAGE = [
    httpx.Response(200, headers={"content-type": "text/html"}, text="<html>"),
    httpx.Response(200, headers={"content-type": "application/json"}, text="garbage"),
    answer({"id": "batch_2", "status": "completed"}),
    httpx.Response(404, headers={"content-type": "text/html"}, text="<html>"),
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=["web page", "not JSON", "another batch", "web page with 404"])
def test_garbage_ends_a_call_unless_the_gateway_has_answered_before(connect, garbage):
    with pytest.raises(BifrostProtocolError):
        connect(Gateway(garbage), retry=RetryPolicy()).get_batch("batch_1")
    assert connect.sleeps == []

    client = connect(Gateway(BATCH, garbage, garbage, BATCH), retry=RetryPolicy())
    assert [client.get_batch("batch_1").id for _ in range(2)] == ["batch_1"] * 2
    resumed = connect(Gateway(garbage, BATCH), retry=RetryPolicy(), worked_before=True)
    assert resumed.get_batch("batch_1").id == "batch_1"


def test_that_one_kind_of_route_answers_says_nothing_about_the_other(connect):
    """A proxy may pass on the OpenAI-compatible routes only; a web page for the native ones is a wrong address then."""
    client = connect(Gateway(GARBAGE[0]), retry=RetryPolicy(), worked_before=True)
    with pytest.raises(BifrostProtocolError):
        client.batch_results("batch_1")
    assert connect.sleeps == []


@pytest.mark.parametrize("stop_at", [1, 2])
def test_a_sleep_that_says_stop_ends_the_attempts_with_the_last_error(connect, stop_at):
    pauses = []

    def sleep(seconds):
        pauses.append(seconds)
        return len(pauses) == stop_at

    gateway = Gateway(FAULT)
    with pytest.raises(BifrostUnavailable, match="503"):
        connect(gateway, retry=RetryPolicy(), sleep=sleep).get_batch("batch_1")
    assert len(gateway.requests) == stop_at


# A rotated token

REFUSED = answer({"type": "virtual_key_not_found", "error": {"message": "no"}}, 401)


def renewing(*configs):
    """The connection as it is read each time."""
    given = list(configs)
    return lambda: given.pop(0)


def test_a_refused_call_is_repeated_with_the_token_that_the_connection_has_now(connect):
    gateway = Gateway(REFUSED, BATCH)
    renew = renewing(GatewayConfig("https://gw.example", token="sk-bf-rotated"))
    client = connect(gateway, retry=RetryPolicy(), renew=renew)
    assert client.get_batch("batch_1").id == "batch_1"
    assert [request.headers["authorization"] for request in gateway.requests] == [
        f"Bearer {TOKEN}",
        "Bearer sk-bf-rotated",
    ]
    assert connect.sleeps == []


def test_a_create_that_the_gateway_refuses_is_repeated_with_a_new_token_and_one_of_the_provider_is_not(connect):
    renew = renewing(GatewayConfig("https://gw.example", token="sk-bf-rotated"))
    gateway = Gateway(REFUSED, BATCH)
    assert create(connect(gateway, retry=RetryPolicy(), renew=renew), CREATES[0]).id == "batch_1"
    refused_by_provider = Gateway(answer({"error": {"message": "no", "type": "authentication_error"}}, 401))
    with pytest.raises(BifrostAuthError):
        create(connect(refused_by_provider, retry=RetryPolicy(), renew=lambda: pytest.fail("read again")), CREATES[0])


@pytest.mark.parametrize(
    "config",
    [
        GatewayConfig("https://gw.example", token=TOKEN),
        GatewayConfig("https://elsewhere.example", token="sk-bf-rotated"),
    ],
    ids=["the same token", "a token for another URL"],
)
def test_a_refused_call_is_not_repeated_without_a_new_token_for_the_same_url(connect, config):
    gateway = Gateway(REFUSED)
    with pytest.raises(BifrostAuthError):
        connect(gateway, retry=RetryPolicy(), renew=renewing(config)).get_batch("batch_1")
    assert len(gateway.requests) == 1


def test_a_call_reads_the_connection_again_only_once(connect):
    gateway = Gateway(REFUSED)
    renew = renewing(GatewayConfig("https://gw.example", token="sk-bf-rotated"))
    with pytest.raises(BifrostAuthError):
        connect(gateway, retry=RetryPolicy(), renew=renew).get_batch("batch_1")
    assert len(gateway.requests) == 2


def test_a_connection_that_cannot_be_read_again_leaves_the_gateways_refusal(connect):
    def renew():
        raise BifrostConfigurationError("gone")

    with pytest.raises(BifrostAuthError):
        connect(Gateway(REFUSED), retry=RetryPolicy(), renew=renew).get_batch("batch_1")


def test_who_retries_nothing_does_not_read_the_connection_again(connect):
    with pytest.raises(BifrostAuthError):
        connect(Gateway(REFUSED), renew=lambda: pytest.fail("read again")).get_batch("batch_1")


# The token


def test_a_redirect_is_never_followed_and_its_target_learns_nothing(connect):
    with RawServer(http_answer(BATCH)) as target:
        location = f"http://127.0.0.1:{target.port}/openai/v1/batches/batch_1"
        moved = http_answer({}, "308 Permanent Redirect", f"Location: {location}\r\n")
        with RawServer(moved) as server:
            client = connect(base_url=f"http://127.0.0.1:{server.port}")
            with pytest.raises(BifrostProtocolError, match="a Location that is not followed"):
                client.get_batch("batch_1")
    assert len(server.received) == 1
    assert target.received == []


def test_the_token_shows_in_no_repr_no_log_and_no_error(connect, caplog):
    caplog.set_level(logging.DEBUG)
    token = "plain-words-as-token"
    body = {"error": {"message": f"no access with {token}", "type": f"type {token}", "code": token}}
    with RawServer(http_answer(body, "403 Forbidden")) as server:
        client = connect(base_url=f"http://127.0.0.1:{server.port}", token=token)
        with pytest.raises(BifrostAuthError) as caught:
            client.get_batch("batch_1")
    assert token.encode() in server.received[0]
    error = caught.value
    shown = [str(error), repr(error), str(vars(error)), caplog.text, repr(client.client), repr(client.client.config)]
    assert not [text for text in shown if token in text]
    assert "no access with ***" in str(error)


def test_of_an_error_body_only_message_type_and_code_are_shown(connect):
    body = {
        "error": {"message": "said", "error": "LOW-LEVEL", "param": "PARAM"},
        "extra_fields": {"raw_response": {"x": "RAW"}},
    }
    with pytest.raises(BifrostAuthError) as caught:
        connect(Gateway(answer(body, 401))).get_batch("batch_1")
    assert "said" in str(caught.value)
    assert not [word for word in ("LOW-LEVEL", "PARAM", "RAW") if word in str(caught.value) + repr(vars(caught.value))]


# Whatever comes back

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
kinds = st.sampled_from(["application/json", "application/json; charset=utf-8", "text/html", "text/plain", ""])


@settings(deadline=None, max_examples=150)
@given(
    status=st.sampled_from([200, 200, 200, 201, 204, 206, 302, 400, 401, 402, 404, 429, 446, 500, 503, 599]),
    kind=kinds,
    body=st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()),
)
def test_any_answer_is_a_model_or_a_typed_error(status, kind, body):
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers={"content-type": kind} if kind else {}, content=body)

    config = GatewayConfig("https://gw.example", token=TOKEN)
    with GatewayClient(config, transport=httpx.MockTransport(handler), retry=RetryPolicy(budget=0)) as client:
        for call, args, *_ in READING:
            if call in ("download", "download_file", "results"):
                continue
            try:
                value = getattr(client, call)(*args)
                list(value) if call in ("list_batches", "list_files") else None
            except BifrostGatewayError:
                continue
            assert (status, "json" in kind) == (200, True)
