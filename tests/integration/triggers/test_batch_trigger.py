"""The trigger over real HTTP: restarts, deadlines, sharing and the progress XCom."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

import pytest
from pytest_mock import MockerFixture
from support.airflow import fire, rebuilt
from support.triggers import DONE, Channel, first_event, trigger, until

from airflow_bifrost.hooks.bifrost import BifrostHook
from airflow_bifrost.testing import Fault, LocalGateway, ProviderBehavior
from airflow_bifrost.triggers import batch as trigger_module
from airflow_bifrost.waiting import hub as hub_module
from airflow_bifrost.waiting import schedule
from airflow_bifrost.waiting.decision import Finished, WaitState
from airflow_bifrost.waiting.handles import Listener
from airflow_bifrost.waiting.policy import WaitPolicy


def test_its_arguments_are_json_and_hold_no_token(gateway: LocalGateway) -> None:
    path, kwargs = trigger("b1").serialize()
    assert path == "airflow_bifrost.triggers.batch.BatchTrigger"
    assert rebuilt(trigger("b1")).serialize()[1].keys() == kwargs.keys()
    assert "sk-bf" not in json.dumps(kwargs)


@pytest.mark.usefixtures("channel")
def test_a_restart_of_the_triggerer_keeps_the_deadline(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=1, status="in_progress")
    waiting = trigger(batch_id, deadline=time.time() + 0.5)

    async def killed_after_a_poll() -> None:
        wait = asyncio.create_task(first_event(rebuilt(waiting)))
        await until(lambda: len(gateway.requests) >= 1)
        wait.cancel()
        await asyncio.gather(wait, return_exceptions=True)

    asyncio.run(killed_after_a_poll())
    time.sleep(max(0.0, waiting.deadline - time.time()))
    gateway.clear_requests()

    assert fire(waiting)["kind"] == "timeout"
    assert len(gateway.requests) == 1  # the last poll


@pytest.mark.usefixtures("channel")
def test_the_first_poll_is_sent_when_the_worker_said_and_not_before(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=1)
    gateway.set_batch(batch_id, **DONE)
    state = WaitState(batch_id).due_after(0.3, now=time.time())
    asyncio.run(first_event(trigger(batch_id, states=[state.to_json()])))
    [request] = gateway.requests
    assert request.at >= state.next_poll_at


@pytest.mark.usefixtures("channel")
def test_with_any_ended_one_batch_that_has_ended_is_enough(gateway: LocalGateway) -> None:
    slow = gateway.add_batch(status="in_progress")
    quick = gateway.add_batch(**DONE)
    event = asyncio.run(first_event(trigger(slow, quick, any_ended=True)))
    assert (event["kind"], event["waiting"]) == ("finished", [slow])
    assert [summary["batch_id"] for summary in event["summaries"]] == [quick]


@pytest.mark.usefixtures("channel")
def test_no_event_is_fired_soon_after_a_deferral(gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger_module, "FIRST_EVENT_AFTER", 3600.0)
    batch_id = gateway.add_batch(**DONE)

    async def event_or_poll() -> bool:
        event = asyncio.create_task(first_event(trigger(batch_id)))
        await until(lambda: len(gateway.requests) >= 1)
        await asyncio.sleep(0.05)
        fired = event.done()
        event.cancel()
        await asyncio.gather(event, return_exceptions=True)
        return fired

    assert not asyncio.run(event_or_poll())


@pytest.mark.usefixtures("channel", "quick_faults")
def test_a_trigger_that_starts_past_its_deadline_repeats_its_last_poll_until_it_has_an_answer(
    gateway: LocalGateway,
) -> None:
    done, running = gateway.add_batch(**DONE), gateway.add_batch(status="in_progress")
    gateway.inject(Fault(status=503, times=2))
    event = fire(trigger(done, deadline=time.time() - 3600))
    assert (event["kind"], event["summaries"][0]["outcome"]) == ("finished", "succeeded")
    event = fire(trigger(running, deadline=time.time() - 3600))
    assert (event["kind"], event["waiting"]) == ("timeout", [running])


@pytest.mark.usefixtures("channel")
def test_a_batch_that_names_its_files_late_is_polled_until_it_does(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=3, status="completed")
    gateway.behave("openai", ProviderBehavior(files_late=3))
    event = fire(trigger(batch_id))
    assert event["kind"] == "finished"
    assert event["summaries"][0]["output_file_id"]


@pytest.mark.usefixtures("channel")
def test_a_batch_that_never_names_its_files_ends_the_wait_after_the_grace(
    gateway: LocalGateway, caplog: pytest.LogCaptureFixture
) -> None:
    batch_id = gateway.add_batch(rows=3, status="completed")
    gateway.behave("openai", ProviderBehavior(files_late=10_000))
    event = fire(trigger(batch_id, results_grace=0.2))
    assert event["kind"] == "finished"
    assert event["summaries"][0]["output_file_id"] is None
    assert len(gateway.requests) >= 2


@pytest.mark.usefixtures("channel")
def test_all_triggers_of_a_loop_share_one_client_and_one_lookup_of_the_connection(
    gateway: LocalGateway, mocker: MockerFixture
) -> None:
    batch_ids = [gateway.add_batch(rows=1) for _ in range(20)]
    opening = mocker.spy(BifrostHook, "aopen_client")

    async def all_of_them() -> list[dict[str, Any]]:
        waits = [asyncio.create_task(first_event(trigger(batch_id))) for batch_id in batch_ids]
        await until(lambda: len(gateway.requests) >= len(batch_ids))
        for batch_id in batch_ids:
            gateway.set_batch(batch_id, **DONE)
        return await asyncio.gather(*waits)

    events = asyncio.run(all_of_them())
    assert {event["kind"] for event in events} == {"finished"}
    assert opening.call_count == 1
    assert opening.spy_return._http.is_closed


def test_the_last_trigger_to_leave_closes_the_client_also_when_it_is_cancelled(
    gateway: LocalGateway, channel: Channel
) -> None:
    batch_id = gateway.add_batch(rows=1, status="in_progress")

    async def cancelled() -> None:
        waits = [asyncio.create_task(first_event(trigger(batch_id))) for _ in range(3)]
        await until(lambda: len(gateway.requests) >= 3)
        client = hub_module._hubs[asyncio.get_running_loop()]["bifrost_default"]._connection.client
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        assert len(hub_module._hubs) == 0
        assert client._http.is_closed

    asyncio.run(cancelled())


def test_progress_is_written_while_it_waits_and_only_when_it_changed(gateway: LocalGateway, channel: Channel) -> None:
    batch_id = gateway.add_batch(rows=10)
    gateway.set_batch(batch_id, status="in_progress", request_counts={"total": 10, "completed": 2, "failed": 0})

    async def scenario() -> dict[str, Any]:
        wait = asyncio.create_task(first_event(trigger(batch_id)))
        await until(lambda: len(gateway.requests) >= 5)
        gateway.set_batch(batch_id, request_counts={"total": 10, "completed": 6, "failed": 0})
        await until(lambda: len(channel.progress) >= 2)
        gateway.set_batch(batch_id, **DONE)
        return await wait

    event = asyncio.run(scenario())
    assert [progress["percent"] for progress in channel.progress][:2] == [20.0, 60.0]
    assert len(channel.progress) <= 3
    assert event["progress"]["percent"] == 100.0
    assert set(channel.progress[0]) == {"status", "total", "completed", "failed", "percent", "checked_at"}


@pytest.mark.parametrize("outage", ["raises", "never answers"])
def test_the_wait_continues_if_the_progress_xcom_cannot_be_written(
    outage: str, gateway: LocalGateway, channel: Channel
) -> None:
    channel.raises = RuntimeError("no XComs today") if outage == "raises" else None
    channel.answers = outage == "raises"
    batch_id = gateway.add_batch(rows=10)
    gateway.set_batch(batch_id, status="in_progress", request_counts={"total": 10, "completed": 1, "failed": 0})

    async def scenario() -> dict[str, Any]:
        wait = asyncio.create_task(first_event(trigger(batch_id)))
        await until(lambda: any(type(message).__name__ == "SetXCom" for message in channel.sent))
        gateway.set_batch(batch_id, **DONE)
        return await asyncio.wait_for(wait, 60)

    assert asyncio.run(scenario())["kind"] == "finished"


@pytest.mark.usefixtures("channel", "quick_faults")
def test_a_wait_that_another_triggerer_has_begun_tolerates_what_a_new_one_would_not(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=1)
    gateway.set_batch(batch_id, **DONE)
    gateway.inject(Fault(status=200, body="<html>", content_type="text/html", times=2))
    # The worker met an outage; an earlier triggerer may have met none.
    begun = WaitState(batch_id, next_poll_at=time.time() - 60)
    assert fire(trigger(batch_id, states=[begun.to_json()]))["kind"] == "finished"


def test_a_corrected_connection_reaches_waits_that_run(
    gateway: LocalGateway, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__BIFROST__CONNECTION_TTL", "0.2")
    batch_id = gateway.add_batch(rows=1, status="in_progress")

    async def scenario() -> dict[str, Any]:
        wait = asyncio.create_task(first_event(trigger(batch_id)))
        await until(lambda: len(gateway.requests) >= 2)
        with LocalGateway(batch_seconds=3600) as other:
            other.add_batch(batch_id=batch_id, rows=1, status="completed")
            monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", other.connection_json())
            return await asyncio.wait_for(wait, 60)

    assert asyncio.run(scenario())["kind"] == "finished"


def test_a_trigger_that_is_cancelled_does_not_take_the_lookup_from_the_others(gateway: LocalGateway) -> None:
    looked_up = []

    go_on = asyncio.Event()

    async def slowly(conn_id: str) -> Any:
        await go_on.wait()
        looked_up.append(await BifrostHook().aopen_client())
        return looked_up[-1]

    async def two() -> None:
        batch_id = gateway.add_batch(rows=1)
        gateway.set_batch(batch_id, **DONE)
        policy = WaitPolicy(0.05, time.time() + 60, 0)
        nobody = Listener()
        async with hub_module.Hub.join("bifrost_default", slowly) as hub:
            first = hub.wait(WaitState(batch_id), None, policy, nobody)
            second = hub.wait(WaitState(batch_id), None, policy, nobody)
            await asyncio.sleep(0.05)  # for the lookup to begin
            first.cancel()
            go_on.set()
            assert isinstance(await second, Finished)
        assert first.cancelled()

    asyncio.run(two())
    assert len(looked_up) == 1


@pytest.mark.usefixtures("channel")
def test_a_slow_provider_does_not_delay_the_others(gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__BIFROST__COALESCE", "False")
    slow = [gateway.add_batch("azure", rows=1, status="in_progress") for _ in range(20)]
    quick = gateway.add_batch(rows=1)
    gateway.set_batch(quick, **DONE)
    gateway.inject(Fault(delay=30, provider="azure", times=None))

    async def all_of_them() -> dict[str, Any]:
        waits = [asyncio.create_task(first_event(trigger(batch_id, provider="azure"))) for batch_id in slow]
        await until(lambda: len(gateway.requests) >= 6)
        event = await asyncio.wait_for(first_event(trigger(quick)), 20)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        return event

    assert asyncio.run(all_of_them())["kind"] == "finished"


@pytest.mark.usefixtures("channel")
def test_an_answer_that_does_not_come_does_not_move_the_deadline(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "LAST_POLL_WITHIN", 0.2)
    batch_id = gateway.add_batch(rows=1, status="in_progress")
    gateway.inject(Fault(delay=60, times=None))
    assert fire(trigger(batch_id, deadline=time.time() + 0.5))["kind"] == "timeout"


@pytest.mark.usefixtures("channel", "quick_faults")
def test_a_permanent_error_about_one_batch_ends_the_wait_for_all(gateway: LocalGateway) -> None:
    good, bad = gateway.add_batch(rows=1, status="in_progress"), gateway.add_batch(rows=1, status="in_progress")
    gateway.inject(Fault(status=400, path_contains=bad, times=None))
    event = fire(trigger(good, bad))
    assert event["kind"] == "error"
    assert event["error"]["type"] == "BifrostRequestError"


def test_the_last_wait_to_end_closes_the_hub(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(rows=1)
    gateway.set_batch(batch_id, **DONE)
    fire(trigger(batch_id))
    assert len(hub_module._hubs) == 0


def test_the_log_names_the_batch_and_never_the_token(
    gateway: LocalGateway, channel: Channel, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    batch_id = gateway.add_batch(rows=1)
    gateway.set_batch(batch_id, status="in_progress")

    async def scenario() -> None:
        wait = asyncio.create_task(first_event(trigger(batch_id)))
        await until(lambda: len(gateway.requests) >= 1)
        gateway.set_batch(batch_id, **DONE)
        await wait

    with caplog.at_level(logging.DEBUG):
        asyncio.run(scenario())
    logged = caplog.text + "".join(capsys.readouterr())  # Airflow's own logging goes to either
    assert batch_id in logged
    assert "sk-bf-good" not in logged
