"""The hook, sync and async, against a local gateway over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.web_server import WebServer

from airflow_bifrost.hooks.bifrost import BifrostHook
from airflow_bifrost.testing import LocalGateway

TOKEN = "sk-bf-0123456789abcdef"


class SyncCalls:
    """The hook's calls by their names, from ordinary code."""

    def __init__(self) -> None:
        self.hook = BifrostHook()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(self.hook, name)  # type: ignore[no-any-return]

    def content(self, file_id: str) -> list[bytes]:
        with self.hook.file_content(file_id) as chunks:
            return list(chunks)

    def finish(self) -> None:
        self.hook.close()


class AsyncCalls:
    """The same, each awaited in one event loop."""

    def __init__(self) -> None:
        self.hook = BifrostHook()
        self.runner = asyncio.Runner()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self.hook, f"a{name}")
        return lambda *args, **kwargs: self.runner.run(call(*args, **kwargs))

    def content(self, file_id: str) -> list[bytes]:
        async def collect() -> list[bytes]:
            async with self.hook.afile_content(file_id) as chunks:
                return [chunk async for chunk in chunks]

        return self.runner.run(collect())

    def finish(self) -> None:
        self.runner.run(self.hook.aclose())
        self.runner.close()


@pytest.fixture(scope="session")
def shared_hook_gateway() -> Iterator[LocalGateway]:
    with LocalGateway(batch_seconds=3600, virtual_keys=[TOKEN]) as running:
        yield running


@pytest.fixture
def gateway(shared_hook_gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch) -> LocalGateway:
    """A gateway that knows nothing yet, behind ``bifrost_default``."""
    shared_hook_gateway.reset()
    monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", shared_hook_gateway.connection_json(token=TOKEN))
    return shared_hook_gateway


@pytest.fixture(params=[SyncCalls, AsyncCalls], ids=["sync", "async"])
def hook(request: pytest.FixtureRequest, gateway: LocalGateway) -> Iterator[Any]:
    """The hook by the names of its sync calls."""
    calls = request.param()
    yield calls
    calls.finish()


@pytest.fixture
def web_server() -> Iterator[WebServer]:
    with WebServer() as running:
        yield running
