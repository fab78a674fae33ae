"""The hub at a thousand batches: requests, connections, tasks and lookups do not depend on the clock, so they are counted."""

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

from airflow_bifrost.exceptions import BifrostAuthError, BifrostConfigurationError, BifrostRequestError
from airflow_bifrost.gateway.async_client import AsyncGatewayClient
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.gateway.retry import NO_RETRY
from airflow_bifrost.waiting.decision import Finished, GiveUp, Pace, TimedOut, WaitPolicy, WaitState
from airflow_bifrost.waiting.handles import Listener
from airflow_bifrost.waiting.hub import Hub
from airflow_bifrost.waiting.meter import Meter
from airflow_bifrost.waiting.page_index import PageIndex

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
    interval: float = 0.2,
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


def test_a_thousand_waits_ask_for_pages_and_not_for_batches() -> None:
    gateway = FakeGateway(1000)

    async def ten_rounds(waits: list[Any]) -> None:
        await until(lambda: gateway.count["list"] >= 100)

    asyncio.run(wait_for_all(gateway, ten_rounds, interval=1.0))
    assert gateway.count["get"] <= 10


def test_a_thousand_waits_cost_one_lookup_one_client_and_no_task_each() -> None:
    gateway = FakeGateway(1000, latency=0.01)

    async def a_while(waits: list[Any]) -> None:
        await until(lambda: gateway.count["list"] >= 20)

    asyncio.run(wait_for_all(gateway, a_while))
    assert gateway.lookups == 1
    assert gateway.most_at_once <= 8
    assert gateway.most_tasks <= 8 + 4  # the requests, the test, the lookup, httpx's own


def test_every_batch_that_ends_is_confirmed_by_one_request_of_its_own() -> None:
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
def test_no_batch_is_lost_whether_the_list_is_asked_or_not(coalesce: bool) -> None:
    gateway = FakeGateway(250, coalesce=coalesce)

    async def all_end(waits: list[Any]) -> None:
        await until(lambda: len(gateway.asked) >= 3)
        gateway.status.update(dict.fromkeys(gateway.ids, "completed"))
        await asyncio.wait(waits)

    ends = asyncio.run(wait_for_all(gateway, all_end))
    assert all(isinstance(end, Finished) for end in ends)
    assert (gateway.count["list"] > 0) is coalesce


def test_a_batch_that_no_list_shows_is_asked_for_by_its_id() -> None:
    gateway = FakeGateway(200)
    hidden = ["batch_90001", "batch_90002", "batch_90003"]
    gateway.status[hidden[0]] = "completed"

    async def it_ends(waits: list[Any]) -> None:
        await asyncio.wait([waits[-3]])

    ends = asyncio.run(wait_for_all(gateway, it_ends, ids=[*gateway.ids, *hidden]))
    assert isinstance(ends[-3], Finished)


def test_batches_that_new_ones_push_off_the_first_page_are_found_again() -> None:
    gateway = FakeGateway(120)

    async def push(waits: list[Any]) -> None:
        await until(lambda: gateway.count["list"] >= 4)
        gateway.ids += [f"batch_{n:05d}" for n in range(5000, 5150)]
        await asyncio.sleep(0.5)
        gateway.status.update(dict.fromkeys(gateway.ids, "completed"))
        await asyncio.wait(waits)

    ends = asyncio.run(wait_for_all(gateway, push))
    assert all(isinstance(end, Finished) for end in ends)


@pytest.mark.parametrize("status", [400, 403, 404, 500])
def test_where_the_list_is_refused_or_broken_every_batch_is_asked_for_by_its_id(status: int) -> None:
    gateway = FakeGateway(30)
    gateway.answer = lambda kind, what: httpx.Response(status, json={"extra_fields": {}}) if kind == "list" else None
    gateway.status.update(dict.fromkeys(gateway.ids, "completed"))

    async def all_end(waits: list[Any]) -> None:
        await asyncio.wait(waits)

    ends = asyncio.run(wait_for_all(gateway, all_end))
    assert all(isinstance(end, Finished) for end in ends)
    assert gateway.count["list"] <= 4


def test_a_list_of_something_else_is_left_alone() -> None:
    gateway = FakeGateway(30)
    gateway.answer = lambda kind, what: httpx.Response(200, json={"models": []}) if kind == "list" else None
    gateway.status.update(dict.fromkeys(gateway.ids, "completed"))

    async def all_end(waits: list[Any]) -> None:
        await asyncio.wait(waits)

    assert all(isinstance(end, Finished) for end in asyncio.run(wait_for_all(gateway, all_end)))


@pytest.mark.parametrize("provider", ["anthropic", "bedrock"])
def test_an_provider_whose_list_never_leaves_page_1_is_listed_there_and_asked_for_the_rest(provider: str) -> None:
    gateway = FakeGateway(150, provider=provider)

    async def all_end(waits: list[Any]) -> None:
        await until(lambda: gateway.count["list"] >= 5)
        gateway.status.update(dict.fromkeys(gateway.ids, "ended" if provider == "anthropic" else "completed"))
        await asyncio.wait(waits)

    ends = asyncio.run(wait_for_all(gateway, all_end))
    assert all(isinstance(end, Finished) for end in ends)
    assert {what for kind, what in gateway.asked if kind == "list"} == {""}


def test_gemini_is_known_in_its_list_by_its_other_id_and_its_counts_come_from_itself() -> None:
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


def test_several_waits_for_one_batch_share_its_requests() -> None:
    gateway = FakeGateway(1, coalesce=False)

    async def it_ends(waits: list[Any]) -> None:
        await until(lambda: gateway.count["get"] >= 2)
        gateway.status[gateway.ids[0]] = "completed"
        gateway.asked.clear()
        await asyncio.wait(waits)

    ends = asyncio.run(wait_for_all(gateway, it_ends, ids=gateway.ids * 20))
    assert all(isinstance(end, Finished) for end in ends)
    assert gateway.count["get"] < 10  # of twenty; some may be under way when the first answers


def test_in_an_outage_one_request_finds_out_for_all() -> None:
    gateway = FakeGateway(500)
    gateway.answer = lambda kind, what: httpx.Response(503)
    outage: list[bool] = []

    class Noticing(Meter):
        def outage(self, on: bool) -> None:
            outage.append(on)

    async def an_outage(waits: list[Any]) -> None:
        await asyncio.sleep(3)
        assert gateway.count.total() <= 30
        assert not any(wait.done() for wait in waits)
        gateway.answer = lambda kind, what: None
        gateway.status.update(dict.fromkeys(gateway.ids, "completed"))
        await asyncio.wait(waits)

    ends = asyncio.run(wait_for_all(gateway, an_outage, meter=Noticing("c")))
    assert all(isinstance(end, Finished) for end in ends)
    assert outage[:2] == [True, False]
    assert not any(outage[2:])


def test_a_limit_holds_the_whole_connection() -> None:
    gateway = FakeGateway(50, coalesce=False)
    limits: list[str] = []

    def answer(kind: str, what: str) -> httpx.Response | None:
        if limits or len(gateway.asked) < 10:
            return None
        limits.append(what)
        return httpx.Response(429, headers={"retry-after": "5"})

    gateway.answer = answer

    async def a_second(waits: list[Any]) -> None:
        await until(lambda: bool(limits) and gateway.at_once == 0)  # those under way are still answered
        await asyncio.sleep(0.2)
        before = len(gateway.asked)
        await asyncio.sleep(1)
        assert len(gateway.asked) == before

    asyncio.run(wait_for_all(gateway, a_second))


def test_a_refused_token_is_looked_up_again_once_for_all() -> None:
    gateway = FakeGateway(100, coalesce=False)
    gateway.answer = lambda kind, what: httpx.Response(401, json={"type": "virtual_key_required", "error": {}})

    async def all_end(waits: list[Any]) -> None:
        await asyncio.wait(waits)

    ends = asyncio.run(wait_for_all(gateway, all_end))
    assert all(isinstance(end, GiveUp) and isinstance(end.error, BifrostAuthError) for end in ends)
    assert gateway.lookups <= 3


def test_a_token_that_was_rotated_is_picked_up_by_all() -> None:
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


def test_a_connection_that_cannot_be_had_ends_every_wait() -> None:
    gateway = FakeGateway(20)

    async def none(conn_id: str) -> AsyncGatewayClient:
        raise BifrostConfigurationError("no such connection")

    gateway.open = none  # type: ignore[method-assign]

    async def all_end(waits: list[Any]) -> None:
        await asyncio.wait(waits)

    ends = asyncio.run(wait_for_all(gateway, all_end))
    assert all(isinstance(end, GiveUp) and isinstance(end.error, BifrostConfigurationError) for end in ends)


def test_a_batch_that_cannot_be_waited_for_ends_its_own_wait_only() -> None:
    gateway = FakeGateway(10, coalesce=False)
    wrong = httpx.Response(400, json={"error": {"message": "no"}, "extra_fields": {}})
    gateway.answer = lambda kind, what: wrong if what == gateway.ids[3] else None

    async def it_ends(waits: list[Any]) -> None:
        await asyncio.wait([waits[3]])

    ends = asyncio.run(wait_for_all(gateway, it_ends))
    assert isinstance(ends[3].error, BifrostRequestError)
    assert sum(end is not None for end in ends) == 1


def test_waits_end_at_their_deadline_also_when_the_gateway_hangs() -> None:
    gateway = FakeGateway(40, latency=0.0)

    async def all_end(waits: list[Any]) -> None:
        await until(lambda: len(gateway.asked) > 0)
        await asyncio.wait(waits)

    ends = asyncio.run(wait_for_all(gateway, all_end, patience=1.0))
    assert all(isinstance(end, TimedOut) for end in ends)


def test_a_mistake_of_ours_ends_the_waits_and_hangs_none() -> None:
    gateway = FakeGateway(5, coalesce=False)

    class Wrong(Deaf):
        def seen(self, *_: Any) -> None:
            raise ZeroDivisionError

    async def all_end(waits: list[Any]) -> None:
        await asyncio.wait(waits)
        assert all(isinstance(wait.exception(), ZeroDivisionError) for wait in waits)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(wait_for_all(gateway, all_end, listener=Wrong()))


def test_waits_that_have_ended_leave_nothing_behind() -> None:
    gateway = FakeGateway(400)

    async def look(waits: list[Any]) -> None:
        gateway.status.update(dict.fromkeys(gateway.ids[:-1], "completed"))
        await asyncio.wait(waits[:-1])
        await asyncio.sleep(0)
        from airflow_bifrost.waiting import hub as module

        [hub] = [hub for hubs in module._hubs.values() for hub in hubs.values()]
        assert len(hub._schedule._timetable) <= 410
        assert sum(len(group.waits) for group in hub._schedule._groups.values()) == 1

    asyncio.run(wait_for_all(gateway, look))


def test_an_outage_of_one_provider_is_none_of_the_others() -> None:
    gateway = FakeGateway(40, coalesce=False)
    bad, good = gateway.ids[:30], gateway.ids[30:]
    gateway.answer = lambda kind, what: httpx.Response(503) if what in bad else None

    async def the_good_ones_end() -> list[Any]:
        policy = policy_of(0.1, 60)
        async with Hub.join("c", gateway.open) as hub:
            waits = {
                batch_id: hub.wait(
                    WaitState(batch_id, next_poll_at=time.time()),
                    "openai" if batch_id in bad else "azure",
                    policy,
                    Deaf(),
                )
                for batch_id in gateway.ids
            }
            await until(lambda: sum(what in bad for _, what in gateway.asked) >= 3)
            await asyncio.sleep(1)
            gateway.status.update(dict.fromkeys(good, "completed"))
            async with asyncio.timeout(20):  # a back-off of theirs would be minutes
                return list(await asyncio.gather(*(waits[batch_id] for batch_id in good)))

    assert all(isinstance(end, Finished) for end in asyncio.run(the_good_ones_end()))


def test_a_cursor_that_leads_back_is_followed_once() -> None:
    gateway = FakeGateway(300)
    first_page = gateway._page("")
    gateway.answer = lambda kind, what: httpx.Response(200, json=first_page) if kind == "list" else None

    async def the_rest_end(waits: list[Any]) -> None:
        gateway.status.update(dict.fromkeys(gateway.ids[:200], "completed"))
        await asyncio.wait(waits[:200])

    ends = asyncio.run(wait_for_all(gateway, the_rest_end, interval=0.5))
    assert all(isinstance(end, Finished) for end in ends[:200])
    assert gateway.count["list"] <= 100


def test_a_wait_that_begins_after_its_deadline_still_looks_once() -> None:
    gateway = FakeGateway(1)
    gateway.status[gateway.ids[0]] = "completed"

    async def it_ends(waits: list[Any]) -> None:
        await asyncio.wait(waits)

    (end,) = asyncio.run(wait_for_all(gateway, it_ends, patience=-35.0, limit=30.0))
    assert isinstance(end, Finished)


def test_at_the_deadline_a_list_has_not_the_last_word() -> None:
    gateway = FakeGateway(10)
    stale = gateway._page("")
    gateway.answer = lambda kind, what: httpx.Response(200, json=stale) if kind == "list" else None

    async def all_end(waits: list[Any]) -> None:
        await until(lambda: gateway.count["list"] >= 3)
        gateway.status.update(dict.fromkeys(gateway.ids, "completed"))
        await asyncio.wait(waits)

    ends = asyncio.run(wait_for_all(gateway, all_end, patience=3.0))
    assert all(isinstance(end, Finished) for end in ends)


def test_a_client_that_was_replaced_is_closed_while_others_still_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[AsyncGatewayClient] = []
    closed: list[AsyncGatewayClient] = []
    gateway = FakeGateway(10, coalesce=False, connection_ttl=0.5)
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


def test_a_sweep_that_is_cut_short_by_the_end_begins_nothing() -> None:
    gateway = FakeGateway(500, latency=0.2)

    async def in_the_middle_of_a_sweep() -> int:
        async with Hub.join("c", gateway.open) as hub:
            policy = policy_of(0.2, 60)
            for batch_id in gateway.ids:
                state = WaitState(batch_id, next_poll_at=time.time())
                hub.wait(state, None, policy, Deaf())
            await until(lambda: gateway.count["list"] >= 1)
        asked = len(gateway.asked)
        await asyncio.sleep(1)
        return len(gateway.asked) - asked

    assert asyncio.run(in_the_middle_of_a_sweep()) == 0
    assert gateway.lookups == 1


def test_a_clock_that_is_set_back_holds_nothing_up() -> None:
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


@pytest.mark.parametrize("status", [403, 500])
def test_no_wait_is_forgotten_when_the_list_breaks_while_pages_are_on_their_way(status: int) -> None:
    gateway = FakeGateway(1000, latency=0.1)
    broken = httpx.Response(status, json={"error": {"message": "no"}, "extra_fields": {}})

    async def the_list_breaks(waits: list[Any]) -> None:
        await until(lambda: gateway.count["list"] >= 25)
        await until(lambda: gateway.at_once >= 3)
        gateway.answer = lambda kind, what: broken if kind == "list" else None
        gateway.status.update(dict.fromkeys(gateway.ids, "completed"))
        await asyncio.wait(waits)

    ends = asyncio.run(wait_for_all(gateway, the_list_breaks, interval=0.5, limit=60.0, patience=200.0))
    assert all(isinstance(end, Finished) for end in ends)


def test_a_batch_that_no_list_shows_is_looked_at_however_many_sweeps_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PageIndex, "wants_sweep", lambda *_: True)
    gateway = FakeGateway(300, latency=0.05)
    hidden = [f"batch_hidden{number:05d}" for number in range(20)]

    async def all_were_looked_at(waits: list[Any]) -> None:
        await until(lambda: {what for kind, what in gateway.asked if kind == "get"} >= set(hidden))

    asyncio.run(wait_for_all(gateway, all_were_looked_at, interval=0.5, limit=20.0, ids=[*gateway.ids, *hidden]))


def test_a_log_that_breaks_ends_its_own_wait_and_no_other() -> None:
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
