"""The client that the waits share: when it is looked up, and when it is closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from airflow_bifrost.gateway.async_client import AsyncGatewayClient
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.waiting.connection import SharedConnection


class Client(AsyncGatewayClient):
    closed = False

    async def aclose(self) -> None:
        self.closed = True
        await super().aclose()


class Lookups:
    """Opens a client for each of ``tokens``, the last one again and again; a lookup ends when ``may_end`` is set."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)
        self.opened: list[Client] = []
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self) -> Client:
        await self.may_end.wait()
        token = self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]
        self.opened.append(Client(GatewayConfig("http://gw.example", token=token)))
        return self.opened[-1]


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def once() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(once())


def test_lookups_at_the_same_time_are_one() -> None:
    async def scenario() -> None:
        lookups = Lookups("a")
        connection = SharedConnection(lookups, (), lambda _: None)
        clients = await asyncio.gather(connection.looked_up(), connection.looked_up())
        assert clients == [connection.client] * 2
        assert len(lookups.opened) == 1

    run(scenario)


def test_a_lookup_that_ends_after_the_close_leaves_no_client_open() -> None:
    async def scenario() -> None:
        lookups = Lookups("a")
        lookups.may_end.clear()
        connection = SharedConnection(lookups, (), lambda _: None)
        lookup = connection.look_up()
        await asyncio.sleep(0)
        await connection.close()
        lookups.may_end.set()
        await lookup
        assert [client.closed for client in lookups.opened] == [True]
        assert connection.client is None

    run(scenario)


def test_a_replaced_client_is_closed_when_the_last_request_through_it_is_done() -> None:
    async def scenario() -> None:
        lookups = Lookups("a", "b")
        over = asyncio.Event()
        request = asyncio.create_task(over.wait())
        connection = SharedConnection(lookups, {request}, lambda _: None)
        await connection.looked_up()
        await connection.looked_up()
        await asyncio.sleep(0.05)
        first, second = lookups.opened
        assert (connection.client, first.closed) == (second, False)
        over.set()
        await connection.close()
        assert (first.closed, second.closed) == (True, True)

    run(scenario)


def test_the_same_connection_again_keeps_its_client() -> None:
    async def scenario() -> None:
        lookups = Lookups("a")
        connection = SharedConnection(lookups, (), lambda _: None)
        first = await connection.looked_up()
        assert await connection.looked_up() is first
        assert [client.closed for client in lookups.opened] == [False, True]

    run(scenario)


def test_a_refused_token_is_looked_up_once_for_all_requests_that_it_was_refused_to() -> None:
    async def scenario() -> None:
        lookups = Lookups("a", "b", "c")
        connection = SharedConnection(lookups, (), lambda _: None)
        await connection.looked_up()
        sent_at = time.time()
        await connection.token_refused(sent_at)
        await connection.token_refused(sent_at)
        assert len(lookups.opened) == 2

    run(scenario)


def test_a_refused_token_is_not_looked_up_again_right_after_a_lookup_that_changed_nothing() -> None:
    async def scenario() -> None:
        lookups = Lookups("a")
        connection = SharedConnection(lookups, (), lambda _: None)
        await connection.looked_up()
        await connection.token_refused(time.time())
        await connection.token_refused(time.time())
        assert len(lookups.opened) == 2

    run(scenario)


def test_the_callback_learns_how_a_lookup_ended() -> None:
    async def scenario() -> None:
        ends: list[BaseException | None] = []
        wrong = ValueError("no such connection")

        async def failing() -> AsyncGatewayClient:
            raise wrong

        await asyncio.wait([SharedConnection(failing, (), ends.append).look_up()])
        await asyncio.wait([SharedConnection(Lookups("a"), (), ends.append).look_up()])
        await asyncio.sleep(0)
        assert ends == [wrong, None]

    run(scenario)
