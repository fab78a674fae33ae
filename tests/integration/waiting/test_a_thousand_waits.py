"""What a thousand waits cost over real connections: requests, connections, tasks and lookups, which do not depend on the clock."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support.loopback_server import LoopbackServer

from airflow_bifrost.gateway.async_client import AsyncGatewayClient
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.retry import NO_RETRY
from airflow_bifrost.waiting.decision import Finished, WaitState
from airflow_bifrost.waiting.handles import Listener
from airflow_bifrost.waiting.hub import Hub
from airflow_bifrost.waiting.policy import WaitPolicy

N, PAGE, INTERVAL, ENDED = 1000, 100, 1.0, 200


class Gateway(LoopbackServer):
    """A thousand batches, listed newest first; counts requests by kind, and connections."""

    def __init__(self) -> None:
        super().__init__(Handler)
        self.ids = [f"batch_{number:05d}" for number in range(N)]
        self.ended: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.connections = self.lookups = 0

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def batch(self, batch_id: str) -> dict[str, Any]:
        status = "completed" if batch_id in self.ended else "in_progress"
        counts = {"total": 10, "completed": 10 if batch_id in self.ended else 4, "failed": 0}
        created = 1_775_400_000 + int(batch_id[-5:])
        return {
            "id": batch_id,
            "status": status,
            "created_at": created,
            "request_counts": counts,
            "output_file_id": "file_out" if batch_id in self.ended else None,
            "extra_fields": {},
        }

    def page(self, after: str) -> dict[str, Any]:
        start = int(after or 0)
        entries = [self.batch(batch_id) for batch_id in self.ids[::-1][start : start + PAGE]]
        more = {"has_more": True, "next_cursor": str(start + PAGE)} if start + PAGE < N else {}
        return {"object": "list", "data": entries, "extra_fields": {}, **more}

    async def open(self, conn_id: str) -> AsyncGatewayClient:
        self.lookups += 1
        config = GatewayConfig(f"http://127.0.0.1:{self.server_port}", token="sk-bf-good", provider="openai")
        return AsyncGatewayClient(config, retry=NO_RETRY)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Gateway

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        is_list = url.path.endswith("/batches")
        self.server.asked["list" if is_list else "get"] += 1
        after = parse_qs(url.query).get("after", [""])[0]
        answer = self.server.page(after) if is_list else self.server.batch(url.path.rpartition("/")[2])
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Not in a test's output."""


def test_a_thousand_waits_need_few_connections_and_one_poll_for_each_batch_that_ended() -> None:
    async def wait_for_all(gateway: Gateway) -> tuple[Counter[str], int]:
        policy, nobody = WaitPolicy(INTERVAL, time.time() + 300, 300), Listener()
        async with Hub.join("c", gateway.open) as hub:
            waits = [
                hub.wait(WaitState(batch_id, next_poll_at=time.time() + INTERVAL * number / N), None, policy, nobody)
                for number, batch_id in enumerate(gateway.ids)
            ]
            while gateway.asked["list"] < 2 * N / PAGE:  # noqa: ASYNC110 - nothing tells; then each page is known
                await asyncio.sleep(0.05)
            gateway.asked.clear()
            gateway.ended.update(gateway.ids[::5])
            tasks = 0
            async with asyncio.timeout(120):
                while not all(wait.done() for wait in waits[::5]):
                    tasks = max(tasks, len(asyncio.all_tasks()))
                    await asyncio.sleep(0.05)
            assert all(isinstance(wait.result(), Finished) for wait in waits[::5])
            assert not any(wait.done() for number, wait in enumerate(waits) if number % 5)
        return gateway.asked, tasks

    with Gateway() as gateway:
        asked, tasks = asyncio.run(wait_for_all(gateway))
    assert asked["get"] <= ENDED + N / PAGE
    assert gateway.lookups == 1
    assert gateway.connections <= 8
    assert tasks <= 8 + 4  # the requests, the test, the lookup, aiohttp's own
