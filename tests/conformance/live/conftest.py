"""The conformance checks on a gateway of yours: ``make test-live GATEWAY=... TOKEN=... PROVIDER=...``, read-only unless ``--spend`` is given.

The environment has the same names, so that nobody sees the token: GATEWAY, TOKEN, PROVIDER, PREFIX (default /openai), MODEL.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.config import GatewayConfig

MODELS = {
    "openai": "gpt-4o-mini",
    "azure": "gpt-4o-mini",
    "anthropic": "claude-haiku-4-5",
    "gemini": "gemini-2.5-flash",
}


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


@dataclass(frozen=True)
class Live:
    """A gateway that is not ours."""

    config: GatewayConfig
    client: GatewayClient
    provider: str
    model: str | None

    def get(self, path: str) -> httpx.Response:
        """A GET that no client makes."""
        headers = {"authorization": f"Bearer {self.config.token}"} if self.config.token else {}
        verify = self.config.tls()
        return httpx.request(
            "GET",
            f"{self.config.root}{path}",
            headers=headers,
            verify=verify,
            follow_redirects=False,
            timeout=self.config.timeout,
        )


@pytest.fixture(scope="session")
def live() -> Iterator[Live]:
    if not os.environ.get("GATEWAY"):
        pytest.fail(
            "say which gateway: make test-live GATEWAY=https://... TOKEN=sk-bf-... PROVIDER=openai", pytrace=False
        )
    prefix = os.environ.get("PREFIX", "/openai").rstrip("/")
    provider = os.environ.get("PROVIDER") or "openai"
    config = GatewayConfig(
        os.environ["GATEWAY"], token=os.environ.get("TOKEN") or None, provider=provider, path_prefix=prefix, name="live"
    )
    with GatewayClient(config) as client:
        yield Live(config, client, provider, os.environ.get("MODEL") or MODELS.get(provider))
