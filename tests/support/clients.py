"""Both clients behind one interface, a gateway of canned answers, and a raw server that keeps the bytes it was sent."""

from __future__ import annotations

import asyncio
import io
import json
import socketserver
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast
from urllib.parse import parse_qs

import httpx

from airflow_bifrost.gateway.async_client import AsyncGatewayClient
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.retry import NO_RETRY, RetryPolicy

TOKEN = "sk-bf-unit-test-token"

Handler = Callable[[httpx.Request], httpx.Response]

IDEMPOTENCY = "x-bf-eh-idempotency-key"


class Listed(list[Any]):
    """The entries of a listing that was read to its end, and the listing."""

    def __init__(self, entries: list[Any], listing: Any) -> None:
        super().__init__(entries)
        self.listing = listing


class Sync:
    """The sync client, with the same methods as :class:`Async`."""

    def __init__(self, config: GatewayConfig, sleep: Callable[[float], object], **options: Any) -> None:
        self.client = GatewayClient(config, sleep=sleep, **options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            value = getattr(self.client, name)(*args, **kwargs)
            return Listed(list(value), value) if name in ("list_batches", "list_files") else value

        return call

    def download(self, file_id: str, **kwargs: Any) -> list[bytes]:
        with self.client.file_content(file_id, **kwargs) as chunks:
            return list(chunks)

    def results(self, batch_id: str, **kwargs: Any) -> list[bytes]:
        with self.client.results_content(batch_id, **kwargs) as chunks:
            return list(chunks)

    def download_nowhere(self, file_id: str) -> int:
        with self.client.file_content(file_id) as chunks:
            return sum(len(chunk) for chunk in chunks)

    def close(self) -> None:
        self.client.close()


class Async:
    """The async client, each call run to its end."""

    def __init__(self, config: GatewayConfig, sleep: Callable[[float], object], **options: Any) -> None:
        async def asleep(seconds: float) -> object:
            return sleep(seconds)

        if (renew := options.pop("renew", None)) is not None:

            async def arenew() -> GatewayConfig:
                return cast(GatewayConfig, renew())

            options["renew"] = arenew
        self.runner = asyncio.Runner()
        self.client = AsyncGatewayClient(config, sleep=asleep, **options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            value = getattr(self.client, name)(*args, **kwargs)
            if name in ("list_batches", "list_files"):
                return Listed([item async for item in value], value)
            return await value

        return lambda *args, **kwargs: self.runner.run(call(*args, **kwargs))

    def download(self, file_id: str, **kwargs: Any) -> list[bytes]:
        async def call() -> list[bytes]:
            async with self.client.file_content(file_id, **kwargs) as chunks:
                return [chunk async for chunk in chunks]

        return self.runner.run(call())

    def results(self, batch_id: str, **kwargs: Any) -> list[bytes]:
        async def call() -> list[bytes]:
            async with self.client.results_content(batch_id, **kwargs) as chunks:
                return [chunk async for chunk in chunks]

        return self.runner.run(call())

    def download_nowhere(self, file_id: str) -> int:
        async def call() -> int:
            total = 0
            async with self.client.file_content(file_id) as chunks:
                async for chunk in chunks:
                    total += len(chunk)
            return total

        return self.runner.run(call())

    def close(self) -> None:
        self.runner.run(self.client.aclose())
        self.runner.close()


class Connect:
    """Makes clients of one kind, and closes them."""

    def __init__(self, kind: type[Sync] | type[Async]) -> None:
        self.kind = kind
        self.opened: list[Sync | Async] = []
        self.sleeps: list[float] = []

    def __call__(
        self,
        handler: Handler | None = None,
        *,
        retry: RetryPolicy = NO_RETRY,
        transport: Any = None,
        base_url: str = "https://gw.example",
        on_answer: Any = None,
        sleep: Callable[[float], object] | None = None,
        worked_before: bool = False,
        renew: Callable[[], GatewayConfig] | None = None,
        **config: Any,
    ) -> Any:
        config = {"token": TOKEN, "name": "unit", **config}
        if handler:
            transport = httpx.MockTransport(handler)
        options = {
            "retry": retry,
            "transport": transport,
            "on_answer": on_answer,
            "worked_before": worked_before,
            "renew": renew,
        }
        client = self.kind(GatewayConfig(base_url, **config), sleep or self.sleeps.append, **options)
        self.opened.append(client)
        return client


class AsyncOverHttpx(Async):
    """The async client over httpx's own transport."""

    def __init__(self, config: GatewayConfig, sleep: Callable[[float], object], **options: Any) -> None:
        super().__init__(replace(config, transport="httpx"), sleep, **options)


def answer(body: Any = None, status: int = 200, **headers: str) -> httpx.Response:
    """A JSON answer of the gateway."""
    return httpx.Response(
        status,
        headers={
            "content-type": "application/json",
            **{name.replace("_", "-"): text for name, text in headers.items()},
        },
        content=b"" if body is None else json.dumps(body).encode(),
    )


BATCH = {"id": "batch_1", "object": "batch", "status": "in_progress", "extra_fields": {}}
FILE = {"id": "file-1", "object": "file", "bytes": 3, "extra_fields": {}}


class RawServer:
    """Answers each connection with the next of ``answers``, the last one for ever; keeps what it was sent, as it came."""

    def __init__(self, *answers: bytes, wrap: Callable[[Any], Any] | None = None) -> None:
        self.received: list[bytes] = []
        pending = list(answers)
        outer = self

        class Answering(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                try:
                    connection = wrap(self.request) if wrap else self.request
                    data = b""
                    while b"\r\n\r\n" not in data and (more := connection.recv(65536)):
                        data += more
                    if not data:
                        return
                    outer.received.append(data)
                    connection.sendall(pending.pop(0) if len(pending) > 1 else pending[0])
                    connection.close()
                except OSError:
                    pass

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answering)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def __enter__(self) -> RawServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def http_answer(body: Any, status: str = "200 OK", headers: str = "") -> bytes:
    """An answer as it goes over the wire."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n{headers}Connection: close\r\n\r\n"
    return head.encode() + content


class Gateway:
    """Answers with ``answers`` in turn, the last one for ever; keeps the requests."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(given, Exception):
            raise given
        if isinstance(given, httpx.Response):
            return httpx.Response(given.status_code, headers=given.headers, content=given.content)
        return answer(given)

    @property
    def last(self) -> httpx.Request:
        return self.requests[-1]


def query(request: httpx.Request) -> dict[str, list[str]]:
    return parse_qs(request.url.query.decode())


def page(*ids: str, cursor: str | None = None, name: str = "next_cursor", **fields: Any) -> dict[str, Any]:
    listing = {"object": "list", "data": [{"id": i, "status": "completed"} for i in ids], "extra_fields": {}, **fields}
    return listing | ({"has_more": True, name: cursor} if cursor else {})


# The calls that change nothing, or nothing twice: name, arguments, method, path, answer
READING = [
    ("get_batch", ("batch_1",), "GET", "/openai/v1/batches/batch_1", BATCH),
    ("cancel_batch", ("batch_1",), "POST", "/openai/v1/batches/batch_1/cancel", BATCH),
    ("get_raw", ("batch_1",), "GET", "/openai/v1/batches/batch_1", BATCH),
    ("list_page", (), "GET", "/openai/v1/batches", page("a")),
    ("list_raw", (), "GET", "/openai/v1/batches", page("a")),
    ("list_batches", (), "GET", "/openai/v1/batches", page("a")),
    ("batch_results", ("batch_1",), "GET", "/v1/batches/batch_1/results", {"batch_id": "batch_1", "results": []}),
    ("list_files", (), "GET", "/openai/v1/files", page("f")),
    ("list_files_page", (), "GET", "/openai/v1/files", page("f")),
    ("get_file", ("file-1",), "GET", "/openai/v1/files/file-1", FILE),
    ("delete_file", ("file-1",), "DELETE", "/openai/v1/files/file-1", {"id": "file-1", "deleted": True}),
    ("download", ("file-1",), "GET", "/openai/v1/files/file-1/content", "text"),
    ("download_file", ("file-1", io.BytesIO()), "GET", "/openai/v1/files/file-1/content", "text"),
    ("results", ("batch_1",), "GET", "/v1/batches/batch_1/results", {"batch_id": "batch_1", "results": []}),
]
