"""Local gateways behind the connection ``bifrost_default``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from airflow_bifrost.gateway.retry import RetryPolicy
from airflow_bifrost.hooks import clients
from airflow_bifrost.results import collect
from airflow_bifrost.testing import LocalGateway, ProviderBehavior
from airflow_bifrost.waiting import policy
from airflow_bifrost.worker import submit


class Ticks:
    """A clock that moves 50 ms whenever it is read, so that the number of attempts does not depend on the machine's speed."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        self._now += 0.05
        return self._now


def nap(seconds: float) -> None:
    """Sleep, but not for long."""
    time.sleep(min(seconds, 0.01))


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed call is retried at once, about nine times. A submission does not pause."""
    monkeypatch.setattr(submit, "TIMING", submit.LedgerTiming(sleep=nap))
    monkeypatch.setattr(clients, "POLICY", RetryPolicy(base=0.01, cap=0.01, clock=Ticks()))
    monkeypatch.setenv("AIRFLOW__BIFROST__RETRY_BUDGET", "0.5")


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalGateway]:
    """A local gateway that the connection ``bifrost_default`` leads to. Its batches do not change until a test changes them."""
    monkeypatch.setattr(policy, "PACE", replace(policy.PACE, min_interval=0.0))
    with LocalGateway(batch_seconds=3600, virtual_keys=["sk-bf-good", "sk-bf-new"]) as running:
        monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", running.connection_json(token="sk-bf-good"))
        yield running


@pytest.fixture
def quick_gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalGateway]:
    """A local gateway like ``gateway``, whose batches end after a moment, and without long pauses."""
    monkeypatch.setattr(policy, "PACE", replace(policy.PACE, min_interval=0.0))
    monkeypatch.setattr(submit, "TIMING", submit.LedgerTiming(sleep=nap, settle=0.0, late=0.0))
    monkeypatch.setattr(collect, "POLICY", collect.ReadPolicy(pause=0.0, grace=1.0, poll_interval=0.02))
    with LocalGateway(batch_seconds=0.2) as running:
        monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", running.connection_json(token="sk-bf-good"))
        yield running


@pytest.fixture
def deferring(quick_gateway: LocalGateway) -> None:
    """OpenAI's batches still run when they are first polled, however late that is: the task defers."""
    quick_gateway.behave("openai", ProviderBehavior(running_polls=1))


@pytest.fixture
def quick_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next attempt after a fault follows within a fraction of a second."""
    monkeypatch.setattr(policy, "PACE", replace(policy.PACE, first_fault=0.02, fault_cap=0.02))
