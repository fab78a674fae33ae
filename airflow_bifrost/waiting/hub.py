"""One hub per event loop and connection: all triggers of a triggerer wait through it. It only sends and receives.

When to poll which batch, and how, is decided in :mod:`airflow_bifrost.waiting.schedule`; what an answer means, in
:mod:`airflow_bifrost.waiting.decision`. The client is in :mod:`airflow_bifrost.waiting.connection`. An awaited batch costs entries in two
heaps, but no asyncio task, timer or client. The first trigger opens the hub, the last one closes it. Each loop has its own hubs,
because ``dag.test()`` runs each trigger in a new loop.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context
from functools import partial
from typing import Any, Self, cast
from weakref import WeakKeyDictionary

from airflow_bifrost.exceptions import BifrostConfigurationError, BifrostError, BifrostGatewayError
from airflow_bifrost.gateway.async_client import AsyncGatewayClient
from airflow_bifrost.waiting.connection import SharedConnection
from airflow_bifrost.waiting.decision import Finished, KeepWaiting, LookUpConnection, WaitState
from airflow_bifrost.waiting.handles import Listener, WaitHandle
from airflow_bifrost.waiting.meter import Meter
from airflow_bifrost.waiting.page_index import PAGE
from airflow_bifrost.waiting.policy import WaitPolicy
from airflow_bifrost.waiting.schedule import Schedule, Update
from airflow_bifrost.waiting.waits import PollBatch, PollPage, Request

SLICE = 20  # entries of a page that are read in one go

Open = Callable[[str], Awaitable[AsyncGatewayClient]]  # takes the ID of an Airflow connection
MakeMeter = Callable[[str], Meter]

_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Hub]] = WeakKeyDictionary()


class Hub:
    """Use :meth:`join`."""

    def __init__(
        self,
        conn_id: str,
        open_client: Open,
        meter: MakeMeter = Meter,
        *,
        clock: Callable[[], float] = time.time,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._conn_id = conn_id
        self._meter = meter(conn_id)
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._members = 0
        self._schedule = Schedule(random)
        self._requests: set[asyncio.Task[Any]] = set()
        self._connection = SharedConnection(
            partial(open_client, conn_id), self._requests, self._looked_up, clock=self._clock
        )
        self._is_outage = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._context = Context()  # not the context of the trigger that came first
        self._on_end = self._left  # one object for all waits

    @classmethod
    def join(
        cls,
        conn_id: str,
        open_client: Open,
        meter: MakeMeter = Meter,
        *,
        clock: Callable[[], float] = time.time,
        random: Callable[[], float] = random.random,
    ) -> Hub:
        """The hub of this loop for ``conn_id``: ``async with Hub.join(...) as hub``. It lives as long as it has members.

        :param open_client: looks the connection up, and opens a client that repeats nothing. Called when the first wait is due,
            and when the connection is to be looked up again.
        :param clock: returns Unix seconds.
        :param random: returns numbers uniform in [0, 1).
        """
        hubs = _hubs.setdefault(asyncio.get_running_loop(), {})
        if conn_id not in hubs:
            hubs[conn_id] = cls(conn_id, open_client, meter, clock=clock, random=random)
        return hubs[conn_id]

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

    def wait(self, state: WaitState, provider: str | None, policy: WaitPolicy, listener: Listener) -> WaitHandle:
        """Poll a batch from ``state.next_poll_at`` on, until its wait ends."""
        wait = WaitHandle(listener)
        self._schedule.add(wait, state, provider, policy, self._clock())
        wait.add_done_callback(self._on_end, context=self._context)
        self._wake_at(min(state.next_poll_at, policy.ends_at))
        return wait

    async def client(self) -> AsyncGatewayClient:
        """The client of the connection, for a call that is not a poll. It is closed when the last member leaves."""
        return self._connection.client or await self._connection.looked_up()

    def _left(self, wait: asyncio.Future[Any]) -> None:
        self._schedule.remove(cast("WaitHandle", wait))

    # The timer

    def _wake_at(self, when: float) -> None:
        if not self._members:  # all have left, so start nothing
            return
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_later(max(0.0, when - self._clock()), self._tick, context=self._context)

    def _tick(self) -> None:
        """Send as many of the due requests as the limits allow."""
        self._timer = None
        now = self._clock()
        self._carry_out(self._schedule.tick(now))
        if self._schedule.has_due:
            client = self._connection.client
            if self._connection.is_old(now):
                self._connection.look_up()
            while client is not None and (request := self._schedule.next_request(now)) is not None:
                self._send(request, client)
            shared = self._schedule.share_faults(now)
            self._meter.saved(len(shared))
            self._carry_out(shared)
        when = self._schedule.wake_at(now)
        if when is not None:
            self._wake_at(when)

    # Requests

    def _send(self, request: Request, client: AsyncGatewayClient) -> None:
        poll = self._poll_batch(request, client) if isinstance(request, PollBatch) else self._poll_list(request, client)
        task = self._loop.create_task(poll, context=self._context.copy())
        self._requests.add(task)
        task.add_done_callback(partial(self._sent, request))

    def _sent(self, request: Request, task: asyncio.Task[Any]) -> None:
        self._requests.discard(task)
        if not task.cancelled() and (mistake := task.exception()) is not None:  # a bug: it must not hang the waits
            for wait in self._schedule.waits_of(request):
                self._fail(cast("WaitHandle", wait), mistake)
        now = self._clock()
        self._schedule.finished(request, now)
        if self._schedule.is_outage != self._is_outage and self._members:
            self._is_outage = not self._is_outage
            self._meter.outage(self._is_outage)
        self._wake_at(now)

    async def _poll_batch(self, request: PollBatch, client: AsyncGatewayClient) -> None:
        try:
            entry = await client.get_raw(request.batch_id, provider=request.group.provider)
        except BifrostError as error:
            self._meter.poll("batch", error)
            updates = self._schedule.on_batch_fault(request, error, self._clock())
            if any(isinstance(update.decision, LookUpConnection) for update in updates):
                await self._look_up_again(request)
            self._carry_out(updates)
            return
        self._meter.poll("batch", None)
        updates = self._schedule.on_batch(request, entry, self._clock())
        self._meter.saved(len(updates) - 1)
        self._carry_out(updates)

    async def _poll_list(self, request: PollPage, client: AsyncGatewayClient) -> None:
        """Poll a page, or one page after another."""
        while True:
            try:
                page = await client.list_raw(provider=request.group.provider, limit=PAGE, after=request.cursor)
            except BifrostGatewayError as error:
                self._meter.poll("list", error)
                self._carry_out(self._schedule.on_list_fault(request, error, self._clock()))
                return
            self._meter.poll("list", None)
            now = self._clock()
            entries = self._schedule.on_page(request, page.entries, page.next_cursor, now)
            for number, (wait, entry) in enumerate(entries, start=1):
                self._carry_out((self._schedule.on_entry(request, wait, entry, now),))
                if not number % SLICE:
                    await asyncio.sleep(0)  # let other tasks of the loop run
            self._meter.saved(max(0, len(entries) - 1))
            if not self._schedule.continue_sweep(request, self._clock()):
                return

    async def _look_up_again(self, request: PollBatch) -> None:
        try:
            await self._connection.token_refused(request.sent_at)
        except BifrostConfigurationError as error:
            text = f"{error} The wait polls once more through the connection as it was."
            for wait in request.waits:
                cast("WaitHandle", wait).say(logging.WARNING, text)

    # News

    def _carry_out(self, updates: Iterable[Update]) -> None:
        for update in updates:
            if update.decision is None:
                continue
            wait = cast("WaitHandle", update.wait)
            if wait.done():
                continue
            try:
                if update.batch is not None:
                    wait.tell(update.batch)
                if update.decision.line is not None:
                    wait.say(update.decision.line.level, update.decision.line.text)
            except Exception as mistake:  # noqa: BLE001 - of one wait's listener or log: the others must go on
                self._fail(wait, mistake)
                continue
            if isinstance(update.decision, Finished) and update.batch is not None and update.batch.ended_at is not None:
                self._meter.detected(self._clock() - update.batch.ended_at.timestamp())
            if not isinstance(update.decision, KeepWaiting | LookUpConnection):
                wait.set_result(update.decision)

    @staticmethod
    def _fail(wait: WaitHandle, mistake: BaseException) -> None:
        if not wait.done():
            wait.set_exception(mistake)

    # The connection

    def _looked_up(self, error: BaseException | None) -> None:
        """With a connection, what is due can be sent. Without one, those that are due get to know why."""
        if not self._members:
            return
        now = self._clock()
        if self._connection.client is not None:
            self._schedule.connect(self._connection.client.config)
        elif isinstance(error, BifrostError):
            self._carry_out(self._schedule.on_lookup_fault(error, now))
        elif error is not None:
            for wait in self._schedule.due_waits():
                self._fail(cast("WaitHandle", wait), error)
        self._wake_at(now)

    async def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for request in list(self._requests):
            request.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)
        await self._connection.close()
