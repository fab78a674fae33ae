"""What the trigger cancels when a user ends a deferred task, and what it leaves for the next attempt."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest
from pytest_mock import MockerFixture
from support.airflow import rebuilt
from support.triggers import TASK, Channel, trigger

from airflow_bifrost.testing import Fault, LocalGateway
from airflow_bifrost.triggers import batch as trigger_module
from airflow_bifrost.triggers import uncancelled
from airflow_bifrost.triggers.batch import BatchTrigger


def kill(trigger: BatchTrigger) -> None:
    trigger.task_instance = TASK
    asyncio.run(trigger.on_kill())


def cancelled_in(gateway: LocalGateway) -> set[str]:
    return {request.path.split("/")[-2] for request in gateway.requests if request.path.endswith("/cancel")}


@pytest.mark.parametrize(
    ("state", "run_state", "cancels"),
    [
        ("failed", "running", True),
        ("failed", "failed", True),  # a user failed the DAG run
        ("success", "running", True),
        ("skipped", "running", True),
        ("skipped", "failed", False),  # dagrun_timeout, or fail_fast
        ("deferred", "running", False),
        ("running", "running", False),
        ("scheduled", "running", False),
        (None, "running", False),
    ],
)
def test_on_kill_cancels_only_when_a_user_has_ended_the_task(
    state: str | None, run_state: str, cancels: bool, gateway: LocalGateway, channel: Channel
) -> None:
    channel.state, channel.run_state = state, run_state
    batch_id = gateway.add_batch(rows=10, status="in_progress")
    kill(trigger(batch_id, cancel_on_kill=True))
    assert bool(cancelled_in(gateway)) == cancels


def test_on_kill_repeats_a_cancel_that_meets_a_transient_error(gateway: LocalGateway, channel: Channel) -> None:
    channel.state = "failed"
    batch_id = gateway.add_batch(rows=10, status="in_progress")
    gateway.inject(Fault(call="batch_cancel", status=503, times=2))
    kill(trigger(batch_id, cancel_on_kill=True))
    [batch] = gateway.batches
    assert batch["status"] in ("cancelling", "cancelled")


def test_on_kill_asks_for_every_batch_although_each_answer_is_slow(
    gateway: LocalGateway, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel.state = "failed"
    monkeypatch.setattr(trigger_module, "CANCEL_WITHIN", 3.0)
    batch_ids = [gateway.add_batch(status="in_progress") for _ in range(30)]
    gateway.inject(Fault(call="batch_cancel", delay=0.2, times=None))  # 6 s, one after another
    kill(trigger(*batch_ids, cancel_on_kill=True))
    assert cancelled_in(gateway) == set(batch_ids)


def test_on_kill_says_which_batches_go_on_costing_money(
    gateway: LocalGateway, channel: Channel, monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture
) -> None:
    channel.state = "failed"
    monkeypatch.setattr(trigger_module, "CANCEL_WITHIN", 0.5)
    good, bad = gateway.add_batch(status="in_progress"), gateway.add_batch(status="in_progress")
    gateway.inject(Fault(call="batch_cancel", status=503, path_contains=bad, times=None))
    killed = trigger(good, bad, cancel_on_kill=True)
    log = mocker.spy(killed.log, "log")
    kill(killed)
    said = {call.args[0]: call.args[1] for call in log.call_args_list}
    assert good in said[logging.INFO]
    assert "1 of 2 batches could not be cancelled" in said[logging.ERROR]
    assert bad in said[logging.ERROR]
    assert "billed" in said[logging.ERROR]


def test_on_kill_cancels_no_batch_that_may_be_another_tasks(gateway: LocalGateway, channel: Channel) -> None:
    channel.state = "failed"
    own, unknown = gateway.add_batch(status="in_progress"), gateway.add_batch(status="in_progress")
    kill(rebuilt(trigger(own, unknown, cancel_on_kill=True, may_cancel=[own])))
    assert cancelled_in(gateway) == {own}


def test_on_kill_leaves_what_it_could_not_cancel_for_the_next_attempt(
    gateway: LocalGateway, channel: Channel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    channel.state = "failed"
    monkeypatch.setattr(trigger_module, "CANCEL_WITHIN", 0.5)
    good, bad = gateway.add_batch(status="in_progress"), gateway.add_batch(status="in_progress")
    gateway.inject(Fault(call="batch_cancel", status=401, path_contains=bad, times=None))
    path = tmp_path / "left.json"
    kill(rebuilt(trigger(good, bad, cancel_on_kill=True, uncancelled=str(path))))
    assert uncancelled.left(str(path)) == [bad]


def test_on_kill_leaves_no_file_if_it_cancelled_everything(
    gateway: LocalGateway, channel: Channel, tmp_path: Path
) -> None:
    channel.state = "failed"
    batch_id = gateway.add_batch(status="in_progress")
    kill(trigger(batch_id, cancel_on_kill=True, uncancelled=str(tmp_path / "left.json")))
    assert list(tmp_path.iterdir()) == []


def test_on_kill_says_so_if_it_cannot_leave_what_it_could_not_cancel(
    gateway: LocalGateway, channel: Channel, mocker: MockerFixture
) -> None:
    channel.state = "failed"
    batch_id = gateway.add_batch(status="in_progress")
    gateway.inject(Fault(call="batch_cancel", status=401, times=None))
    killed = trigger(batch_id, cancel_on_kill=True, uncancelled="odd://nowhere/left.json")
    log = mocker.spy(killed.log, "log")
    kill(killed)
    assert any("odd://nowhere/left.json" in str(call) for call in log.call_args_list)


def test_on_kill_of_a_trigger_that_was_left_behind_cancels_nothing(gateway: LocalGateway, channel: Channel) -> None:
    channel.state = "failed"
    batch_id = gateway.add_batch(rows=10, status="in_progress")
    killed = trigger(batch_id, cancel_on_kill=True, deadline=time.time() - 1)
    killed.task_instance = TASK
    asyncio.run(killed.on_kill())
    assert gateway.requests == []


def test_on_kill_cancels_nothing_unless_asked_to(gateway: LocalGateway, channel: Channel) -> None:
    channel.state = "failed"
    batch_id = gateway.add_batch(rows=10, status="in_progress")
    killed = trigger(batch_id)
    killed.task_instance = TASK
    asyncio.run(killed.on_kill())
    assert gateway.requests == []


def test_on_kill_gives_up_when_airflow_does_not_answer(
    gateway: LocalGateway, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trigger_module, "CANCEL_WITHIN", 0.2)
    channel.answers = False
    batch_id = gateway.add_batch(rows=10, status="in_progress")
    killed = trigger(batch_id, cancel_on_kill=True)
    killed.task_instance = TASK
    asyncio.run(killed.on_kill())
    assert gateway.requests == []
