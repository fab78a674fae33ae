"""The one client that all waits of a hub ask through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from airflow_bifrost.gateway.async_client import AsyncGatewayClient

Open = Callable[[], Awaitable[AsyncGatewayClient]]

LOOKED_UP_LATELY = 5.0  # seconds within which a refused token is no reason to look the connection up again


class SharedConnection:
    """Opened when it is first needed; looked up again when it is old, and when the gateway refuses its token.

    :param open_client: looks the Airflow connection up, and opens a client.
    :param under_way: the requests that are on their way, as the hub keeps them.
    :param on_lookup: told of the end of each lookup, with what it raised.
    :ivar client: None until a lookup has brought one.
    """

    def __init__(
        self,
        open_client: Open,
        under_way: Collection[asyncio.Task[Any]],
        on_lookup: Callable[[BaseException | None], None],
    ) -> None:
        self.client: AsyncGatewayClient | None = None
        self._open = open_client
        self._under_way = under_way
        self._on_lookup = on_lookup
        self._lookup: asyncio.Task[AsyncGatewayClient] | None = None
        self._looked_up_at = 0.0
        self._same_as_before = False  # what the last lookup brought
        self._retiring: set[asyncio.Task[None]] = set()
        self._closed = False

    def is_old(self, now: float) -> bool:
        """Whether it is time to look it up, for the first time or again."""
        return self.client is None or now > self._looked_up_at + self.client.config.connection_ttl

    def look_up(self) -> asyncio.Task[AsyncGatewayClient]:
        """Begin a lookup, unless one is under way."""
        if self._lookup is None:
            self._lookup = asyncio.get_running_loop().create_task(self._look_up())
            self._lookup.add_done_callback(self._looked_up)
        return self._lookup

    async def looked_up(self) -> AsyncGatewayClient:
        """The client of a lookup that ends after now."""
        # Shielded: a trigger that is cancelled while the lookup is under way must not take it from the others, and an
        # interrupted lookup would leave its answer in Airflow's channel for the next one to stumble over.
        return await asyncio.shield(self.look_up())

    async def token_refused(self, asked_at: float) -> None:
        """Look it up again, unless somebody has since the refused request was sent, or a moment ago and in vain."""
        lately = time.time() < self._looked_up_at + LOOKED_UP_LATELY
        if not (self._looked_up_at >= asked_at or (lately and self._same_as_before)):
            await self.looked_up()

    async def close(self) -> None:
        """Close every client, also one that a lookup may still bring."""
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
            self._looked_up_at = time.time()
        if self._closed:
            await client.aclose()
            return client
        before = self.client
        self._same_as_before = before is not None and before.config == client.config
        if before is not None and self._same_as_before:
            await client.aclose()
            return before
        if before is not None:
            retiring = asyncio.get_running_loop().create_task(self._retire(before, set(self._under_way)))
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)
        self.client = client
        return client

    @staticmethod
    async def _retire(client: AsyncGatewayClient, under_way: set[asyncio.Task[Any]]) -> None:
        """Close a client when the requests that are on their way through it are done."""
        if under_way:
            await asyncio.wait(under_way)
        await client.aclose()

    def _looked_up(self, lookup: asyncio.Task[AsyncGatewayClient]) -> None:
        if not lookup.cancelled():
            self._on_lookup(lookup.exception())
