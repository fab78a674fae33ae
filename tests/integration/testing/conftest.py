"""A local gateway for each test, and a client for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.local_gateway_client import Client

from airflow_bifrost.testing import LocalGateway


@pytest.fixture(scope="session")
def shared_gateway() -> Iterator[LocalGateway]:
    with LocalGateway(batch_seconds=0) as running:
        yield running


@pytest.fixture
def gateway(shared_gateway: LocalGateway) -> LocalGateway:
    """A gateway that knows nothing yet; batches end at once."""
    shared_gateway.reset()
    return shared_gateway


@pytest.fixture
def client(gateway: LocalGateway) -> Iterator[Client]:
    with Client(base_url=gateway.url, timeout=60) as connected:
        yield connected
