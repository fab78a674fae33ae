"""One hub per event loop and connection: all triggers of a triggerer wait on it.

It owns the schedule of looks and the requests. A batch that is waited for costs an entry in a heap: no
task, no timer and no client of its own. What is due is asked for by at most ``max_in_flight`` requests at a time, page by page
where a page of the list tells of enough batches, else batch by batch. Who waits
is in ``waits``, the client in ``connection``; what to make of an answer is decided in ``decision``, where a list is worth a look in
``listing``, how much may be asked in ``restraint``. The first to come opens the hub, the last to leave closes it; a loop has hubs of its
own, since ``dag.test()`` runs each trigger in a new one.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextvars import Context
from functools import partial
from itertools import count
from typing import Any, Self
from weakref import WeakKeyDictionary

from airflow_bifrost.exceptions import (
    BifrostConfigurationError,
    BifrostError,
    BifrostGatewayError,
    BifrostRateLimited,
)
from airflow_bifrost.gateway.async_client import AsyncGatewayClient
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.providers.statuses import TERMINAL, BatchStatus
from airflow_bifrost.waiting.connection import SharedConnection
from airflow_bifrost.waiting.decision import (
    Decision,
    Finished,
    KeepWaiting,
    Line,
    LookUpConnection,
    TimedOut,
    WaitPolicy,
    WaitState,
    on_batch,
    on_fault,
)
from airflow_bifrost.waiting.handles import Listener, ProviderGroup, WaitHandle
from airflow_bifrost.waiting.listing import LISTS, PAGE, Counts, Page, PageIndex, listed_as
from airflow_bifrost.waiting.meter import Meter
from airflow_bifrost.waiting.restraint import Restraint

LAST_LOOK = 30.0  # seconds that a look which the deadline cuts short may still take, its turn in the hub included
COUNTS_EVERY = 300.0  # seconds between two looks at how many rows are done, where the list does not say
SWEEP_PATIENCE = 10.0  # seconds for which those who are due leave it to a sweep to come to them
LIST_FAULTS = 3  # in a row that may pass, after which the list is left alone
CLOCK_SET_BACK = 5.0  # seconds; then nothing that was due by the old clock is waited for
SHARED_AT_ONCE = 100  # waits that take the fault of an outage in one go
SLICE = 20  # entries of a page that are read in one go

Open = Callable[[str], Awaitable[AsyncGatewayClient]]  # of the id of an Airflow connection
MakeMeter = Callable[[str], Meter]

_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Hub]] = WeakKeyDictionary()


class Hub:
    """Use :meth:`join`; the constructor is for it."""

    def __init__(self, conn_id: str, open_client: Open, meter: MakeMeter) -> None:
        self._conn_id = conn_id
        self._meter = meter(conn_id)
        self._loop = asyncio.get_running_loop()
        self._members = 0
        self._restraint = Restraint(1)  # a limit is the connection's
        self._groups: dict[str | None, ProviderGroup] = {}
        self._looks: list[tuple[float, int, WaitHandle]] = []  # heaps: when to look again, and when to give up
        self._deadlines: list[tuple[float, int, WaitHandle]] = []
        self._numbers = count()
        self._gone = 0
        self._requests: set[asyncio.Task[Any]] = set()
        self._connection = SharedConnection(partial(open_client, conn_id), self._requests, self._connected_or_not)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._ticked_at = 0.0
        self._context = Context()  # not that of whoever happened to come first
        self._on_end = self._leave  # one object for all waits

    @classmethod
    def join(cls, conn_id: str, open_client: Open, meter: MakeMeter = Meter) -> Hub:
        """The hub of this loop for ``conn_id``: ``async with Hub.join(...) as hub``, for as long as that lasts.

        :param open_client: looks the connection up and opens a client that repeats nothing; called when the first wait is due,
            and when the connection is to be looked up again.
        """
        hubs = _hubs.setdefault(asyncio.get_running_loop(), {})
        return hubs.get(conn_id) or hubs.setdefault(conn_id, cls(conn_id, open_client, meter))

    async def __aenter__(self) -> Self:
        self._members += 1
        self._meter.waiting(self._members)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._members -= 1
        self._meter.waiting(self._members)
        if not self._members:
            hubs = _hubs[self._loop]
            del hubs[self._conn_id]
            if not hubs:
                del _hubs[self._loop]
            self._meter.outage(False)
            await self._close()

    def wait(self, watch: WaitState, provider: str | None, policy: WaitPolicy, listener: Listener) -> WaitHandle:
        """Look at a batch from ``watch.next_poll_at`` on, until its wait ends."""
        provider = provider.strip().lower() or None if provider else None
        group = self._groups.get(provider) or self._groups.setdefault(provider, ProviderGroup(provider))
        wait = WaitHandle(watch, group, policy, listener)
        self._enter(wait)
        heapq.heappush(self._looks, (wait.next_poll_at, next(self._numbers), wait))
        last = max(policy.deadline, time.time()) + LAST_LOOK  # also where the deadline passed while no triggerer ran
        heapq.heappush(self._deadlines, (last, next(self._numbers), wait))
        wait.add_done_callback(self._on_end, context=self._context)
        self._wake_at(min(wait.next_poll_at, last))
        return wait

    async def cancel_batch(self, batch_id: str, provider: str | None) -> Batch:
        """Ask the gateway to cancel a batch."""
        client = self._connection.client or await self._connection.looked_up()
        request = self._loop.create_task(client.cancel_batch(batch_id, provider=provider))
        self._requests.add(request)
        request.add_done_callback(self._requests.discard)
        return await request

    # Who waits

    @staticmethod
    def _enter(wait: WaitHandle) -> None:
        group = wait.group
        wait.listed_id = listed_as(group.name or group.provider or "", wait.watch.batch_id)
        group.waits.setdefault(wait.listed_id, []).append(wait)
        group.page_index.wait_for(wait.listed_id)

    def _leave(self, wait: WaitHandle) -> None:
        group = wait.group
        group.due.pop(wait, None)
        others = group.waits[wait.listed_id]
        others.remove(wait)
        if not others:
            del group.waits[wait.listed_id]
            group.page_index.leave(wait.listed_id)
        self._gone += 1
        if (
            self._gone > 100 + len(self._deadlines) // 2
        ):  # deadlines are far away: what has ended must not lie there till then
            self._gone = 0
            for heap in (self._deadlines, self._looks):
                heap[:] = [item for item in heap if not item[2].done()]
                heapq.heapify(heap)

    def _know(self, group: ProviderGroup, client: AsyncGatewayClient) -> None:
        """The connection says which provider this is, and so what its list is good for."""
        name = client.config.provider_for(group.provider)
        lists = LISTS.get(name) if client.config.coalesce else None
        if group.name == name and group.page_index.lists == lists:
            return
        if group.name != name:
            group.restraint = Restraint(client.config.max_in_flight)
        group.name = name
        group.page_index = PageIndex(lists)
        waits = [wait for waits in group.waits.values() for wait in waits]
        group.waits = {}
        for wait in waits:
            self._enter(wait)
        self._look_at_what_was_due(group, time.time())

    # When to do something

    def _wake_at(self, when: float) -> None:
        if not self._members:  # all have left: what is cut short now must not begin anything
            return
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_later(max(0.0, when - time.time()), self._tick, context=self._context)

    def _tick(self) -> None:
        """Find out what is due, and ask for as much of it as may be asked for."""
        self._timer = None
        now = time.time()
        if now < self._ticked_at - CLOCK_SET_BACK:
            for restraint in (self._restraint, *(group.restraint for group in self._groups.values())):
                restraint.paused_until = 0.0
            for wait in [wait for *_, wait in self._deadlines if not wait.done()]:
                self._look_again(wait, now)
        self._ticked_at = now
        while self._deadlines and self._deadlines[0][0] <= now:
            wait = heapq.heappop(self._deadlines)[2]
            text = f"No answer for batch {wait.watch.batch_id} until the deadline"
            self._carry_out(wait, TimedOut(wait.watch, Line(logging.WARNING, text)))
        while self._looks and self._looks[0][0] <= now:
            next_poll_at, _, wait = heapq.heappop(self._looks)
            if not wait.done() and wait.next_poll_at == next_poll_at:
                wait.group.due[wait] = None
        self._ask(now)
        if self._deadlines:
            nexts = [self._deadlines[0][0], *(look[0] for look in self._looks[:1])]
            for group in self._groups.values():
                paused_until = max(self._restraint.paused_until, group.restraint.paused_until)
                if group.due and paused_until > now:
                    nexts.append(paused_until)
            self._wake_at(min(nexts))

    def _ask(self, now: float) -> None:
        waiting = [group for group in self._groups.values() if group.due]
        if not waiting:
            return
        client = self._connection.client
        if self._connection.is_old(now):
            self._connection.look_up()
        if client is None:
            return
        for group in waiting:
            self._know(group, client)
        slots = self._restraint.slots(now)
        alone = sum(bool(group.waits) for group in self._groups.values()) == 1
        share = max(1, slots - 1 if alone else slots // 2)  # one that hangs leaves room, also for those to come
        while waiting and len(self._requests) < slots:
            group = min(waiting, key=lambda group: group.in_flight)
            if group.in_flight >= min(share, group.restraint.slots(now)) or not self._ask_next(group, client, now):
                waiting.remove(group)
        for group in self._groups.values():
            if group.restraint.fault is not None:
                self._share_the_fault(group, group.restraint.fault, now)

    def _ask_next(self, group: ProviderGroup, client: AsyncGatewayClient, now: float) -> bool:
        """Send one request for what has been due the longest. False: nothing is left."""
        page_index = group.page_index
        while group.due:
            wait = next(iter(group.due))
            page = None if self._by_itself(wait, page_index, now) else page_index.page_of(wait.listed_id)
            if page is not None:
                if page.cursor not in group.asked:
                    self._send(group, self._look_at_page(group, client, page.cursor), self._on(group, page))
                    return True
                del group.due[wait]  # its page is on the way
            elif wait.may_be_left and group.sweeping_since is None and page_index.wants_sweep(now):
                page_index.begin_sweep(now)
                group.sweeping_since = now
                self._send(group, self._sweep(group, client), ())
                return True
            elif wait.may_be_left and now < (group.sweeping_since or 0.0) + SWEEP_PATIENCE:
                del group.due[wait]  # perhaps the sweep comes to it
                wait.was_left = True
                self._look_again(wait, (group.sweeping_since or now) + SWEEP_PATIENCE)
            else:
                self._send(group, self._look_at_batch(group, client, wait), (wait,))
                return True
        return False

    @staticmethod
    def _by_itself(wait: WaitHandle, page_index: PageIndex, now: float) -> bool:
        if wait.confirm:
            return True
        retrieved = page_index.lists is not None and page_index.lists.counts is Counts.RETRIEVED
        return retrieved and now >= wait.counted_at + COUNTS_EVERY

    def _on(self, group: ProviderGroup, page: Page) -> list[WaitHandle]:
        return [wait for batch_id in page.waited for wait in group.waits[batch_id] if not wait.confirm]

    def _send(self, group: ProviderGroup, request: Coroutine[Any, Any, Any], waits: Iterable[WaitHandle]) -> None:
        asked_for = list(waits)
        for wait in asked_for:
            group.due.pop(wait, None)
        group.in_flight += 1
        task = self._loop.create_task(request, context=self._context.copy())
        self._requests.add(task)

        def done(task: asyncio.Task[Any]) -> None:
            self._requests.discard(task)
            group.in_flight -= 1
            if not task.cancelled() and (mistake := task.exception()) is not None:  # a bug: it must not hang the waits
                for wait in asked_for or [wait for waits in group.waits.values() for wait in waits]:
                    if not wait.done():
                        wait.set_exception(mistake)
            if self._members:
                self._wake_at(time.time())

        task.add_done_callback(done)

    # Looking

    async def _look_at_batch(self, group: ProviderGroup, client: AsyncGatewayClient, wait: WaitHandle) -> None:
        began = time.time()
        try:
            entry = await client.get_raw(wait.watch.batch_id, provider=group.provider)
        except BifrostError as error:
            self._meter.poll("batch", error)
            await self._on_fault(group, wait, error, began)
            return
        self._meter.poll("batch", None)
        self._answered(group)
        now = time.time()
        together = list(group.waits.get(wait.listed_id, ()))  # several triggers may wait for the same batch
        self._meter.saved(len(together) - 1)
        stretch = 0.9 + 0.2 * random.random()
        for other in together:
            other.counted_at = now
            other.confirm = False
            self._on_entry(other, entry, group, now, stretch, counted=True)
        if wait.listed_id in group.waits and wait.created_at is not None:
            group.page_index.learn_age(wait.listed_id, wait.created_at)

    async def _sweep(self, group: ProviderGroup, client: AsyncGatewayClient) -> None:
        """Walk through the list for batches whose page is not known."""
        walked: set[str | None] = {None}
        try:
            cursor = await self._look_at_page(group, client, None, random.random())
            while cursor not in walked and self._slots(group, time.time()):  # a cursor may lead back
                walked.add(cursor)
                cursor = await self._look_at_page(group, client, cursor, random.random())
        finally:
            left_to_it = (group.sweeping_since or 0.0) + SWEEP_PATIENCE
            group.sweeping_since = None
            now = time.time()
            for wait in group.unplaced():
                if wait.next_poll_at <= now or wait.next_poll_at == left_to_it:
                    self._look_again(wait, now)

    def _slots(self, group: ProviderGroup, now: float) -> int:
        return min(self._restraint.slots(now), group.restraint.slots(now))

    async def _look_at_page(
        self, group: ProviderGroup, client: AsyncGatewayClient, cursor: str | None, stretch: float | None = None
    ) -> str | None:
        """Look at all whom a page shows.

        :param stretch: intervals until the next look at it; None: about one.
        :return: the cursor of the page where a sweep goes on.
        """
        group.asked.add(cursor)
        began = time.time()
        try:
            page = await client.list_raw(provider=group.provider, limit=PAGE, after=cursor)
        except BifrostGatewayError as error:
            self._meter.poll("list", error)
            self._list_failed(group, cursor, error, began)
            return None
        finally:
            group.asked.discard(cursor)
        self._meter.poll("list", None)
        group.list_faults = 0
        self._answered(group)
        now = time.time()
        shown = {listed_as(group.name, entry["id"]): entry for entry in page.entries}
        ages = [entry["created_at"] for entry in page.entries if isinstance(entry.get("created_at"), int)]
        oldest = min(ages, default=None)
        seen = group.page_index.on_page(cursor, shown, page.next_cursor, oldest=oldest)
        if stretch is None:
            stretch = 0.97 + 0.06 * random.random()  # the batches of a page stay together; the pages drift apart
        together = [(wait, shown[batch_id]) for batch_id in seen.found for wait in group.waits[batch_id]]
        for number, (wait, entry) in enumerate(together, start=1):
            self._on_entry_of_list(wait, entry, group, now, stretch)
            if not number % SLICE:
                await asyncio.sleep(0)  # others have a turn in the loop
        self._meter.saved(max(0, len(together) - 1))
        for batch_id in seen.lost & group.waits.keys():
            for wait in group.waits[batch_id]:
                self._look_again(wait, now)
        return seen.then

    def _on_entry_of_list(
        self, wait: WaitHandle, entry: dict[str, Any], group: ProviderGroup, now: float, stretch: float
    ) -> None:
        """A list never says the last word: what it shows as ended, or as running at the deadline, is asked for by its id."""
        if wait.confirm or wait.done():
            return
        group.due.pop(wait, None)
        if BatchStatus.of(entry["status"]) in TERMINAL or now >= wait.policy.deadline:
            wait.confirm = True
            self._look_again(wait, now)
            return
        lists = group.page_index.lists
        counted = lists is not None and lists.counts is Counts.LISTED
        self._on_entry(wait, entry, group, now, stretch, counted=counted)

    def _on_entry(
        self,
        wait: WaitHandle,
        entry: dict[str, Any],
        group: ProviderGroup,
        now: float,
        stretch: float,
        *,
        counted: bool,
    ) -> None:
        """What the gateway says of a batch. Most of the time it is what it has said before, and then there is nothing to decide."""
        wait.was_left = False
        last_seen = (entry["status"], entry.get("request_counts") if counted else None)
        watch = wait.watch
        if last_seen != wait.last_seen or watch.faults or watch.refreshed or now >= wait.policy.deadline:
            wait.last_seen = last_seen
            batch = Batch.model_validate(entry)
            if batch.created_at is not None:
                wait.created_at = batch.created_at.timestamp()
            if counted:
                wait.tell(batch)
            decision = on_batch(watch, batch, group.name, wait.policy, now=now, random=random.random)
            if isinstance(decision, Finished) and batch.ended_at is not None:
                self._meter.detected(now - batch.ended_at.timestamp())
            self._carry_out(wait, decision)
        if not wait.done():
            age = None if wait.created_at is None else now - wait.created_at
            self._look_again(wait, now + wait.policy.until(now, wait.policy.interval(age) * stretch))

    def _list_failed(self, group: ProviderGroup, cursor: str | None, error: BifrostGatewayError, began: float) -> None:
        """What may pass is a fault of every wait on the page. A list that is refused says nothing about the batches: they are asked for
        one by one."""
        now = time.time()
        self._gateway_failed(group, error, began, now)
        group.list_faults += 1
        page = [w for waits in group.waits.values() for w in waits if self._stands_on(group, w, cursor)]
        if error.transient and group.list_faults < LIST_FAULTS:
            for wait in page:
                group.due.pop(wait, None)
                self._carry_out(wait, on_fault(wait.watch, error, wait.policy, now=now, random=random.random))
            return
        group.page_index.on_refusal(now)
        self._look_at_what_was_due(group, now)  # also at those of other pages, which are no pages any more

    def _look_at_what_was_due(self, group: ProviderGroup, now: float) -> None:
        for waits in group.waits.values():
            for wait in waits:
                if wait.next_poll_at <= now and wait not in group.due:
                    self._look_again(wait, now)

    @staticmethod
    def _stands_on(group: ProviderGroup, wait: WaitHandle, cursor: str | None) -> bool:
        page = group.page_index.page_of(wait.listed_id)
        return page is not None and page.cursor == cursor and not wait.confirm

    def _answered(self, group: ProviderGroup) -> None:
        self._restraint.on_answer()
        if group.restraint.on_answer():
            self._tell_of_trouble()
            self._spread_out_after_an_outage(group, time.time())

    def _spread_out_after_an_outage(self, group: ProviderGroup, now: float) -> None:
        """Those whose next try is far off look within one interval, each at a time of its own."""
        for waits in group.waits.values():
            for wait in waits:
                interval = wait.policy.interval(None)
                if wait.watch.faults and wait.next_poll_at > now + interval:
                    self._look_again(wait, now + interval * random.random())

    # Faults

    async def _on_fault(self, group: ProviderGroup, wait: WaitHandle, error: BifrostError, began: float) -> None:
        now = time.time()
        if isinstance(error, BifrostGatewayError):
            self._gateway_failed(group, error, began, now)
        decision = on_fault(wait.watch, error, wait.policy, now=now, random=random.random)
        if isinstance(decision, LookUpConnection):
            try:
                await self._connection.token_refused(began)
            except BifrostConfigurationError as error:
                text = f"{error} The connection as it was is tried once more."
                wait.say(logging.WARNING, text)
        self._carry_out(wait, decision)

    def _gateway_failed(self, group: ProviderGroup, error: BifrostGatewayError, sent_at: float, now: float) -> None:
        restraint = self._restraint if isinstance(error, BifrostRateLimited) else group.restraint
        began = restraint.fault is None
        restraint.on_fault(error, sent_at=sent_at, now=now, random=random.random)
        if began and restraint.fault is not None:
            self._tell_of_trouble()

    def _tell_of_trouble(self) -> None:
        self._meter.outage(any(group.restraint.fault is not None for group in self._groups.values()))

    def _share_the_fault(self, group: ProviderGroup, fault: BifrostGatewayError, now: float) -> None:
        """In an outage one asks; the others take its fault for theirs, some at a time: others have a turn in the loop."""
        those = [wait for wait in group.due if wait.next_poll_at <= now]
        if len(those) > SHARED_AT_ONCE:
            self._wake_at(now)
        for wait in those[:SHARED_AT_ONCE]:
            del group.due[wait]
            self._meter.saved(1)
            self._carry_out(wait, on_fault(wait.watch, fault, wait.policy, now=now, random=random.random))

    def _carry_out(self, wait: WaitHandle, decision: Decision) -> None:
        if wait.done():
            return
        if decision.line is not None:
            try:
                wait.say(decision.line.level, decision.line.text)
            except Exception as mistake:  # noqa: BLE001 - that of one wait's log, and no reason for the others to stand still
                wait.set_exception(mistake)
                return
        wait.watch = decision.watch
        match decision:
            case KeepWaiting():
                self._look_again(wait, decision.watch.next_poll_at)
            case LookUpConnection():
                self._look_again(wait, time.time())
            case _:
                wait.set_result(decision)

    def _look_again(self, wait: WaitHandle, when: float) -> None:
        wait.next_poll_at = when
        if len(self._looks) > 4 * len(self._deadlines) + 100:  # one who looks seldom beside one who looks often
            self._looks[:] = [item for item in self._looks if item[0] == item[2].next_poll_at and not item[2].done()]
            heapq.heapify(self._looks)
        heapq.heappush(self._looks, (when, next(self._numbers), wait))
        self._wake_at(when)

    # The connection

    def _connected_or_not(self, error: BaseException | None) -> None:
        """With a connection, what is due can be asked for. Without one, those who are due learn why."""
        if not self._members:
            return
        client, now = self._connection.client, time.time()
        if client is not None:
            self._allow(client.config.max_in_flight)
        elif error is not None:
            for group in self._groups.values():
                for wait in list(group.due):
                    if isinstance(error, BifrostError):
                        del group.due[wait]
                        decision = on_fault(wait.watch, error, wait.policy, now=now, random=random.random)
                        self._carry_out(wait, decision)
                    elif not wait.done():
                        wait.set_exception(error)
        self._wake_at(now)

    def _allow(self, max_in_flight: int) -> None:
        if self._restraint.max_in_flight != max_in_flight:
            self._restraint = Restraint(max_in_flight)
            for group in self._groups.values():
                group.restraint = Restraint(max_in_flight)

    async def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for request in list(self._requests):
            request.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)
        await self._connection.close()
