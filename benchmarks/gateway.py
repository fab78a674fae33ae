"""The scripted gateway of the benchmarks: a bare asyncio protocol in a separate process, so that no contender pays for it.

Batch ``i`` of ``n`` is done at a moment that is known beforehand (:func:`moments`). It can be asked for in every shape that a
contender speaks: through Bifrost, one by one and as a list, and as OpenAI and Anthropic have it themselves. What it says is what
holds when it answers, ``latency`` seconds after the request came. A second port controls it and tells what was counted.

As a program it prints its two ports, and ends when its stdin closes. :class:`Gateway` starts one and talks to it.
"""

# ruff: noqa: S603, T201 - a script: it prints, it starts an interpreter, and it asks its own server

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from typing import Any, Self
from urllib.parse import parse_qs, urlencode
from urllib.request import urlopen

from wire import ROUTES, index_of, page_of


def moments(n: int, first: float, last: float) -> list[float]:
    """When each of the ``n`` batches is done: evenly spread, in an order that has nothing to do with that of their ids."""
    order = random.Random(7).sample(range(n), n)
    return [first + (last - first) * (place + 1) / n for place in order]


class State:
    """What the two ports share: the script, the counters, and whether the gateway is away."""

    def __init__(self) -> None:
        self.latency = 0.0
        self.done_at: list[float] = []
        self.first = self.last = 0.0
        self.away = False
        self.connections: set[Api] = set()
        self.reset()

    def reset(self) -> None:
        self.requests: Counter[str] = Counter()
        self.arrivals: list[float] = []
        self.accepted = 0
        self.refused: list[float] = []

    def batch(self, route: str, index: int) -> dict[str, Any]:
        done_at = self.done_at[index]
        return ROUTES[route](index, done_at if time.time() >= done_at else None)

    def page(self, route: str, limit: int, after: str) -> dict[str, Any]:
        indices, page = page_of(len(self.done_at), route.partition("?")[2], limit, after)
        return page | {"data": [self.batch(route, index) for index in indices]}


class Http(asyncio.Protocol):
    """HTTP/1.1, GET only, keep-alive."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            path, _, query = head.split(b" ", 2)[1].decode().partition("?")
            self.asked(path, {name: values[0] for name, values in parse_qs(query).items()} if query else {})

    def asked(self, path: str, query: dict[str, str]) -> None:
        raise NotImplementedError

    def answer(self, value: dict[str, Any], status: str = "200 OK") -> None:
        body = json.dumps(value, separators=(",", ":")).encode()
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)


class Api(Http):
    def __init__(self, state: State) -> None:
        self.state = state

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self.state.away:
            self.state.refused.append(time.time())
            transport.abort()
        else:
            self.state.accepted += 1
            self.state.connections.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self.state.connections.discard(self)

    def asked(self, path: str, query: dict[str, str]) -> None:
        state = self.state
        state.arrivals.append(time.time())
        listing = path == "/openai/v1/batches"
        root, _, last = (path, "", "") if listing else path.rpartition("/")
        route = f"{root}?{query.get('provider', 'openai')}" if root == "/openai/v1/batches" else root
        state.requests["list" if listing else "retrieve"] += 1

        def answer() -> None:
            if self.transport.is_closing():  # the one who asked is gone, and perhaps the script with it
                return
            if route not in ROUTES:
                self.answer({"error": {"message": f"no such route: {path}"}}, "404 Not Found")
            elif listing:
                self.answer(state.page(route, int(query.get("limit", 30)), query.get("after", "")))
            else:
                self.answer(state.batch(route, index_of(last)))

        asyncio.get_running_loop().call_later(state.latency, answer)


class Control(Http):
    def __init__(self, state: State) -> None:
        self.state = state

    def asked(self, path: str, query: dict[str, str]) -> None:
        state = self.state
        if path == "/script":
            state.reset()
            state.latency = float(query["latency"])
            state.first, state.last = float(query["first"]), float(query["last"])
            state.done_at = moments(int(query["n"]), state.first, state.last)
        elif path == "/away":
            state.away = query["on"] == "True"
            for connection in list(state.connections) if state.away else ():
                connection.transport.abort()
        script = {"batches": len(state.done_at), "first": state.first, "last": state.last}
        counters = script | {"requests": state.requests, "connections": state.accepted, "refused": len(state.refused)}
        if path == "/moments":
            counters |= {"arrivals": state.arrivals, "refusals": state.refused}
        self.answer(counters)


async def serve() -> None:
    loop, state, ended = asyncio.get_running_loop(), State(), asyncio.Event()
    servers = [
        await loop.create_server(lambda kind=kind: kind(state), "127.0.0.1", 0, backlog=4096) for kind in (Api, Control)
    ]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    loop.add_reader(sys.stdin, ended.set)
    await ended.wait()


class Gateway:
    """A gateway process, for the one that started it (:meth:`start`) and for others that know its ports.

    :param port: of the API.
    :param control_port: of the control.
    """

    def __init__(self, port: int, control_port: int, process: subprocess.Popen[str] | None = None) -> None:
        self.port, self.control_port = port, control_port
        self.url = f"http://127.0.0.1:{port}"
        self._process = process

    @classmethod
    def start(cls) -> Self:
        command = [sys.executable, __file__]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return cls(*json.loads(process.stdout.readline()), process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.communicate()

    def script(self, n: int, first: float, last: float, latency: float) -> list[float]:
        """Start over with ``n`` batches that end between two moments (unix seconds).

        :param latency: seconds that each answer takes.
        :return: when each batch is done.
        """
        self._ask("script", n=n, first=first, last=last, latency=latency)
        return moments(n, first, last)

    def counters(self) -> dict[str, Any]:
        """The script, and since it began: requests by kind, connections, connections refused."""
        return self._ask("counters")

    def moments(self) -> dict[str, Any]:
        """The counters, and when each request and each refused connection came (unix seconds)."""
        return self._ask("moments")

    def away(self, on: bool) -> None:
        """Break all connections and refuse new ones, or serve again. Refused is: reset at once, so that it can be counted."""
        self._ask("away", on=on)

    def _ask(self, what: str, **query: object) -> dict[str, Any]:
        with urlopen(f"http://127.0.0.1:{self.control_port}/{what}?{urlencode(query)}") as response:
            return dict(json.load(response))


if __name__ == "__main__":
    asyncio.run(serve())
