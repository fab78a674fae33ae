"""pytest fixtures for offline tests of DAGs that use the gateway. Imports nothing heavy until a fixture is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_bifrost.testing.server import LocalGateway


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers", "bifrost_gateway(**options): arguments of LocalGateway for the fixture bifrost_gateway"
    )


@pytest.fixture
def bifrost_gateway(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalGateway]:
    """A local gateway whose batches take 0.2 s, behind the connection ``bifrost_default``.

    ``@pytest.mark.bifrost_gateway(batch_seconds=0)`` and the like give arguments of ``LocalGateway``.
    """
    from airflow_bifrost.testing.server import LocalGateway

    marker = request.node.get_closest_marker("bifrost_gateway")
    options = {"batch_seconds": 0.2, **(marker.kwargs if marker else {})}
    with LocalGateway(**options) as gateway:
        monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", gateway.connection_json())
        yield gateway
