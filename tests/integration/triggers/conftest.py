"""A triggerer's channel to Airflow, for the tests of triggers."""

from __future__ import annotations

import pytest
from support.triggers import Channel

from airflow_bifrost.triggers import batch as trigger_module


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch) -> Channel:
    """A triggerer's channel to Airflow, and events without the usual five seconds."""
    from airflow.sdk.execution_time import task_runner

    channel = Channel()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", channel, raising=False)
    monkeypatch.setattr(trigger_module, "FIRST_EVENT_AFTER", 0.0)
    monkeypatch.setenv("AIRFLOW__BIFROST__PROGRESS_INTERVAL", "0")
    return channel
