"""The one client through which all waits of a hub poll."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from airflow_bifrost.gateway.async_client import AsyncGatewayClient
from airflow_bifrost.waiting.clock import has_passed

Open = Callable[[], Awaitable[AsyncGatewayClient]]

JUST_LOOKED_UP = 5.0  # seconds after a lookup within which a refused token causes no further lookup


class SharedConnection:
    """The connection. It is looked up when it is first needed, when it is old, and when the gateway refuses its token.

    :param open_client: looks the Airflow connection up, and opens a client.
    :param in_flight: the hub's tasks of the requests in flight.
    :param on_lookup: called at the end of each lookup, with what it raised.
    :param clock: returns Unix seconds.
    :ivar client: None until a lookup has succeeded.
    """

    def __init__(
        self,
        open_client: Open,
        in_flight: Collection[asyncio.Task[Any]],
        on_lookup: Callable[[BaseException | None], None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.client: AsyncGatewayClient | None = None
        self._open = open_client
        self._in_flight = in_flight
        self._on_lookup = on_lookup
        self._clock = clock
        self._lookup: asyncio.Task[AsyncGatewayClient] | None = None
        self._looked_up_at = 0.0
        self._is_unchanged = False  # whether the last lookup found what was known
        self._retiring: set[asyncio.Task[None]] = set()
        self._closed = False

    def is_old(self, now: float) -> bool:
        """Whether it is time to look it up, for the first time or again."""
        return self.client is None or has_passed(self.client.config.connection_ttl, self._looked_up_at, now)

    def look_up(self) -> asyncio.Task[AsyncGatewayClient]:
        """Begin a lookup, unless one is in progress."""
        if self._lookup is None:
            self._lookup = asyncio.get_running_loop().create_task(self._look_up())
            self._lookup.add_done_callback(self._looked_up)
        return self._lookup

    async def looked_up(self) -> AsyncGatewayClient:
        """The client of a lookup that ends after now."""
        # Shielded: if a trigger is cancelled during the lookup, the others still need it. And the answer of an
        # interrupted lookup would stay in Airflow's channel, where the next lookup would read it as its answer.
        return await asyncio.shield(self.look_up())

    async def token_refused(self, sent_at: float) -> None:
        """Look it up again, unless this happened after the refused request was sent, or a moment ago without finding a change."""
        just_looked_up = not has_passed(JUST_LOOKED_UP, self._looked_up_at, self._clock())
        if not (self._looked_up_at >= sent_at or (just_looked_up and self._is_unchanged)):
            await self.looked_up()

    async def close(self) -> None:
        """Close every client, including the one of a lookup that is still in progress."""
        self._closed = True
        await asyncio.gather(*self._retiring)
        client, self.client = self.client, None
        if client is not None:
            await client.aclose()

    async def _look_up(self) -> AsyncGatewayClient:
        try:
            client = await self._open()
        finally:
            self._lookup = None
            self._looked_up_at = self._clock()
        if self._closed:
            await client.aclose()
            return client
        before = self.client
        self._is_unchanged = before is not None and before.config == client.config
        if before is not None and self._is_unchanged:
            await client.aclose()
            return before
        if before is not None:
            retiring = asyncio.get_running_loop().create_task(self._retire(before, set(self._in_flight)))
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)
        self.client = client
        return client

    @staticmethod
    async def _retire(client: AsyncGatewayClient, in_flight: set[asyncio.Task[Any]]) -> None:
        """Close a client when its requests in flight are done."""
        if in_flight:
            await asyncio.wait(in_flight)
        await client.aclose()

    def _looked_up(self, lookup: asyncio.Task[AsyncGatewayClient]) -> None:
        if not lookup.cancelled():
            self._on_lookup(lookup.exception())
