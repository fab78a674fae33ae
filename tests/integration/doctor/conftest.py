"""The doctor at a gateway, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.odd_gateway import TOKEN, OddGateway

from airflow_bifrost.doctor.examination import examine
from airflow_bifrost.doctor.findings import Finding, Report
from airflow_bifrost.testing import LocalGateway, VirtualKey


class Visit:
    """A report, by the names of its checks."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.by_name = {finding.name: finding for finding in report.findings}

    def __getitem__(self, name: str) -> Finding:
        return self.by_name[name]

    def states(self, *names: str) -> list[str]:
        return [self.by_name[name].state for name in names]


@pytest.fixture(scope="session")
def shared_gateway() -> Iterator[LocalGateway]:
    keys = [TOKEN, VirtualKey("sk-bf-openai-only", providers=("openai",))]
    with LocalGateway(batch_seconds=3600, virtual_keys=keys, enforce_auth=True) as running:
        yield running


@pytest.fixture
def gateway(shared_gateway: LocalGateway) -> LocalGateway:
    """A gateway that wants a token, and has three batches of OpenAI."""
    shared_gateway.reset()
    for _ in range(3):
        shared_gateway.add_batch("openai", status="completed")
    return shared_gateway


@pytest.fixture
def odd() -> Iterator[OddGateway]:
    with OddGateway() as running:
        yield running


@pytest.fixture
def visit(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Visit]:
    """Connect to a URL, and see what the doctor finds."""

    def visit(host: str, token: str | None = TOKEN, **extra: Any) -> Visit:
        connection = {"conn_type": "bifrost", "host": host, "password": token, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_GW", json.dumps(connection))
        return Visit(examine("gw"))

    return visit
