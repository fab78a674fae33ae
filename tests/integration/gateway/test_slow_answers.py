"""An answer that drips in byte by byte has an end all the same."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from airflow_bifrost.exceptions import BifrostUnavailable
from airflow_bifrost.gateway.async_client import AsyncGatewayClient
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.retry import NO_RETRY


@contextmanager
def dripping_server() -> Iterator[str]:
    """Answers 200 at once, and then a byte every tenth of a second, until it is stopped."""
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(30)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
            while not stop.wait(0.1):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return  # the client has had enough

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop.set()
        thread.join()
        listener.close()


def ask(config: GatewayConfig) -> None:
    with GatewayClient(config, retry=NO_RETRY) as gateway:
        gateway.get_batch("b1")


def ask_async(config: GatewayConfig) -> None:
    async def once() -> None:
        async with AsyncGatewayClient(config, retry=NO_RETRY) as gateway:
            await asyncio.wait_for(gateway.get_batch("b1"), 30)

    asyncio.run(once())


@pytest.mark.parametrize("ask", [ask, ask_async])
def test_an_answer_that_drips_in_is_given_up_after_the_timeout(ask: Callable[[GatewayConfig], None]) -> None:
    with dripping_server() as url, pytest.raises(BifrostUnavailable, match="not complete after 1 s"):
        ask(GatewayConfig(url, timeout=1))
