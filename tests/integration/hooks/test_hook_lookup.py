"""How the hook gets its connection from Airflow: the environment, a secrets backend, or not at all."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
import uuid
from typing import Any

import pytest

from airflow_bifrost.exceptions import BifrostConfigurationError
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.hooks.bifrost import BifrostHook

TOKEN = "sk-bf-0123456789abcdef"


def sync_config(conn_id: str) -> GatewayConfig:
    return BifrostHook(conn_id).get_config()


def async_config(conn_id: str) -> GatewayConfig:
    return asyncio.run(BifrostHook(conn_id).aget_config())


both = pytest.mark.parametrize("config_of", [sync_config, async_config], ids=["sync", "async"])


@both
@pytest.mark.parametrize(
    ("value", "base_url", "timeout"),
    [
        (f"bifrost://:{TOKEN}@gw.example.com:8080/http?timeout=5", "http://gw.example.com:8080", 5),
        (f"bifrost://:{TOKEN}@gw.example.com", "https://gw.example.com", 60),
        (f"bifrost://:{TOKEN}@https%3A%2F%2Fgw.example.com%2Fsub/?timeout=5", "https://gw.example.com/sub", 5),
        (f"bifrost://https://:{TOKEN}@gw.example.com%3A8443%2Fsub", "https://gw.example.com:8443/sub", 60),
        (f"bifrost://:{TOKEN}@gw/?__extra__=%7B%22timeout%22%3A+5%7D", "https://gw", 5),
        (f"bifrost://:{TOKEN}@[::1]:8080/http", "http://[::1]:8080", 60),
        (
            json.dumps({"conn_type": "bifrost", "host": "gw", "password": TOKEN, "extra": {"timeout": 5}}),
            "https://gw",
            5,
        ),
        (
            json.dumps({"conn_type": "bifrost", "host": "gw", "password": TOKEN, "extra": '{"timeout": "5"}'}),
            "https://gw",
            5,
        ),
        (
            json.dumps({"conn_type": "bifrost", "host": "gw", "schema": "http", "port": "80", "password": TOKEN}),
            "http://gw:80",
            60,
        ),
    ],
)
def test_a_connection_from_the_environment_is_read_as_uri_and_as_json(
    config_of: Any, value: str, base_url: str, timeout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", value)
    config = config_of("bifrost_default")
    assert (config.base_url, config.token, config.timeout) == (base_url, TOKEN, timeout)


@both
@pytest.mark.parametrize(
    ("named", "value"),
    [
        ("port", f"bifrost://:{TOKEN}@gw.example.com:eighty/"),
        ("port", f"bifrost://:{TOKEN}@gw.example.com:99999/"),
        ("as a URI it looks like", f"bifrost://:{TOKEN}@https://gw.example.com"),
        ("as a URI it looks like", f"bifrost://a://:{TOKEN}@b://c"),
        ("extra", f"bifrost://:{TOKEN}@gw/?__extra__=nojson"),
        ("extra: unknown key 'time_out'", f"bifrost://:{TOKEN}@gw/?time_out=5"),
        ("it is not JSON", f'{{"conn_type": "bifrost", "password": "{TOKEN}", '),
        ("unknown field 'pasword'", json.dumps({"conn_type": "bifrost", "host": "gw", "pasword": TOKEN})),
        ("port", json.dumps({"conn_type": "bifrost", "host": "gw", "password": TOKEN, "port": "eighty"})),
        ("extra", json.dumps({"conn_type": "bifrost", "host": "gw", "password": TOKEN, "extra": [1]})),
        ("extra", json.dumps({"conn_type": "bifrost", "host": "gw", "password": TOKEN, "extra": "nojson"})),
        ("host", json.dumps({"conn_type": "bifrost", "host": 1234, "password": TOKEN})),
        ("host", json.dumps({"conn_type": "bifrost", "password": TOKEN})),
        ("password", json.dumps({"conn_type": "bifrost", "host": "gw", "password": 12345678})),
    ],
)
def test_a_variable_that_airflow_cannot_read_is_not_called_missing(
    config_of: Any, named: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", value)
    with pytest.raises(BifrostConfigurationError) as caught:
        config_of("bifrost_default")
    assert str(caught.value).startswith("Connection 'bifrost_default' cannot work: ")
    assert named in str(caught.value)
    assert TOKEN not in "".join(traceback.format_exception(caught.value))


@both
@pytest.mark.parametrize("value", ["not json", "gw.example.com"])
def test_a_variable_that_is_neither_json_nor_a_uri_is_called_so(
    config_of: Any, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_C", value)
    with pytest.raises(BifrostConfigurationError, match="AIRFLOW_CONN_C is neither JSON nor a URI with a host"):
        config_of("c")


@both
def test_a_uri_without_a_host_is_reported_with_the_field(config_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_C", "bifrost://?timeout=5")
    with pytest.raises(BifrostConfigurationError, match="host: it is empty"):
        config_of("c")


@both
def test_a_missing_connection_is_named_with_what_to_do(config_of: Any) -> None:
    with pytest.raises(BifrostConfigurationError, match=r"'nowhere' .*AIRFLOW_CONN_NOWHERE") as caught:
        config_of("nowhere")
    assert caught.value.undefined
    assert str(caught.value.advice).startswith("Create it with type 'bifrost', or set AIRFLOW_CONN_NOWHERE.")
    assert "AIRFLOW_CONN" not in str(caught.value.problem)


@both
def test_a_missing_connection_may_exist_while_airflows_database_is_away_and_the_message_says_so(config_of: Any) -> None:
    """The API server answers 404 for a connection while it restarts together with its database."""
    with pytest.raises(BifrostConfigurationError, match="database, API server or secrets backend may be unavailable"):
        config_of("nowhere")


@pytest.fixture
def conn_id() -> str:
    """One that no other test uses: what is peculiar about a connection is logged once for each process."""
    return f"gw_{uuid.uuid4().hex}"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What the hook logs; Airflow's own loggers are not the standard library's."""
    monkeypatch.setattr(BifrostHook, "log", logging.getLogger("hook"))
    caplog.set_level(logging.INFO)
    return caplog


@both
def test_a_missing_token_is_logged_once_for_each_connection(
    config_of: Any, conn_id: str, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    both_ids = [f"{conn_id}_1", f"{conn_id}_2"]
    for each in both_ids:
        monkeypatch.setenv(f"AIRFLOW_CONN_{each.upper()}", "bifrost://gw.example.com")
        for _ in range(3):
            config_of(each)
    told = [record.getMessage() for record in log.records if "no password" in record.getMessage()]
    assert [[each in text for each in both_ids] for text in told] == [[True, False], [False, True]]


@both
def test_a_port_that_is_not_used_because_the_host_is_a_url_is_logged(
    config_of: Any, conn_id: str, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", f"bifrost://https://:{TOKEN}@gw.example.com:8443")
    assert config_of(conn_id).base_url == "https://gw.example.com"
    assert "has port 8443, but its host is a URL, which takes precedence: https://gw.example.com" in log.text
