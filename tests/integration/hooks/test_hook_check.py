"""The test button of the connection form: which thing is wrong."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from support.web_server import WebServer

from airflow_bifrost.testing import Fault, LocalGateway, VirtualKey
from airflow_bifrost.testing.versions import VERSIONS

TOKEN = "sk-bf-0123456789abcdef"


@pytest.fixture(scope="module")
def guarded() -> Iterator[LocalGateway]:
    """A gateway that refuses calls without a virtual key, and one key that is for OpenAI only."""
    with LocalGateway(
        enforce_auth=True, virtual_keys=[TOKEN, VirtualKey("sk-bf-openai-only", providers=("openai",))]
    ) as running:
        yield running


def connect(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", value)


def test_all_is_well(hook: Any) -> None:
    assert hook.test_connection() == (True, "The gateway answers for provider 'openai'.")


def test_all_is_well_behind_the_native_routes_too(
    hook: Any, gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, gateway.connection_json(token=TOKEN, path_prefix="/"))
    assert hook.test_connection()[0] is True


def test_an_unreachable_gateway_is_called_so(hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        connect(monkeypatch, f"bifrost://127.0.0.1:{unused.getsockname()[1]}/http")
        passed, message = hook.test_connection()
    assert not passed
    assert message.startswith("Unreachable: http://127.0.0.1:")


def test_a_host_name_that_does_not_exist_is_unreachable(hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "bifrost://gateway.invalid")
    passed, message = hook.test_connection()
    assert not passed
    assert message.startswith("Unreachable: https://gateway.invalid ")


def test_tls_to_a_plain_http_gateway_is_unreachable(
    hook: Any, gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, json.dumps({"conn_type": "bifrost", "host": gateway.url.replace("http:", "https:")}))
    passed, message = hook.test_connection()
    assert not passed
    assert message.startswith("Unreachable: https://127.0.0.1:")


@pytest.mark.parametrize(
    ("status", "body", "content_type"),
    [
        (200, b"<html><body>It works!</body></html>", "text/html"),
        (404, b"<html>Not Found</html>", "text/html"),
        (404, b"Not Found", "text/plain"),
        (200, b"OK", "text/plain"),
        (200, b'{"hello": "world"}', "application/json"),
        (200, b'{"object": "list", "data": []}', "application/json"),
        (200, b"[]", "application/json"),
        (404, b'{"detail": "Not Found"}', "application/json"),
        (400, b'{"detail": "what?"}', "application/json"),
        (301, b"", "text/html"),
    ],
)
def test_what_is_no_gateway_is_called_so(
    hook: Any, web_server: WebServer, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, content_type: str
) -> None:
    web_server.answer(status, body, content_type)
    connect(monkeypatch, web_server.uri)
    passed, message = hook.test_connection()
    assert not passed
    assert message.startswith("Not a Bifrost gateway: http://127.0.0.1:")


@pytest.mark.parametrize("token", [None, "sk-bf-unknown-to-it", "no-virtual-key"])
def test_a_token_that_the_gateway_refuses_is_called_so(
    hook: Any, guarded: LocalGateway, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    connect(monkeypatch, guarded.connection_json(token=token))
    passed, message = hook.test_connection()
    assert not passed
    assert message.startswith("Token refused. ")
    assert token is None or token not in message


def test_a_provider_that_the_token_may_not_use_is_called_so(
    hook: Any, guarded: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, guarded.connection_json(token="sk-bf-openai-only", provider="anthropic"))
    passed, message = hook.test_connection()
    assert not passed
    assert message.startswith("Provider not allowed: the token may not use 'anthropic'. ")


@pytest.mark.parametrize(
    ("provider", "what"),
    [
        ("antropic", "The provider is unknown, misspelled or not configured."),
        ("groq", "The provider has no such call."),
        ("cohere", "No key of the provider may be used for batches."),
    ],
)
def test_an_unusable_provider_is_reported_in_the_doctors_words(
    hook: Any, gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch, provider: str, what: str
) -> None:
    connect(monkeypatch, gateway.connection_json(token=TOKEN, provider=provider))
    passed, message = hook.test_connection()
    assert not passed
    assert message.startswith(f"Provider not usable: {provider!r}. {what} ")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_proxy_that_hides_the_gateways_health_does_not_make_it_no_gateway(
    hook: Any, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    with LocalGateway(version=version) as gateway:
        gateway.inject(Fault(status=404, path_contains="/health", times=None))
        connect(monkeypatch, gateway.connection_json(token=TOKEN))
        assert hook.test_connection()[0] is True
        connect(monkeypatch, gateway.connection_json(token=TOKEN, provider="nosuch"))
        assert hook.test_connection()[1].startswith("Provider not usable: ")


def test_a_key_of_the_gateway_that_its_provider_refuses_is_no_fault_of_the_token(
    hook: Any, gateway: LocalGateway
) -> None:
    gateway.inject(
        Fault(
            status=401,
            body={
                "is_bifrost_error": False,
                "error": {"type": "invalid_request_error", "message": "Incorrect API key provided"},
            },
        )
    )
    passed, message = hook.test_connection()
    assert not passed
    assert message.startswith("Refused by the provider: the gateway's key for 'openai' does not work. ")


@pytest.mark.parametrize("cause", [{"code": "401"}, {}], ids=["azure", "bedrock"])
def test_a_provider_that_refuses_without_a_word_is_known_by_its_name(
    hook: Any, gateway: LocalGateway, cause: dict[str, str]
) -> None:
    refusal = {"error": {**cause, "message": "Access denied"}, "extra_fields": {"provider": "openai"}}
    gateway.inject(Fault(status=403, body=refusal))
    passed, message = hook.test_connection()
    assert not passed
    assert message.startswith("Refused by the provider: ")


def test_the_gateways_login_refuses_without_a_word_and_without_a_provider(hook: Any, gateway: LocalGateway) -> None:
    gateway.inject(Fault(status=401, body={"error": {"message": "Unauthorized"}, "extra_fields": {}}))
    passed, message = hook.test_connection()
    assert not passed
    assert message.startswith("Token refused. ")


@pytest.mark.parametrize("prefix", ["/nosuch", "/OpenAI", "/anthropic"])
def test_a_wrong_path_prefix_is_called_so(
    hook: Any, gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    connect(monkeypatch, gateway.connection_json(token=TOKEN, path_prefix=prefix))
    passed, message = hook.test_connection()
    assert not passed
    assert message.startswith(f"Wrong path_prefix: there is a gateway, but no batch API below {prefix!r}. ")


@pytest.mark.parametrize("status", [402, 429, 503])
def test_any_other_error_is_shown_in_its_own_words_without_a_retry(
    hook: Any, gateway: LocalGateway, status: int
) -> None:
    gateway.inject(Fault(status=status))
    passed, message = hook.test_connection()
    assert not passed
    assert message.startswith(
        f"Listing batches of 'openai' through connection 'bifrost_default' failed: the gateway answered {status}"
    )
    assert len(gateway.requests) == 1


def test_a_connection_that_cannot_work_is_reported_with_its_field(hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, '{"conn_type": "bifrost", "host": "gw", "extra": {"timeout": "soon"}}')
    passed, message = hook.test_connection()
    assert not passed
    assert "timeout" in message


def test_an_unreadable_ca_bundle_is_reported(hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, '{"conn_type": "bifrost", "host": "gw", "extra": {"verify": "/nowhere/ca.pem"}}')
    passed, message = hook.test_connection()
    assert not passed
    assert "verify: '/nowhere/ca.pem'" in message


@pytest.mark.parametrize("host", ["full URL", "schema and port"])
def test_it_works_as_the_api_server_calls_it(gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    from airflow.models.connection import Connection

    fields = json.loads(gateway.connection_json(token=TOKEN, timeout=5, verify="", provider=None))
    if host == "full URL":
        fields |= {"host": gateway.url, "schema": None, "port": None}
    fields["extra"] = json.dumps(fields["extra"])
    connection = Connection(conn_id="transient", **fields)
    monkeypatch.setenv("AIRFLOW_CONN_TRANSIENT", connection.get_uri())
    assert connection.test_connection() == (True, "The gateway answers for provider 'openai'.")
