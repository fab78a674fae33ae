"""Both clients behind one interface."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.clients import Async, AsyncOverHttpx, Connect, Sync


@pytest.fixture(params=[Sync, Async, AsyncOverHttpx], ids=["sync", "async", "async-httpx"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    connect = Connect(request.param)
    yield connect
    for client in connect.opened:
        client.close()
