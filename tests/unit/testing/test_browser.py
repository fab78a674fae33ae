"""Web pages must not control the local gateway, nor read the tokens that it recorded."""

from __future__ import annotations

import pytest

from airflow_bifrost.testing.browser import STRUCK, refusal, without_secrets

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "gateway", "10.0.0.7", "app.localhost", "bound.example"]
)
def test_a_client_that_is_not_a_browser_may_control_the_gateway(host: str) -> None:
    assert refusal("GET", {"host": host}, "bound.example") is None
    assert refusal("POST", {"host": host, **JSON}, "bound.example") is None
    assert refusal("DELETE", {"host": host}, "bound.example") is None


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "[::1", "a@b.example"]
)
def test_a_foreign_host_is_refused(host: str) -> None:
    refused = refusal("GET", {"host": host}, "127.0.0.1")
    assert refused
    assert refused[0] == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_page_of_another_origin_is_refused(headers: dict[str, str]) -> None:
    refused = refusal("POST", {"host": "127.0.0.1:8080", **JSON, **headers}, "127.0.0.1")
    assert refused
    assert refused[0] == 403


def test_a_page_of_the_same_origin_may_control_the_gateway() -> None:
    headers = {"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080", "sec-fetch-site": "same-origin", **JSON}
    assert refusal("POST", headers, "127.0.0.1") is None


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_body_that_a_web_page_may_send_without_a_preflight_is_refused(kind: str) -> None:
    refused = refusal("POST", {"host": "localhost", "content-type": kind}, "127.0.0.1")
    assert refused
    assert refused[0] == 400


def test_a_token_is_masked_wherever_it_is() -> None:
    token = "sk-bf-0123456789"
    texts, headers = without_secrets(
        {"path": f"/{token}", "body": f'{{"a": "{token}"}}'},
        {"authorization": f"Bearer {token}", "x-other": f"was {token}", "accept": "*/*"},
    )
    assert texts == {"path": f"/{STRUCK}", "body": f'{{"a": "{STRUCK}"}}'}
    assert headers == {"authorization": STRUCK, "x-other": f"was {STRUCK}", "accept": "*/*"}
