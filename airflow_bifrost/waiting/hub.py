"""One hub per event loop and connection: all triggers of a triggerer ask through it.

It owns the shared client and the resolved connection, and lets at most eight requests per upstream through at a time, so that a
slow upstream does not delay the others. The first to come opens it, the last to leave closes it. A loop of its own has a hub of its own, since ``dag.test()`` runs
each trigger in a new one.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from weakref import WeakKeyDictionary

from airflow_bifrost.exceptions import BifrostConfigurationError
from airflow_bifrost.gateway.client import AsyncGatewayClient
from airflow_bifrost.gateway.models import Batch

MAX_IN_FLIGHT = 8  # requests at a time, per connection and upstream; the others queue here and not in httpx

CONNECTION_TTL = 300.0  # seconds after which the connection is looked up again: it may have been corrected

Open = Callable[[], Awaitable[AsyncGatewayClient]]

_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Hub]] = WeakKeyDictionary()


class Hub:
    """Use :meth:`join`; the constructor is for it."""

    def __init__(self, open_client: Open) -> None:
        self._open = open_client
        self._members = 0
        self._fresh_until = 0.0
        self._slots: defaultdict[str | None, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(MAX_IN_FLIGHT))
        self._client: AsyncGatewayClient | None = None
        self._retired: list[AsyncGatewayClient] = []
        self._opening: asyncio.Task[AsyncGatewayClient] | None = None

    @classmethod
    @asynccontextmanager
    async def join(cls, conn_id: str, open_client: Open) -> AsyncIterator[Hub]:
        """The hub of this loop for ``conn_id``, for as long as the context lasts.

        :param open_client: looks the connection up and opens a client that repeats nothing; called when the first member asks,
            and by :meth:`renew`.
        """
        loop = asyncio.get_running_loop()
        hubs = _hubs.setdefault(loop, {})
        hub = hubs.setdefault(conn_id, cls(open_client))
        hub._members += 1
        try:
            yield hub
        finally:
            hub._members -= 1
            if not hub._members:
                del hubs[conn_id]
                if not hubs:
                    del _hubs[loop]
                await hub._close()

    async def get_batch(self, batch_id: str, provider: str | None) -> tuple[Batch, str]:
        """One look at a batch, not repeated on a fault: when to look again is the wait's decision.

        :return: the batch, and the name of the upstream that was asked.
        """
        async with self._slots[provider]:
            client = await self._current()
            return await client.get_batch(batch_id, provider=provider), client.config.upstream(provider)

    async def cancel_batch(self, batch_id: str, provider: str | None) -> Batch:
        """Ask the gateway to cancel a batch."""
        async with self._slots[provider]:
            client = await self._current()
            return await client.cancel_batch(batch_id, provider=provider)

    async def renew(self) -> None:
        """Look the connection up again, once for all who ask meanwhile. What is on its way ends on the old client."""
        await self._connected()

    async def _current(self) -> AsyncGatewayClient:
        if self._client is None:
            return await self._connected()
        if time.monotonic() > self._fresh_until:
            self._fresh_until = time.monotonic() + CONNECTION_TTL  # one looks it up, the others go on meanwhile
            with suppress(BifrostConfigurationError):  # what has worked before is borne
                return await self._connected()
        return self._client

    async def _connected(self) -> AsyncGatewayClient:
        self._opening = self._opening or asyncio.create_task(self._connect())
        # Shielded: a trigger that is cancelled while the lookup is under way must not take it from the others, and an
        # interrupted lookup would leave its answer in Airflow's channel for the next one to stumble over.
        return await asyncio.shield(self._opening)

    async def _connect(self) -> AsyncGatewayClient:
        try:
            client = await self._open()
        finally:
            self._opening = None
        self._fresh_until = time.monotonic() + CONNECTION_TTL
        before = self._client
        if before is not None and before.config == client.config:
            await client.aclose()
            return before
        if before is not None:
            self._retired.append(before)  # requests may be on their way through it
        self._client = client
        if not self._members:  # all have left meanwhile
            await self._close()
        return client

    async def _close(self) -> None:
        clients = [client for client in (self._client, *self._retired) if client is not None]
        self._client, self._retired = None, []
        for client in clients:
            await client.aclose()
