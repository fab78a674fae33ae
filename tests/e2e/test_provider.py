"""A real Airflow knows this package as a provider, and its connection form and test button work."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from support.local_airflow import LocalAirflow

from airflow_bifrost.testing import LocalGateway, VirtualKey


@pytest.fixture(scope="module")
def guarded_gateway() -> Iterator[LocalGateway]:
    """A gateway that knows one token, which may use one provider."""
    keys = [VirtualKey("sk-bf-good", providers=("openai",))]
    with LocalGateway(virtual_keys=keys, enforce_auth=True) as gateway:
        yield gateway


def press_test(airflow: LocalAirflow, **connection: Any) -> tuple[bool, str]:
    """What the button "Test connection" says."""
    body = {"connection_id": "under_test", "conn_type": "bifrost", **connection}
    answer = airflow.request("POST", "/api/v2/connections/test", json=body)
    return answer["status"], answer["message"]


@pytest.mark.usefixtures("waits")
def test_the_page_of_providers_shows_the_provider(airflow: LocalAirflow) -> None:
    providers = airflow.request("GET", "/api/v2/providers", params={"limit": 200})["providers"]

    assert "airflow-provider-bifrost" in [provider["package_name"] for provider in providers]


def test_the_connection_form_offers_bifrost_with_a_token_and_a_gateway(airflow: LocalAirflow) -> None:
    types = airflow.request("GET", "/ui/connections/hook_meta")
    [bifrost] = [each for each in types if each["connection_type"] == "bifrost"]

    assert bifrost["hook_name"] == "Bifrost"
    assert bifrost["standard_fields"]["password"]["title"] == "Token"
    assert bifrost["standard_fields"]["host"]["title"] == "Gateway"


def test_a_good_connection_is_said_to_be_good(airflow: LocalAirflow, guarded_gateway: LocalGateway) -> None:
    status, message = press_test(airflow, host=guarded_gateway.url, password="sk-bf-good")

    assert status, message


def test_an_unreachable_gateway_is_said_to_be_unreachable(airflow: LocalAirflow) -> None:
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        status, message = press_test(airflow, host=f"http://127.0.0.1:{nobody_listens.getsockname()[1]}")

    assert not status
    assert "reach" in message or "connect" in message.lower()


def test_a_server_that_is_no_gateway_is_said_to_be_none(airflow: LocalAirflow) -> None:
    status, message = press_test(airflow, host=airflow.url)

    assert not status
    assert "gateway" in message.lower()


def test_a_refused_token_is_said_to_be_refused_and_not_repeated(
    airflow: LocalAirflow, guarded_gateway: LocalGateway
) -> None:
    status, message = press_test(airflow, host=guarded_gateway.url, password="sk-bf-wrong")

    assert not status
    assert "token" in message.lower()
    assert "sk-bf-wrong" not in message


def test_a_provider_that_is_not_allowed_is_named(airflow: LocalAirflow, guarded_gateway: LocalGateway) -> None:
    status, message = press_test(
        airflow, host=guarded_gateway.url, password="sk-bf-good", extra='{"provider": "anthropic"}'
    )

    assert not status
    assert "anthropic" in message
