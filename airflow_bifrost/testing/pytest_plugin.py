"""A pytest fixture for offline tests of DAGs that use the gateway. Imports nothing heavy until the fixture is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_bifrost.testing.local_gateway import LocalGateway


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        "bifrost_gateway(token=None, **options): for the fixture bifrost_gateway, the token that its connection sends,"
        " and arguments of LocalGateway",
    )


@pytest.fixture
def bifrost_gateway(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalGateway]:
    """A local gateway whose batches take 0.2 s, behind the connection ``bifrost_default``.

    ``@pytest.mark.bifrost_gateway(batch_seconds=0)`` and the like pass arguments to ``LocalGateway``; ``token`` is the token that
    the connection sends. A test that injected an answer which is not a fault fails here, because it may have passed for another reason.
    """
    from airflow_bifrost.testing.local_gateway import LocalGateway

    marker = request.node.get_closest_marker("bifrost_gateway")
    options = {"batch_seconds": 0.2, **(marker.kwargs if marker else {})}
    token = options.pop("token", None)
    with LocalGateway(**options) as gateway:
        monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", gateway.connection_json(token))
        yield gateway
        if misuses := gateway.misuses:
            pytest.fail("bifrost_gateway was given answers that are not faults:\n" + "\n".join(misuses), pytrace=False)
