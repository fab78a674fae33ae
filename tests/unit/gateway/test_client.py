"""Every call, over both clients: what goes over the wire, which answers are read, and where the token goes."""

from __future__ import annotations

import io
import json
import logging

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clients import (
    BATCH,
    FILE,
    IDEMPOTENCY,
    READING,
    TOKEN,
    Gateway,
    RawServer,
    answer,
    http_answer,
    query,
)

from airflow_bifrost.exceptions import (
    BifrostAuthError,
    BifrostGatewayError,
    BifrostProtocolError,
    BifrostUnavailable,
)
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.models import DeletedFile, File
from airflow_bifrost.gateway.retry import RetryPolicy

# Where each call goes, and where the provider goes


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
