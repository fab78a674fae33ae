"""The HTTP server: uvicorn, with the headers of the real gateway."""

from __future__ import annotations

import asyncio
import copy
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from airflow_bifrost.testing.app import App

_TICK = 0.1  # seconds; uvicorn counts ten of them before it renews its Date header
_PATIENCE = 0.5  # seconds that a stop waits for answers under way
_PAUSE = 0.005  # seconds until it checks again whether they are gone
_HEADERS = [
    ("Server", "fasthttp"),
    ("X-Frame-Options", "DENY"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "strict-origin-when-cross-origin"),
    ("Content-Security-Policy", "frame-ancestors 'none'"),
    ("Permissions-Policy", "camera=(), microphone=(), geolocation=()"),
]


def _log_to_stderr() -> dict[str, Any]:
    """uvicorn's own log, without its access log on stdout, where the URL stands alone."""
    config = copy.deepcopy(uvicorn.config.LOGGING_CONFIG)
    config["handlers"]["access"]["stream"] = "ext://sys.stderr"
    return config


class _ShowsTransport:
    """Puts the connection's transport into the request's scope, so that a fault can close it."""

    app_state: dict[str, Any]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)  # type: ignore[misc]


_Protocol: type[asyncio.Protocol] = type("_Protocol", (_ShowsTransport, AutoHTTPProtocol), {})


class Server(uvicorn.Server):
    """uvicorn with a callback on start. When it stops, it sends delayed answers at once."""

    def __init__(self, app: App, *, verbose: bool, on_start: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=_log_to_stderr() if verbose else None,
                log_level="info" if verbose else "error",
                access_log=verbose,
                server_header=False,
                headers=_HEADERS,
                timeout_keep_alive=75,
            )
        )
        self._app = app
        self._on_start = on_start
        self._halted = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and call ``on_start``."""
        await super().startup(sockets)
        self._on_start()

    async def main_loop(self) -> None:
        """Tick as uvicorn does, but end as soon as :meth:`halt` is called and not at the next tick."""
        self._loop = asyncio.get_running_loop()
        counter = 0
        while not await self.on_tick(counter):
            counter += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self._halted.wait(), _TICK)

    def halt(self) -> None:
        """Stop serving. Call it from any thread, after the start."""
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._halted.set)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close everything. Delayed answers are sent at once, and other answers have half a second to finish."""
        self._app.stopping.set()
        for server in self.servers:
            server.close()
        for listening in sockets or []:
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        loop = asyncio.get_running_loop()
        until = loop.time() + _PATIENCE
        while (self.server_state.connections or self.server_state.tasks) and loop.time() < until:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(_PAUSE)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Name the protocol: otherwise asyncio leaves Nagle's algorithm on, which costs 40 ms per answer.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    listening.listen(2048)
    return listening
