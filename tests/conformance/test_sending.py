"""Each recorded request is what the clients send for the same call, sync and async."""

from __future__ import annotations

import contextlib
import copy
import email
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest

from airflow_bifrost.exceptions import BifrostGatewayError

from .recordings import RECORDINGS, Recording, acall, call

# Why the clients never send a recorded request, by the word under "sent" in its file.
NEVER_SENT = {
    "no such call": "the API has no such route, or the package no such call",
    "route": "another spelling of a route that the clients know, or the native twin of a route that they use",
    "header": "the token goes as `Authorization: Bearer`, and no other header decides anything",
    "query": "a parameter that the clients put elsewhere, send differently or not at all",
    "body": "the body is of a form that the clients never make",
}
# All that the clients send in addition to the token and what a body needs.
ALWAYS = {"host", "accept", "accept-encoding", "connection", "user-agent"}
BODY = {"content-length", "content-type", "transfer-encoding", "x-bf-eh-idempotency-key"}

# Most requests were recorded with each version of the gateway: one of them is enough.
REQUESTS = list({json.dumps([r.call, r.request, r.sent]): r for r in RECORDINGS}.values())
SENT = [r for r in REQUESTS if isinstance(r.sent, dict) and "arguments" in r.sent]
REFUSED = [r for r in REQUESTS if isinstance(r.sent, dict) and "refused" in r.sent]
both_clients = pytest.mark.parametrize("client", [call, acall], ids=["sync", "async"])


def what_is_sent(recording: Recording, client: Any) -> httpx.Request:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return recording.response()

    async def answer_async(request: httpx.Request) -> httpx.Response:
        await request.aread()
        return answer(request)

    options = {name: recording.sent[name] for name in ("token", "path_prefix") if name in recording.sent}
    with contextlib.suppress(BifrostGatewayError):  # other tests read the answer
        client(recording.call, recording.sent["arguments"], answer_async if client is acall else answer, **options)
    (request,) = requests
    if client is call:
        request.read()
    return request


def form_of(kind: str, body: bytes) -> dict[str, Any]:
    """The fields of a multipart body; a file is its name, type and content."""
    message = email.message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    parts = [part for part in message.walk() if not part.is_multipart()]
    return {
        part.get_param("name", header="content-disposition"): (
            (part.get_filename(), part.get_content_type(), part.get_payload(decode=True))
            if part.get_filename()
            else part.get_payload(decode=True).decode()
        )
        for part in parts
    }


def body_of(recorded: dict[str, Any]) -> Any:
    body = recorded.get("body")
    kind = recorded["headers"].get("content-type", "")
    return form_of(kind, body.encode()) if kind.startswith("multipart/") else copy.deepcopy(body)


@both_clients
def test_every_recorded_request_is_what_the_call_sends(client: Any) -> None:
    for recording in SENT:
        with naming(recording):
            assert_is_sent(recording, client)


@contextlib.contextmanager
def naming(recording: Recording) -> Iterator[None]:
    """Add the recording's name to whatever fails."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"recording: {recording.title}")
        raise


def assert_is_sent(recording: Recording, client: Any) -> None:
    request, recorded = what_is_sent(recording, client), recording.request
    path, _, query = request.url.raw_path.partition(b"?")
    headers = {name for name in request.headers if name not in ALWAYS}
    expected_query = parse_qsl(recorded.get("query", ""))
    expected_body = body_of(recorded)
    if "provider" in recording.sent.get("adds", ()):  # which the clients always name
        provider = recording.sent["arguments"]["provider"]
        if recording.call in ("create_batch", "upload_file"):
            expected_body["provider"] = provider
        else:
            expected_query = [("provider", provider), *(pair for pair in expected_query if pair[0] != "provider")]
    for name in recording.sent.get("drops", ()):
        assert expected_body.pop(name) == recording.sent["arguments"][name]  # it was an argument, and must not be sent

    assert request.method == recorded["method"]
    assert path == recorded["path"].encode()
    assert parse_qsl(query.decode()) == expected_query
    assert request.headers.get("authorization") == recorded["headers"].get("authorization")
    if expected_body is None:
        assert request.content == b""
        assert headers - {"authorization", "content-length"} == set()
        return
    assert headers - {"authorization"} <= BODY
    assert request.headers["x-bf-eh-idempotency-key"] == "k"
    kind = request.headers["content-type"]
    if kind == "application/json":
        assert json.loads(request.content) == expected_body
    else:
        sent = form_of(kind, request.content)
        assert sent.pop("file")[::2] == expected_body.pop("file")[::2]  # whatever it says to be, it is the same file
        assert sent == expected_body


@both_clients
def test_no_recorded_request_that_goes_wrong_is_ever_sent(client: Any) -> None:
    def nobody(_: httpx.Request) -> httpx.Response:
        raise AssertionError("it was sent")

    for recording in REFUSED:
        with naming(recording), pytest.raises(ValueError, match=r"\w+ \w+"):
            client(recording.call, recording.sent["refused"], nobody)


def test_every_other_recorded_request_has_a_reason_not_to_be_sent() -> None:
    others = {r.name: r.sent for r in REQUESTS if r not in SENT and r not in REFUSED}
    assert set(others.values()) == set(NEVER_SENT)
