"""What the fields of a connection mean, and what is said of one that cannot work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection

from airflow_bifrost.exceptions import BifrostConfigurationError
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.hooks.connection import config_of
from airflow_bifrost.hooks.connection_errors import naming_the_connection

TOKEN = "sk-bf-0123456789abcdef"


def connection(extra: Any = None, **fields: Any) -> Connection:
    if extra is not None and not isinstance(extra, str):
        extra = json.dumps(extra)
    return Connection(conn_id="gw", conn_type="bifrost", extra=extra, **{"host": "gw.example.com", **fields})


def read(extra: Any = None, **fields: Any) -> GatewayConfig:
    return config_of(connection(extra, **fields), "gw")


def test_a_host_alone_is_enough_and_means_https_and_the_defaults() -> None:
    assert read() == GatewayConfig(base_url="https://gw.example.com", name="gw", poll_interval=60.0)


def test_every_field_of_the_connection_is_used() -> None:
    extra = {
        "provider": "Anthropic",
        "path_prefix": "/gateway/openai",
        "timeout": 12.5,
        "connect_timeout": 3,
        "verify": False,
        "max_connections": 4,
        "max_in_flight": 3,
        "poll_interval": 30,
        "connection_ttl": 20.5,
        "coalesce": "False",
        "transport": "httpx",
    }
    assert read(extra, schema="http", port=8080, password=TOKEN) == GatewayConfig(
        base_url="http://gw.example.com:8080",
        token=TOKEN,
        provider="anthropic",
        path_prefix="/gateway/openai",
        timeout=12.5,
        connect_timeout=3.0,
        verify=False,
        max_connections=4,
        max_in_flight=3,
        poll_interval=30.0,
        connection_ttl=20.5,
        coalesce=False,
        transport="httpx",
        name="gw",
    )


def test_what_the_connection_does_not_say_the_configuration_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "MAX_IN_FLIGHT": "2",
        "POLL_INTERVAL": "7.5",
        "CONNECTION_TTL": "9",
        "COALESCE": "False",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__BIFROST__{name}", value)
    config = read({"max_in_flight": "5"})
    assert (config.max_in_flight, config.poll_interval, config.connection_ttl, config.coalesce) == (5, 7.5, 9.0, False)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"poll_interval": -1}, "poll_interval"),
        ({"connection_ttl": 0}, "connection_ttl"),
        ({"coalesce": "maybe"}, "coalesce"),
        ({"transport": "pigeon"}, "aiohttp or httpx"),
    ],
)
def test_a_setting_that_cannot_be_names_itself(extra: dict[str, Any], words: str) -> None:
    with pytest.raises(BifrostConfigurationError, match=words):
        read(extra)


@pytest.mark.parametrize(
    ("fields", "base_url"),
    [
        ({"host": "https://gw.example.com"}, "https://gw.example.com"),
        ({"host": "https://gw.example.com/sub"}, "https://gw.example.com/sub"),
        ({"host": "http://gw.example.com:8080/sub"}, "http://gw.example.com:8080/sub"),
        ({"host": "http://[::1]:8080"}, "http://[::1]:8080"),
    ],
)
def test_a_full_url_in_host_wins_over_schema_and_port(fields: dict[str, Any], base_url: str) -> None:
    assert read(**fields).base_url == base_url
    assert read(**fields, schema="ftp", port=1).base_url == base_url


@pytest.mark.parametrize(
    ("fields", "base_url"),
    [
        ({"host": "gw.example.com/sub"}, "https://gw.example.com/sub"),
        ({"host": "gw.example.com/sub", "schema": "HTTP", "port": 8080}, "http://gw.example.com:8080/sub"),
        ({"host": "gw.example.com:8080"}, "https://gw.example.com:8080"),
        ({"host": "[::1]", "port": 8080}, "https://[::1]:8080"),
        ({"host": "::1", "port": 8080}, "https://[::1]:8080"),
        ({"host": "[::1]:8080"}, "https://[::1]:8080"),
        ({"host": " gw.example.com ", "schema": " "}, "https://gw.example.com"),
        ({"port": "8080"}, "https://gw.example.com:8080"),
        ({"port": ""}, "https://gw.example.com"),
    ],
)
def test_host_schema_and_port_make_the_base_url(fields: dict[str, Any], base_url: str) -> None:
    assert read(**fields).base_url == base_url


@pytest.mark.parametrize("empty", [None, "", "  "])
@pytest.mark.parametrize("name", ["provider", "path_prefix", "verify"])
def test_an_empty_text_field_of_the_form_takes_its_default(name: str, empty: str | None) -> None:
    assert read({name: empty}) == read()


@pytest.mark.parametrize("empty", [None, ""])
@pytest.mark.parametrize("name", ["timeout", "connect_timeout", "max_connections"])
def test_an_empty_number_field_of_the_form_takes_its_default(name: str, empty: str | None) -> None:
    assert read({name: empty}) == read()


@pytest.mark.parametrize("value", [7, "7", 7.0, "7.0"])
@pytest.mark.parametrize("name", ["timeout", "connect_timeout", "max_connections"])
def test_a_number_may_be_given_as_a_string(name: str, value: Any) -> None:
    assert getattr(read({name: value}), name) == 7


@pytest.mark.parametrize(
    ("value", "verify"),
    [
        (True, True),
        (False, False),
        ("true", True),
        ("False", False),
        (" FALSE ", False),
        ("/etc/ca.pem", "/etc/ca.pem"),
    ],
)
def test_verify_is_true_false_or_a_path(value: Any, verify: bool | str) -> None:
    assert read({"verify": value}).verify == verify


@pytest.mark.parametrize(
    ("given", "prefix"), [("openai", "/openai"), ("/a/b/", "/a/b"), ("/", ""), ("//openai//", "/openai")]
)
def test_slashes_around_the_path_prefix_do_not_matter(given: str, prefix: str) -> None:
    assert read({"path_prefix": given}).path_prefix == prefix


@pytest.mark.parametrize("password", [None, "", "  "])
def test_a_missing_token_is_allowed(password: str | None) -> None:
    assert read(password=password).token is None


def test_white_space_around_a_pasted_token_is_not_part_of_it() -> None:
    assert read(password=f" {TOKEN}\n").token == TOKEN


@pytest.mark.parametrize(
    ("named", "extra", "fields"),
    [
        ("host", None, {"host": None}),
        ("host", None, {"host": " "}),
        ("host", None, {"host": 17}),
        ("host", None, {"host": "gw example.com"}),
        ("host", None, {"host": "https://"}),
        ("host", None, {"host": "https://someone:secret@gw.example.com"}),
        ("host", None, {"host": "someone@gw.example.com"}),
        ("host", None, {"host": "https://gw.example.com/?provider=openai"}),
        ("host", None, {"host": "http://[::1"}),
        ("schema", None, {"schema": "ftp"}),
        ("schema", None, {"host": "ftp://gw.example.com"}),
        ("port", None, {"port": 0}),
        ("port", None, {"port": -1}),
        ("port", None, {"port": 65_536}),
        ("port", None, {"port": "eighty"}),
        ("port", None, {"port": 80, "host": "gw.example.com:8080"}),
        ("port", None, {"host": "https://gw.example.com:99999"}),
        ("port", None, {"host": "gw.example.com:eighty"}),
        ("password", None, {"password": "sk-bf-\n0123456789"}),
        ("password", None, {"password": "sk-bf-\r\nX-Header: 1"}),
        ("password", None, {"password": "sk-bf-schlüssel"}),
        ("password", None, {"password": 1234567}),
        ("extra", "no json", {}),
        ("extra", "[1]", {}),
        ("extra", '"text"', {}),
        ("extra", {"time_out": 5}, {}),
        ("provider", {"provider": 5}, {}),
        ("provider", {"provider": ["openai"]}, {}),
        ("path_prefix", {"path_prefix": 5}, {}),
        ("path_prefix", {"path_prefix": "/open ai"}, {}),
        ("path_prefix", {"path_prefix": "/openai?x=1"}, {}),
        ("timeout", {"timeout": "soon"}, {}),
        ("timeout", {"timeout": 0}, {}),
        ("timeout", {"timeout": -5}, {}),
        ("timeout", {"timeout": True}, {}),
        ("timeout", {"timeout": "nan"}, {}),
        ("timeout", {"timeout": "inf"}, {}),
        ("timeout", {"timeout": [5]}, {}),
        ("connect_timeout", {"connect_timeout": {}}, {}),
        ("connect_timeout", {"connect_timeout": 0}, {}),
        ("verify", {"verify": 1}, {}),
        ("verify", {"verify": ["/etc/ca.pem"]}, {}),
        ("max_connections", {"max_connections": 1.5}, {}),
        ("max_connections", {"max_connections": 0}, {}),
        ("max_connections", {"max_connections": "many"}, {}),
        ("max_connections", {"max_connections": False}, {}),
    ],
)
def test_a_field_that_is_wrong_is_named_and_so_is_the_connection(
    named: str, extra: Any, fields: dict[str, Any]
) -> None:
    with pytest.raises(BifrostConfigurationError) as caught:
        read(extra, **fields)
    assert str(caught.value).startswith("Connection 'gw' cannot work: ")
    assert f"{named}: " in str(caught.value)
    assert str(caught.value).endswith("Nothing was sent. Fix the connection.")


@pytest.mark.parametrize("content", [None, b"", b"no certificate\n"])
def test_a_ca_bundle_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_bytes(content)
    with (
        pytest.raises(BifrostConfigurationError, match=rf"'gw' cannot work: verify: .*{bundle.name}"),
        naming_the_connection("gw"),
    ):
        GatewayClient(read({"verify": str(bundle)}))


def test_no_message_shows_the_token_or_a_user_in_the_url() -> None:
    for fields in ({"password": f"{TOKEN}\n{TOKEN}"}, {"host": f"https://me:{TOKEN}@gw.example.com"}):
        with pytest.raises(BifrostConfigurationError) as caught:
            read(**fields)
        assert TOKEN not in str(caught.value)
        assert caught.value.__suppress_context__


def test_an_error_has_what_is_wrong_and_what_to_do_apart() -> None:
    with pytest.raises(BifrostConfigurationError) as caught:
        read({"timeout": "soon"})
    assert caught.value.problem == "Connection 'gw' cannot work: extra timeout: it must be a number, not 'soon'."
    assert caught.value.advice == "Fix the connection."
