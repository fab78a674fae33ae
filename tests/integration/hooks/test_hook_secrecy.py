"""The token is sent to the gateway, and shown nowhere."""

from __future__ import annotations

import logging
import traceback
from typing import Any

import pytest
import structlog

from airflow_bifrost.exceptions import BifrostError
from airflow_bifrost.hooks.bifrost import BifrostHook
from airflow_bifrost.testing import Fault, LocalGateway

TOKEN = "sk-bf-0123456789abcdef"


def test_no_repr_shows_the_token(hook: Any, gateway: LocalGateway) -> None:
    client = hook.get_conn()
    shown = [hook.hook, client, client.config, client._http, client._http.headers, hook.get_config()]
    assert client.config.token == TOKEN
    assert TOKEN not in "".join(f"{each!r} {each!s}" for each in shown)
    assert TOKEN not in repr(vars(hook.hook))


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=401, body={"error": {"message": f"Incorrect API key provided: {TOKEN}", "code": TOKEN}}),
        Fault(status=500, body={"type": TOKEN, "error": {"message": f"no {TOKEN}", "type": TOKEN}}, retry_after=600),
        Fault(status=400, body=f"Bearer {TOKEN}", content_type="text/plain"),
        Fault(status=200, body=f"<html>{TOKEN}</html>", content_type="text/html"),
        Fault(status=200, body={TOKEN: TOKEN}),
        Fault(status=418, body=TOKEN, content_type=TOKEN),
    ],
)
def test_no_error_shows_the_token(hook: Any, gateway: LocalGateway, fault: Fault) -> None:
    gateway.inject(fault)
    with pytest.raises(BifrostError) as caught:
        hook.get_batch("batch_1")
    error = caught.value
    assert TOKEN not in "".join([repr(error), repr(vars(error)), *traceback.format_exception(error)])


def test_an_unreachable_gateway_does_not_make_the_token_show(hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", f"bifrost://:{TOKEN}@gateway.invalid")
    with pytest.raises(BifrostError) as caught:
        hook.get_batch("batch_1")
    assert TOKEN not in "".join(traceback.format_exception(caught.value))


def test_no_log_shows_the_token_even_at_debug(
    hook: Any,
    gateway: LocalGateway,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(BifrostHook, "log", logging.getLogger("hook"))
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    gateway.inject(Fault(status=503))
    with structlog.testing.capture_logs() as logs:
        hook.get_batch(gateway.add_batch())
        hook.test_connection()
        hook.list_files()
    assert "httpcore" in {record.name.split(".")[0] for record in caplog.records}
    shown = caplog.text + repr([vars(record) for record in caplog.records]) + repr(logs) + "".join(capfd.readouterr())
    assert TOKEN not in shown


def test_the_token_goes_along_with_no_redirect(hook: Any, gateway: LocalGateway) -> None:
    gateway.inject(Fault(status=302, body=""))
    with pytest.raises(BifrostError):
        hook.get_batch("batch_1")
    assert len(gateway.requests) == 1


def test_the_question_for_the_gateways_health_carries_no_token(hook: Any, gateway: LocalGateway) -> None:
    gateway.inject(Fault(status=200, body="<html></html>", content_type="text/html"))
    hook.test_connection()
    [health] = [request for request in gateway.requests if request.path == "/health"]
    assert "authorization" not in health.headers
