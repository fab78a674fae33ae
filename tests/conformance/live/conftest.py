"""The conformance checks on your own gateway: ``make test-live GATEWAY=... TOKEN=... PROVIDER=...``, read-only unless ``--spend`` is given.

The environment has the same names, so that nobody sees the token: GATEWAY, TOKEN, PROVIDER, PREFIX (default /openai; / for none),
MODEL, and for results in an object store OUTPUT and ROLE. An empty variable counts as not set.
Before the first check one batch is listed: where that fails, nothing else is asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NoReturn

import pytest

from airflow_bifrost.exceptions import (
    BatchNotFound,
    BifrostAuthError,
    BifrostBudgetExceeded,
    BifrostGatewayError,
    BifrostProtocolError,
    BifrostRequestError,
)
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.config import DEFAULT_PATH_PREFIX, DEFAULT_PROVIDER, GatewayConfig
from airflow_bifrost.gateway.retry import NO_RETRY

from .gateway import Live

MODELS = {
    "openai": "gpt-4o-mini",
    "azure": "gpt-4o-mini",
    "anthropic": "claude-haiku-4-5",
    "gemini": "gemini-2.5-flash",
    "bedrock": "anthropic.claude-3-haiku-20240307-v1:0",
    "vertex": "gemini-2.5-flash",
}
VARIABLES = {"host": "GATEWAY", "schema": "GATEWAY", "port": "GATEWAY", "path_prefix": "PREFIX", "password": "TOKEN"}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("live", "the gateway of GATEWAY=, TOKEN=, PROVIDER=")
    group.addoption("--spend", action="store_true", help="also submit two batches of three one-token rows")
    group.addoption(
        "--wait", type=float, default=3600, help="seconds to wait for the batch that is downloaded (default: 3600)"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What costs money is not there unless it is asked for."""
    costly = [item for item in items if item.get_closest_marker("spends")]
    if costly and not config.getoption("--spend"):
        config.hook.pytest_deselected(items=costly)
        items[:] = [item for item in items if item not in costly]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "spends: submits a batch, which costs money")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """One poll of the gateway before the first check, in place of the same fault from every one of them."""
    if not session.items or session.config.option.collectonly:
        return
    config = config_of_environment()
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    reporter.write_line(
        f"checking {config.root}, prefix {config.path_prefix or '/'}, provider {config.provider},"
        f" model {model_of_environment(config.provider) or 'none'}"
    )
    reporter.flush()
    hurried = replace(config, connect_timeout=5, timeout=35)  # gateway 1.4 waits 30 s for a provider
    try:
        with GatewayClient(hurried, retry=NO_RETRY) as client:
            client.list_page(limit=1)
    except BifrostGatewayError as error:
        happened = f"no answer ({error.problem})" if error.status_code is None else error.problem.rstrip(".")
        stop(f"{config.root} cannot be checked: {happened}. {advice(error, config)}")


def config_of_environment() -> GatewayConfig:
    """The gateway that the variables name, if they can name one."""
    if not os.environ.get("GATEWAY"):
        stop("say which gateway: make test-live GATEWAY=https://... TOKEN=sk-bf-... PROVIDER=openai")
    try:
        return GatewayConfig(
            os.environ["GATEWAY"],
            token=os.environ.get("TOKEN") or None,
            provider=(os.environ.get("PROVIDER") or DEFAULT_PROVIDER).strip().lower(),
            path_prefix=(os.environ.get("PREFIX") or DEFAULT_PATH_PREFIX).rstrip("/"),
            name="live",
        )
    except ValueError as error:
        field, _, wrong = str(error).partition(": ")
        wrong = wrong.replace("path_prefix", "PREFIX").replace("the password field", "TOKEN")
        if field == "schema":
            wrong = "it must begin with http:// or https://"
        elif field == "path_prefix":
            wrong += f", not {os.environ['PREFIX']!r}"
        stop(f"{VARIABLES[field]}: {wrong}")


def model_of_environment(provider: str) -> str | None:
    return os.environ.get("MODEL") or MODELS.get(provider)


def stop(message: str) -> NoReturn:
    pytest.exit(message, returncode=1)


def advice(error: BifrostGatewayError, config: GatewayConfig) -> str:
    """What to do about it, by the names of the variables."""
    address = "Check GATEWAY" + (
        f", and PREFIX, which is set to {os.environ['PREFIX']!r}." if os.environ.get("PREFIX") else " and PREFIX."
    )
    match error:
        case BifrostAuthError() if not config.token:
            return "Give it a virtual key: TOKEN=sk-bf-..."
        case BifrostAuthError():
            return f"A token was sent: check TOKEN, that it may use {config.provider}, and the key of {config.provider} in the gateway."
        case BifrostBudgetExceeded():
            return "Raise the budget of the virtual key, or give another: TOKEN=sk-bf-..."
        case BatchNotFound():
            return address
        case BifrostRequestError():
            since = " Gateways up to 1.4 have no batches on Vertex." if config.provider == "vertex" else ""
            return f"Check PROVIDER: {config.provider!r} must be a provider of the gateway with a key for batches (use_for_batch_api).{since}"
        case BifrostProtocolError(transient=False):
            return address
        case BifrostGatewayError(status_code=None):
            return "Check GATEWAY, and that the gateway runs and can be reached from here."
    return "This can pass: try again later."


@pytest.fixture(scope="session")
def live() -> Iterator[Live]:
    config = config_of_environment()
    with GatewayClient(config) as client:
        yield Live(
            config,
            client,
            config.provider,
            model_of_environment(config.provider),
            output=os.environ.get("OUTPUT", ""),
            role=os.environ.get("ROLE", ""),
            is_bifrost=client.version() is not None,
        )


@pytest.fixture
def say(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Write a line that is seen at once, and also if the run is interrupted."""
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")

    def line(text: str) -> None:
        with capsys.disabled():
            reporter.write_line(text)
            reporter.flush()

    return line
