"""The hub sends and receives: requests, tasks, clients and lookups are counted, and no mistake or rotated token hangs a wait.

Which batch is polled when, is tested in ``tests/unit/waiting/test_schedule.py``.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from airflow_bifrost.exceptions import (
    BifrostAuthError,
    BifrostConfigurationError,
    BifrostProtocolError,
    BifrostRequestError,
)
from airflow_bifrost.gateway.async_client import AsyncGatewayClient
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.gateway.retry import NO_RETRY
from airflow_bifrost.waiting.decision import Finished, GiveUp, WaitState
from airflow_bifrost.waiting.handles import Listener, WaitHandle
from airflow_bifrost.waiting.hub import Hub
from airflow_bifrost.waiting.meter import Meter
from airflow_bifrost.waiting.policy import Pace, WaitPolicy

QUICK = Pace(min_interval=0.0, first_fault=0.05, fault_cap=0.2)


def policy_of(interval: float, patience: float = 60.0) -> WaitPolicy:
    return WaitPolicy(interval, time.time() + patience, 300, pace=QUICK)


class FakeGateway:
    """A gateway of ``number`` batches, newest first in its list, as an httpx transport. ``answer`` may replace an answer."""

    def __init__(self, number: int, *, provider: str = "openai", latency: float = 0.0, **config: Any) -> None:
        self.ids = [f"batch_{n:05d}" for n in range(number)]
        self.provider = provider
        self.latency = latency
        self.config: dict[str, Any] = {"token": "sk-bf-good", "provider": provider, **config}
        self.status: dict[str, str] = {}
        self.asked: list[tuple[str, str]] = []
        self.lookups = 0
        self.at_once = self.most_at_once = self.most_tasks = 0
        self.answer: Callable[[str, str], httpx.Response | None] = lambda kind, what: None

    @property
    def count(self) -> Counter[str]:
        return Counter(kind for kind, _ in self.asked)

    async def open(self, conn_id: str = "c") -> AsyncGatewayClient:
        self.lookups += 1
        config = GatewayConfig("http://gw.example", **self.config)
        return AsyncGatewayClient(config, retry=NO_RETRY, transport=httpx.MockTransport(self._handle))

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        is_list = request.url.path.endswith("/batches")
        kind, what = (
            ("list", request.url.params.get("after", "")) if is_list else ("get", request.url.path.rpartition("/")[2])
        )
        self.asked.append((kind, what))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.most_tasks = max(self.most_tasks, len(asyncio.all_tasks()))
        try:
            await asyncio.sleep(self.latency)
            return self.answer(kind, what) or httpx.Response(
                200, json=self._page(what) if is_list else self._batch(what)
            )
        finally:
            self.at_once -= 1

    def _batch(self, batch_id: str, *, listed: bool = False) -> dict[str, Any]:
        shown = batch_id.removeprefix("batches-") if listed and self.provider == "gemini" else batch_id
        counts = (
            {"total": 0, "completed": 0, "failed": 0} if listed and self.provider in ("gemini", "bedrock") else None
        )
        return {
            "id": shown,
            "status": self.status.get(batch_id, "in_progress"),
            "created_at": 1_775_400_000 + int(batch_id[-5:]),
            "request_counts": counts or {"total": 10, "completed": 4, "failed": 0},
            "output_file_id": f"file_{shown}",
            "extra_fields": {},
        }

    def _page(self, after: str) -> dict[str, Any]:
        newest_first = self.ids[::-1]
        start = (
            newest_first.index(json.loads(base64.b64decode(after))["c"]) + 1
            if after and self.provider == "openai"
            else 0
        )
        page = newest_first[start : start + 100]
        body: dict[str, Any] = {
            "object": "list",
            "data": [self._batch(i, listed=True) for i in page],
            "extra_fields": {},
        }
        if start + 100 < len(newest_first):
            cursor = base64.b64encode(json.dumps({"v": 1, "i": 0, "c": page[-1]}).encode()).decode()
            body |= {"has_more": True, "next_cursor": cursor}
        return body


class Deaf(Listener):
    """Keeps the lines at most."""

    def __init__(self, lines: list[str] | None = None) -> None:
        self.lines = lines if lines is not None else []

    def say(self, level: int, text: str) -> None:
        self.lines.append(text)


async def wait_for_all(
    gateway: FakeGateway,
    script: Callable[[list[asyncio.Future[Any]]], Awaitable[None]],
    *,
    interval: float = 0.05,
    patience: float = 60.0,
    limit: float = 100.0,
    ids: list[str] | None = None,
    meter: Meter | None = None,
    said: list[str] | None = None,
    listener: Listener | None = None,
    clock: Callable[[], float] = time.time,
) -> list[Any]:
    """Wait for every batch of the gateway while ``script`` does what it does; the ends, or None where there is none yet."""
    policy = policy_of(interval, patience)
    listener = listener or Deaf([] if said is None else said)
    async with Hub.join("c", gateway.open, lambda _: meter or Meter("c"), clock=clock) as hub:
        waits = [
            hub.wait(
                WaitState(batch_id, next_poll_at=time.time() + interval * random.random()),
                None,
                policy,
                listener,
            )
            for batch_id in (gateway.ids if ids is None else ids)
        ]
        async with asyncio.timeout(limit):
            await script(waits)
        return [wait.result() if wait.done() else None for wait in waits]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.01)


def test_a_thousand_waits_need_one_lookup_one_client_and_no_task_each() -> None:
    gateway = FakeGateway(1000, latency=0.01)

    async def a_while(waits: list[Any]) -> None:
        await until(lambda: gateway.count["list"] >= 20)

    asyncio.run(wait_for_all(gateway, a_while))
    assert gateway.lookups == 1
    assert gateway.most_at_once <= 8
    assert gateway.most_tasks <= 8 + 4  # the requests, the test, the lookup, httpx's own


def test_each_batch_that_has_ended_is_confirmed_by_one_poll() -> None:
    gateway = FakeGateway(300)
    meter_saved: list[int] = []

    class Counting(Meter):
        def saved(self, number: int) -> None:
            meter_saved.append(number)

    async def end_them(waits: list[Any]) -> None:
        await until(lambda: gateway.count["list"] >= 3)
        gateway.asked.clear()
        for batch_id in gateway.ids[::3]:
            gateway.status[batch_id] = "completed"
        await asyncio.wait(waits[::3])

    ends = asyncio.run(wait_for_all(gateway, end_them, meter=Counting("c")))
    assert all(isinstance(end, Finished) for end in ends[::3])
    assert not any(ends[1::3])
    asked = Counter(what for kind, what in gateway.asked if kind == "get")
    assert {asked[batch_id] for batch_id in gateway.ids[::3]} == {1}
    assert sum(meter_saved) > 300


@pytest.mark.parametrize("coalesce", [True, False])
def test_every_wait_finishes_whether_the_list_is_polled_or_not(coalesce: bool) -> None:
    gateway = FakeGateway(250, coalesce=coalesce)

    async def all_end(waits: list[Any]) -> None:
        await until(lambda: len(gateway.asked) >= 3)
        gateway.status.update(dict.fromkeys(gateway.ids, "completed"))
        await asyncio.wait(waits)

    ends = asyncio.run(wait_for_all(gateway, all_end))
    assert all(isinstance(end, Finished) for end in ends)
    assert (gateway.count["list"] > 0) is coalesce


@pytest.mark.parametrize("status", [403, 500])
def test_where_the_list_is_refused_or_broken_every_batch_is_polled_by_its_id(status: int) -> None:
    gateway = FakeGateway(30)
    gateway.answer = lambda kind, what: httpx.Response(status, json={"extra_fields": {}}) if kind == "list" else None
    gateway.status.update(dict.fromkeys(gateway.ids, "completed"))

    async def all_end(waits: list[Any]) -> None:
        await asyncio.wait(waits)

    ends = asyncio.run(wait_for_all(gateway, all_end))
    assert all(isinstance(end, Finished) for end in ends)
    assert gateway.count["list"] <= 4


def test_a_list_of_something_else_is_not_used() -> None:
    gateway = FakeGateway(30)
    gateway.answer = lambda kind, what: httpx.Response(200, json={"models": []}) if kind == "list" else None
    gateway.status.update(dict.fromkeys(gateway.ids, "completed"))

    async def all_end(waits: list[Any]) -> None:
        await asyncio.wait(waits)

    assert all(isinstance(end, Finished) for end in asyncio.run(wait_for_all(gateway, all_end)))


def test_a_gemini_batch_is_found_in_the_list_under_its_other_id_and_counts_come_from_single_polls() -> None:
    gateway = FakeGateway(0, provider="gemini")
    gateway.ids = [f"batches-{n:05d}" for n in range(20)]
    counted: list[int | None] = []

    class Counting(Deaf):
        def seen(self, batch_id: str, batch: Batch, provider: str) -> None:
            counted.append(batch.request_counts.total)

    async def all_end(waits: list[Any]) -> None:
        await until(lambda: gateway.count["list"] >= 3)
        gateway.status.update(dict.fromkeys(gateway.ids, "completed"))
        await asyncio.wait(waits)

    ends = asyncio.run(wait_for_all(gateway, all_end, listener=Counting()))
    assert all(isinstance(end, Finished) for end in ends)
    assert set(counted) == {10}


def test_the_metrics_tell_when_an_outage_begins_and_ends() -> None:
    gateway = FakeGateway(20, coalesce=False)
    gateway.answer = lambda kind, what: httpx.Response(503)
    outage: list[bool] = []

    class Noticing(Meter):
        def outage(self, on: bool) -> None:
            outage.append(on)

    async def an_outage(waits: list[Any]) -> None:
        await until(lambda: outage == [True])
        assert not any(wait.done() for wait in waits)
        gateway.answer = lambda kind, what: None
        gateway.status.update(dict.fromkeys(gateway.ids, "completed"))
        await asyncio.wait(waits)

    ends = asyncio.run(wait_for_all(gateway, an_outage, meter=Noticing("c")))
    assert all(isinstance(end, Finished) for end in ends)
    assert outage == [True, False, False]  # the last one when the hub closes


def test_an_answer_about_another_batch_is_no_answer() -> None:
    gateway = FakeGateway(2, coalesce=False)
    asked, other = gateway.ids
    gateway.status[other] = "completed"
    about_the_other = httpx.Response(200, json=gateway._batch(other))
    gateway.answer = lambda kind, what: about_the_other

    async def it_ends(waits: list[Any]) -> None:
        await asyncio.wait(waits)

    (end,) = asyncio.run(wait_for_all(gateway, it_ends, ids=[asked]))
    assert isinstance(end, GiveUp)
    assert isinstance(end.error, BifrostProtocolError)


def test_a_list_that_shows_running_batches_as_ended_never_ends_a_wait() -> None:
    gateway = FakeGateway(20)
    lie = gateway._page("")
    lie["data"] = [{**entry, "status": "completed"} for entry in lie["data"]]
    gateway.answer = lambda kind, what: httpx.Response(200, json=lie) if kind == "list" else None

    async def they_are_confirmed(waits: list[Any]) -> None:
        await until(lambda: {what for kind, what in gateway.asked if kind == "get"} == set(gateway.ids))
        await until(lambda: gateway.count["list"] >= 2)

    ends = asyncio.run(wait_for_all(gateway, they_are_confirmed))
    assert ends == [None] * 20


def test_a_wait_is_one_object_without_a_dictionary() -> None:
    async def a_wait() -> WaitHandle:
        async with Hub.join("c", FakeGateway(1).open) as hub:
            return hub.wait(WaitState("b1", next_poll_at=time.time() + 60), None, policy_of(60.0), Deaf())

    assert not hasattr(asyncio.run(a_wait()), "__dict__")


def test_a_refused_token_is_looked_up_once_for_all_waits() -> None:
    gateway = FakeGateway(100, coalesce=False)
    gateway.answer = lambda kind, what: httpx.Response(401, json={"type": "virtual_key_required", "error": {}})

    async def all_end(waits: list[Any]) -> None:
        await asyncio.wait(waits)

    ends = asyncio.run(wait_for_all(gateway, all_end))
    assert all(isinstance(end, GiveUp) and isinstance(end.error, BifrostAuthError) for end in ends)
    assert gateway.lookups <= 3


def test_a_rotated_token_is_picked_up_by_all_waits() -> None:
    gateway = FakeGateway(100, coalesce=False)

    async def rotate(waits: list[Any]) -> None:
        await until(lambda: len(gateway.asked) >= 100)
        gateway.config["token"] = "sk-bf-new"
        gateway.answer = lambda kind, what: None if gateway.lookups > 1 else httpx.Response(401, json={"error": {}})
        await until(lambda: gateway.lookups > 1)
        gateway.status.update(dict.fromkeys(gateway.ids, "completed"))
        await asyncio.wait(waits)

    ends = asyncio.run(wait_for_all(gateway, rotate))
    assert all(isinstance(end, Finished) for end in ends)
    assert gateway.lookups == 2


def test_an_undefined_connection_ends_every_wait() -> None:
    gateway = FakeGateway(20)

    async def none(conn_id: str) -> AsyncGatewayClient:
        raise BifrostConfigurationError("no such connection")

    gateway.open = none  # type: ignore[method-assign]

    async def all_end(waits: list[Any]) -> None:
        await asyncio.wait(waits)

    ends = asyncio.run(wait_for_all(gateway, all_end))
    assert all(isinstance(end, GiveUp) and isinstance(end.error, BifrostConfigurationError) for end in ends)


def test_a_permanent_error_about_one_batch_ends_its_wait_only() -> None:
    gateway = FakeGateway(10, coalesce=False)
    wrong = httpx.Response(400, json={"error": {"message": "no"}, "extra_fields": {}})
    gateway.answer = lambda kind, what: wrong if what == gateway.ids[3] else None

    async def it_ends(waits: list[Any]) -> None:
        await asyncio.wait([waits[3]])

    ends = asyncio.run(wait_for_all(gateway, it_ends))
    assert isinstance(ends[3].error, BifrostRequestError)
    assert sum(end is not None for end in ends) == 1


def test_a_bug_in_a_listener_ends_the_waits_and_hangs_none() -> None:
    gateway = FakeGateway(5, coalesce=False)

    class Wrong(Deaf):
        def seen(self, *_: Any) -> None:
            raise ZeroDivisionError

    async def all_end(waits: list[Any]) -> None:
        await asyncio.wait(waits)
        assert all(isinstance(wait.exception(), ZeroDivisionError) for wait in waits)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(wait_for_all(gateway, all_end, listener=Wrong()))


def test_a_replaced_client_is_closed_while_the_waits_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[AsyncGatewayClient] = []
    closed: list[AsyncGatewayClient] = []
    gateway = FakeGateway(10, coalesce=False, connection_ttl=0.05)
    open_one, close_one = gateway.open, AsyncGatewayClient.aclose

    async def opening(conn_id: str) -> AsyncGatewayClient:
        opened.append(await open_one())
        return opened[-1]

    async def closing(client: AsyncGatewayClient) -> None:
        closed.append(client)
        await close_one(client)

    monkeypatch.setattr(gateway, "open", opening)
    monkeypatch.setattr(AsyncGatewayClient, "aclose", closing)

    async def rotate(waits: list[Any]) -> None:
        await until(lambda: len(gateway.asked) >= 10)
        gateway.config["token"] = "sk-bf-new"
        await until(lambda: opened[0] in closed)
        assert not any(wait.done() for wait in waits)

    asyncio.run(wait_for_all(gateway, rotate))


def test_a_sweep_that_is_interrupted_by_the_last_wait_leaving_sends_nothing_more() -> None:
    gateway = FakeGateway(500, latency=0.02)

    async def in_the_middle_of_a_sweep() -> int:
        async with Hub.join("c", gateway.open) as hub:
            policy = policy_of(0.05)
            for batch_id in gateway.ids:
                state = WaitState(batch_id, next_poll_at=time.time())
                hub.wait(state, None, policy, Deaf())
            await until(lambda: gateway.count["list"] >= 1)
        asked = len(gateway.asked)
        await asyncio.sleep(0.05)
        return len(gateway.asked) - asked

    assert asyncio.run(in_the_middle_of_a_sweep()) == 0
    assert gateway.lookups == 1


def test_a_clock_that_is_set_back_puts_no_poll_off() -> None:
    gateway = FakeGateway(10, coalesce=False)
    behind = 0.0

    def clock() -> float:
        return time.time() - behind

    async def set_it_back(waits: list[Any]) -> None:
        nonlocal behind
        await until(lambda: len(gateway.asked) >= 10)
        behind = 3600.0
        gateway.status.update(dict.fromkeys(gateway.ids, "completed"))
        await asyncio.wait(waits)

    ends = asyncio.run(wait_for_all(gateway, set_it_back, limit=30.0, clock=clock))
    assert all(isinstance(end, Finished) for end in ends)


def test_a_log_that_cannot_be_written_ends_its_wait_only() -> None:
    gateway = FakeGateway(2, coalesce=False)

    class Broken(Deaf):
        def say(self, level: int, text: str) -> None:
            raise OSError("no space left on device")

    async def one_breaks() -> tuple[Any, Any]:
        async with Hub.join("c", gateway.open) as hub:
            soon, late = policy_of(0.1, 0.5), policy_of(0.1, 60)
            first = hub.wait(WaitState(gateway.ids[0], next_poll_at=time.time()), None, soon, Broken())
            second = hub.wait(WaitState(gateway.ids[1], next_poll_at=time.time()), None, late, Deaf())
            await asyncio.wait([first])
            gateway.status.update(dict.fromkeys(gateway.ids, "completed"))
            async with asyncio.timeout(20):
                await second
            return first.exception(), second.result()

    broken, fine = asyncio.run(one_breaks())
    assert isinstance(broken, OSError)
    assert isinstance(fine, Finished)


@pytest.mark.parametrize(
    "status",
    [
        b"\xed\xa0\x80",
        b"\xff\xfe",
        b"\\ud800",
        b"x" * 100_000,
        b"sk-bf-good",
        b"\\u0073k-bf-good",
        b"a\\n\\u001b[31mforged",
    ],
    ids=["surrogate", "not UTF-8", "escaped surrogate", "long", "token", "escaped token", "forged line"],
)
def test_a_hostile_status_ends_no_wait_and_is_shown_nowhere(status: bytes) -> None:
    gateway = FakeGateway(50)
    odd = gateway.ids[7]
    gateway.status[odd] = "ODD"

    def lying(kind: str, what: str) -> httpx.Response:
        body = json.dumps(gateway._page(what) if kind == "list" else gateway._batch(what)).encode()
        return httpx.Response(
            200, headers={"content-type": "application/json"}, content=body.replace(b'"ODD"', b'"%b"' % status)
        )

    gateway.answer = lying
    said: list[str] = []
    states: list[str] = []

    async def all_others_end(waits: list[Any]) -> None:
        await until(lambda: gateway.count["list"] >= 3)
        for batch_id in gateway.ids:
            if batch_id != odd:
                gateway.status[batch_id] = "completed"
        await asyncio.wait([wait for wait in waits if wait.batch_id != odd])
        await until(lambda: waits[7].state.worked)
        states.append(json.dumps(waits[7].state.to_json()))

    ends = asyncio.run(wait_for_all(gateway, all_others_end, said=said))
    assert [end is None for end in ends] == [batch_id == odd for batch_id in gateway.ids]
    for line in (*said, *states):
        assert line.isprintable()
        assert len(line) < 1000
        assert "sk-bf-good" not in line
