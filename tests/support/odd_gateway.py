"""A small gateway that can be told to misbehave in ways in which the local gateway does not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support.loopback_server import LoopbackServer

TOKEN = "sk-bf-0123456789abcdef"  # of the connection
ABOUT = {"provider": "openai", "latency": 1}
BATCH = {"id": "batch_0123456789abcdef", "object": "batch", "status": "completed", "extra_fields": ABOUT}
PAGE = {"object": "list", "data": [BATCH], "extra_fields": ABOUT}

Answer = Callable[[str, dict[str, str]], Any]


class OddGateway(LoopbackServer):
    """Use it as a context manager.

    :ivar page: what a list of the connection's provider is; called with its query if it can be.
    :ivar batch: what a single batch is.
    :ivar status: of both of these.
    :ivar health_status: of the answer about its health, which is ``health``.
    :ivar delay: seconds before each answer.
    :ivar clock_ahead: seconds; None: no date is sent.
    :ivar asked: path and token of each request.
    """

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.page: Any = PAGE
        self.batch: Any = BATCH
        self.health: Any = {"status": "ok", "components": {"db_pings": "ok"}}
        self.health_status = 200
        self.version = "v9.9.9"
        self.status = 200
        self.delay = 0.0
        self.clock_ahead: float | None = 0.0
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: str, query: dict[str, str], token: str | None) -> tuple[int, Any]:
        if path == "/health":
            return self.health_status, self.health
        if path == "/api/version":
            return 200, self.version
        body = self.page if path.endswith("/batches") else self.batch
        return self.status, body(query, token) if callable(body) else body


class _Handler(BaseHTTPRequestHandler):
    server: OddGateway
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are written one after the other

    def do_GET(self) -> None:
        gateway, parts = self.server, urlsplit(self.path)
        token = (self.headers.get("authorization") or "").removeprefix("Bearer ") or None
        gateway.asked.append((self.path, token))
        time.sleep(gateway.delay)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        status, body = gateway.answer(parts.path, query, token)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response_only(status)
        if gateway.clock_ahead is not None:
            self.send_header("Date", formatdate(time.time() + gateway.clock_ahead, usegmt=True))
        self.send_header("Content-Type", "text/html" if isinstance(body, bytes) else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass
