"""A provider behind the local gateway that misbehaves."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from support.local_gateway_client import Client

from airflow_bifrost.testing import Fault, LocalGateway, ProviderAnswer

DROPPED = (httpx.RemoteProtocolError, httpx.ReadError)  # not a timeout
LIMITED = ProviderAnswer(429, {"retry-after": "42"}, {"error": {"message": "Slow down", "code": "rate_limit_exceeded"}})
CLOSED = ProviderAnswer(failure="close")


def test_the_providers_answer_becomes_the_gateways_without_its_headers(gateway: LocalGateway, client: Client) -> None:
    gateway.inject(Fault(provider_answer=LIMITED))
    limited = client.get(f"/openai/v1/batches/{gateway.add_batch()}")
    assert (limited.status_code, limited.headers["content-type"]) == (429, "application/json")
    assert "retry-after" not in limited.headers
    assert limited.json() == {
        "is_bifrost_error": False,
        "status_code": 429,
        "error": {"message": "Slow down", "code": "rate_limit_exceeded"},
        "extra_fields": {"provider": "openai", "request_type": "batch_retrieve", "raw_response": LIMITED.body},
    }
    assert client.get("/openai/v1/batches").status_code == 200


def test_a_failure_of_the_provider_depends_on_the_route(gateway: LocalGateway, client: Client) -> None:
    gateway.inject(Fault(provider_answer=CLOSED, times=2))
    assert client.get("/openai/v1/batches/b1").status_code == 500
    assert client.get("/v1/batches/b1?provider=openai").status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/health", None),
        ("GET", "/openai/v1/nosuch", None),
        ("GET", "/openai/v1/batches?provider=groq", None),
        ("GET", "/openai/v1/batches?after=batch_1", None),
        ("GET", "/openai/v1/files/files-1/content?provider=gemini", None),
        ("POST", "/openai/v1/batches", {"input_file_id": "file-1"}),
        ("POST", "/openai/v1/batches", {"provider": "nosuch", "input_file_id": "file-1"}),
    ],
)
def test_a_call_that_never_gets_to_the_provider_does_not_meet_its_fault(
    gateway: LocalGateway, client: Client, method: str, path: str, body: object
) -> None:
    undisturbed = client.request(method, path, json=body)
    gateway.inject(Fault(provider_answer=LIMITED))
    assert client.request(method, path, json=body).content == undisturbed.content
    assert client.get("/openai/v1/batches").status_code == 429


def test_a_token_is_refused_before_the_provider_is_asked() -> None:
    with LocalGateway(enforce_auth=True, virtual_keys=["sk-bf-good"]) as gateway:
        gateway.inject(Fault(provider_answer=LIMITED))
        for token, status in (("sk-bf-bad", 401), ("sk-bf-good", 429), ("sk-bf-good", 200)):
            answer = httpx.get(f"{gateway.url}/openai/v1/batches", headers={"authorization": f"Bearer {token}"})
            assert answer.status_code == status


def test_another_fault_comes_before_that_of_the_provider(gateway: LocalGateway, client: Client) -> None:
    gateway.inject(Fault(provider_answer=LIMITED))
    gateway.inject(Fault(status=502))
    assert [client.get("/openai/v1/batches").status_code for _ in range(3)] == [502, 429, 200]


def test_a_create_that_times_out_makes_a_batch_only_if_it_was_applied(gateway: LocalGateway, client: Client) -> None:
    body = {"provider": "anthropic", "requests": [{"custom_id": "a", "params": {}}]}
    for applied, batches in ((False, 0), (True, 1)):
        gateway.inject(Fault(provider_answer=ProviderAnswer(failure="timeout"), applied=applied))
        late = client.post("/openai/v1/batches", json=body)
        assert (late.status_code, late.json()["error"]["type"]) == (504, "request_timed_out")
        assert len(gateway.batches) == batches


def test_a_fault_of_the_provider_may_be_late(gateway: LocalGateway, client: Client) -> None:
    gateway.inject(Fault(provider_answer=CLOSED, delay=60))
    with pytest.raises(httpx.ReadTimeout):
        client.get("/openai/v1/batches", timeout=0.1)


def test_no_content_has_no_body(gateway: LocalGateway, client: Client) -> None:
    gateway.inject(Fault(provider_answer=ProviderAnswer(204)))
    nothing = client.get("/openai/v1/batches/b1")
    assert (nothing.status_code, nothing.headers["content-type"], nothing.content) == (204, "application/json", b"")
    assert client.get("/openai/v1/batches").status_code == 200


def test_an_answer_that_says_nothing_is_a_200_without_id_and_status(gateway: LocalGateway, client: Client) -> None:
    gateway.inject(Fault(provider_answer=ProviderAnswer(body={"error": {"message": "something"}})))
    hollow = client.batch("b1")
    assert (hollow["id"], hollow["status"]) == ("", "")
    assert hollow["extra_fields"]["request_type"] == "batch_retrieve"


def test_a_web_page_instead_of_a_file_is_downloaded_as_it_is(gateway: LocalGateway, client: Client) -> None:
    gateway.inject(
        Fault(provider_answer=ProviderAnswer(headers={"content-type": "text/html"}, body="<html>Sign in</html>"))
    )
    page = client.get("/openai/v1/files/file-1/content")
    assert (page.status_code, page.headers["content-type"], page.text) == (200, "text/html", "<html>Sign in</html>")


def test_an_answer_that_ends_the_gateway_costs_the_connection_here(gateway: LocalGateway, client: Client) -> None:
    batch_id = gateway.add_batch("gemini", status="completed")
    gateway.inject(Fault(provider_answer=ProviderAnswer(body={"name": "batches/x", "metadata": {}})))
    with pytest.raises(DROPPED):
        client.batch(batch_id, "gemini")
    assert client.batch(batch_id, "gemini")["status"] == "completed"


def test_an_answer_that_is_no_fault_is_told_so_with_a_status_that_no_client_repeats(
    gateway: LocalGateway, client: Client
) -> None:
    gateway.inject(Fault(provider_answer=ProviderAnswer(body={"id": "batch_1", "status": "completed"})))
    told = client.get("/openai/v1/batches/batch_1")
    assert told.status_code == 400
    assert "so it is not a fault" in told.json()["error"]["message"]
    assert gateway.misuses == [f"GET /openai/v1/batches/batch_1: {told.json()['error']['message']}"]
    gateway.reset()
    assert gateway.misuses == []


@pytest.mark.parametrize(
    ("given", "advice"),
    [(LIMITED, r"give Fault\(provider_answer=ProviderAnswer\(...\)\)"), ({"status": 503}, r"give a Fault\(...\)")],
)
def test_only_a_fault_can_be_injected(gateway: LocalGateway, given: Any, advice: str) -> None:
    with pytest.raises(TypeError, match=advice):
        gateway.inject(given)


def test_another_process_lets_the_provider_fail_over_http(client: Client) -> None:
    fault = {"provider_answer": {"status": 503, "body": "unavailable"}, "provider": "openai"}
    assert client.post("/_local/faults", json=fault).status_code == 204
    assert client.get("/_local/faults").json()[0]["provider_answer"]["status"] == 503
    assert client.get("/openai/v1/batches").json()["error"]["message"] == "provider API error: unavailable"
    for mistake in ({"failure": "explosion"}, {"statsu": 503}, "close"):
        refused = client.post("/_local/faults", json={"provider_answer": mistake})
        assert refused.status_code == 400
        assert refused.json()["error"]
