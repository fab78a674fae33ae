"""What a wait tells Airflow's metrics."""

from __future__ import annotations

import time
from typing import Any
from unittest.mock import MagicMock

import pytest
from pytest_mock import MockerFixture
from support.airflow import fire

from airflow_bifrost.exceptions import BifrostUnavailable
from airflow_bifrost.testing import Fault, LocalGateway
from airflow_bifrost.triggers import batch as trigger_module
from airflow_bifrost.triggers.batch import BatchTrigger
from airflow_bifrost.triggers.stats import AirflowMeter


@pytest.fixture
def stats(mocker: MockerFixture) -> MagicMock:
    """In the place of Airflow's own, which would send them away."""
    recorder: MagicMock = mocker.patch("airflow_bifrost.triggers.stats.stats").return_value
    return recorder


def wait_for(batch_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger_module, "FIRST_EVENT_AFTER", 0.0)
    trigger = BatchTrigger(
        batch_ids=[batch_id],
        bifrost_conn_id="bifrost_default",
        provider=None,
        poll_interval=0.05,
        deadline=time.time() + 60,
    )
    fire(trigger)


def counted(stats: MagicMock, name: str) -> list[dict[str, Any]]:
    return [call.kwargs["tags"] for call in stats.incr.call_args_list if call.args[0] == name]


def test_a_wait_is_counted_while_it_lasts(
    gateway: LocalGateway, stats: MagicMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for(gateway.add_batch(status="completed"), monkeypatch)
    waiting = [call.args[1] for call in stats.gauge.call_args_list if call.args[0] == "bifrost.waiting"]
    assert waiting == [1, 0]


def test_each_request_is_counted_with_its_kind_and_what_came_of_it(
    gateway: LocalGateway, stats: MagicMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.inject(Fault(status=503))
    wait_for(gateway.add_batch(status="completed"), monkeypatch)
    assert counted(stats, "bifrost.polls") == [
        {"connection": "bifrost_default", "kind": "batch", "result": "BifrostUnavailable"},
        {"connection": "bifrost_default", "kind": "batch", "result": "ok"},
    ]


def test_the_time_from_a_batchs_end_to_its_detection_is_sent(
    gateway: LocalGateway, stats: MagicMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for(gateway.add_batch(status="completed"), monkeypatch)
    (sent,) = [call for call in stats.timing.call_args_list if call.args[0] == "bifrost.detection_delay"]
    assert sent.args[1].total_seconds() >= 0


def test_airflows_own_metrics_accept_every_metric() -> None:
    meter = AirflowMeter("bifrost_default")
    meter.waiting(1)
    meter.poll("list", BifrostUnavailable("no answer"))
    meter.saved(99)
    meter.detected(-0.5)
    meter.outage(True)
