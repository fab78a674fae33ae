"""The gateway's clock, by the ``Date`` header of its answers."""

from __future__ import annotations

import time
from email.utils import formatdate

import httpx
import pytest

from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.config import GatewayConfig


def client_of(headers: dict[str, str]) -> GatewayClient:
    answer = httpx.MockTransport(lambda request: httpx.Response(404, headers=headers, json={}))
    return GatewayClient(GatewayConfig("http://gw.example"), transport=answer)


def offset_after_an_error(headers: dict[str, str]) -> float | None:
    with client_of(headers) as client, pytest.raises(Exception, match="404"):
        client.get_batch("b1")
    return client.clock_offset


def test_the_offset_is_known_after_any_answer_with_a_date() -> None:
    assert offset_after_an_error({"date": formatdate(time.time() + 7200, usegmt=True)}) == pytest.approx(7200, abs=600)


@pytest.mark.parametrize("headers", [{}, {"date": "yesterday"}, {"date": ""}], ids=["none", "unreadable", "empty"])
def test_without_a_readable_date_the_offset_is_unknown(headers: dict[str, str]) -> None:
    assert offset_after_an_error(headers) is None
