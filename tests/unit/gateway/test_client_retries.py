"""Which calls are retried, over both clients: after errors, and with the new token of a connection that has changed."""

from __future__ import annotations

import io

import httpx
import pytest
from support.clients import BATCH, FILE, READING, TOKEN, Gateway, answer

from airflow_bifrost.exceptions import (
    BifrostAuthError,
    BifrostConfigurationError,
    BifrostGatewayError,
    BifrostProtocolError,
    BifrostRateLimited,
    BifrostUnavailable,
)
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.retry import RetryPolicy

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
