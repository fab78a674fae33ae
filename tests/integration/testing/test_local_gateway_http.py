"""Paths, tokens and faults, as raw HTTP sees them."""

from __future__ import annotations

import socket
import threading
import time

import httpx
import pytest
from support.local_gateway_client import Client
from support.meanwhile import until

from airflow_bifrost.testing import Fault, LocalGateway, VirtualKey

DROPPED = (httpx.RemoteProtocolError, httpx.ReadError)  # not a timeout


@pytest.mark.parametrize(
    "path", ["/", "/nosuch", "/OpenAI/v1/batches/b", "/openai/v1/batches/a/b", "/openai/v1/batches//b"]
)
def test_a_get_of_anything_else_is_a_web_page(client: Client, path: str) -> None:
    page = client.get(path)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")


def test_a_405_names_the_methods_that_there_are(client: Client) -> None:
    assert client.delete("/openai/v1/batches").headers["allow"] == "GET, OPTIONS, POST"


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH", "POST", "HEAD"])
def test_another_method_on_no_route_is_405(client: Client, method: str) -> None:
    refused = client.request(method, "/openai/v1/batches/b1")
    assert refused.status_code == 405
    assert refused.headers["content-type"] == "text/plain; charset=utf-8"
    assert refused.headers["allow"] == "GET, OPTIONS"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/openai/v1/batches/b1/?provider=x", 301), ("POST", "/openai/v1/batches/b1/cancel/", 308)],
)
def test_a_trailing_slash_redirects_to_plain_http(client: Client, method: str, path: str, status: int) -> None:
    moved = client.request(method, path, headers={"host": "example.org"})
    bare = path.replace("/?", "?").removesuffix("/")
    assert (moved.status_code, moved.headers["location"]) == (status, f"http://example.org{bare}")


def test_health_and_version_need_no_token() -> None:
    with LocalGateway(enforce_auth=True) as gateway:
        assert httpx.get(f"{gateway.url}/health").json() == {"components": {"db_pings": "ok"}, "status": "ok"}
        assert httpx.get(f"{gateway.url}/api/version").json() == "v1.4.19"


def test_an_unknown_batch_is_404_in_the_providers_words(client: Client) -> None:
    missing = client.get("/openai/v1/batches/batch_nope?provider=openai")
    assert missing.status_code == 404
    error = {"type": "invalid_request_error", "message": "No batch found with id 'batch_nope'."}
    assert missing.json() == {
        "is_bifrost_error": False,
        "status_code": 404,
        "error": error,
        "extra_fields": {
            "provider": "openai",
            "request_type": "batch_retrieve",
            "raw_response": {"error": {**error, "param": None, "code": None}},
        },
    }


def test_a_body_over_the_limit_is_400_and_the_connection_is_closed() -> None:
    with (
        LocalGateway(max_body_mb=1) as gateway,
        socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2]))) as raw,
    ):
        raw.sendall(b"POST /openai/v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n")
        answer = b""
        while chunk := raw.recv(4096):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"Error when parsing request")


def test_a_refusal_of_governance_stands_in_the_top_level_type() -> None:
    keys = ["sk-bf-good", VirtualKey("sk-bf-broke", exhausted="budget")]
    with LocalGateway(virtual_keys=keys, enforce_auth=True) as gateway:
        batch_id = gateway.add_batch(status="completed")
        url = f"{gateway.url}/openai/v1/batches/{batch_id}"
        assert httpx.get(url, headers={"authorization": "Bearer sk-bf-good"}).status_code == 200
        refused = httpx.get(url, headers={"authorization": "Bearer sk-bf-broke"})
        assert (refused.status_code, refused.json()["type"]) == (402, "budget_exceeded")
        assert set(refused.json()["error"]) == {"message"}
        assert httpx.get(url).json()["type"] == "virtual_key_required"


def test_an_unknown_provider_is_found_before_the_keys_own_list_is_looked_at() -> None:
    with LocalGateway(virtual_keys=[VirtualKey("sk-bf-narrow", providers=("gemini",))]) as gateway:
        headers = {"authorization": "Bearer sk-bf-narrow"}
        assert httpx.get(f"{gateway.url}/openai/v1/batches/b?provider=nosuch", headers=headers).status_code == 500
        assert httpx.get(f"{gateway.url}/openai/v1/batches/b?provider=openai", headers=headers).status_code == 403


def test_keys_that_are_not_for_batches_serve_files_only() -> None:
    with LocalGateway(keys={"openai": "not_for_batches"}) as gateway:
        file_id = gateway.add_file(b"{}")
        refused = httpx.get(f"{gateway.url}/openai/v1/batches")
        assert (refused.status_code, refused.json()["error"]["message"]) == (
            500,
            "no batch-enabled keys found for provider: openai and model: ",
        )
        assert httpx.get(f"{gateway.url}/openai/v1/files/{file_id}").status_code == 200


def test_a_provider_without_a_key_serves_nothing() -> None:
    with LocalGateway(keys={"gemini": "none"}) as gateway:
        for path in ("batches", "files/f1"):
            refused = httpx.get(f"{gateway.url}/openai/v1/{path}?provider=gemini")
            assert refused.json()["error"]["message"] == "no keys found for provider: gemini"
        assert httpx.get(f"{gateway.url}/openai/v1/batches").status_code == 200


def test_keys_are_good_for_what_there_is_only() -> None:
    with pytest.raises(ValueError, match="none or not_for_batches"):
        LocalGateway(keys={"openai": "chat"})


def test_keys_of_an_unknown_provider_are_refused() -> None:
    with pytest.raises(
        ValueError, match="one of openai, azure, anthropic, gemini, bedrock, vertex, cohere, groq, mistral, not"
    ):
        LocalGateway(keys={"opnai": "none"})


def test_a_status_fault_answers_as_the_gateway_does_with_retry_after_if_asked(
    gateway: LocalGateway, client: Client
) -> None:
    gateway.inject(Fault(status=429, retry_after=7))
    limited = client.get("/openai/v1/batches/b1")
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "7")
    assert limited.json()["error"]["code"] == "rate_limit_exceeded"
    assert limited.json()["extra_fields"]["request_type"] == "batch_retrieve"
    assert client.get("/openai/v1/batches/b1").status_code == 404


@pytest.mark.parametrize("status", [201, 302, 400, 401, 402, 403, 404, 409, 418, 500, 502, 503, 504, 520, 529])
def test_every_status_has_an_error_body(gateway: LocalGateway, client: Client, status: int) -> None:
    gateway.inject(Fault(status=status))
    answer = client.get("/openai/v1/batches/b1")
    assert (answer.status_code, answer.json()["status_code"]) == (status, status)
    assert answer.json()["error"]["message"]


def test_a_fault_may_bring_its_own_body(gateway: LocalGateway, client: Client) -> None:
    gateway.inject(Fault(status=502, body="<html>bad gateway</html>", content_type="text/html"))
    answer = client.get("/openai/v1/batches/b1")
    assert (answer.status_code, answer.text) == (502, "<html>bad gateway</html>")
    gateway.inject(Fault(status=200, body={"id": "", "status": ""}))
    assert client.get("/openai/v1/batches/b1").json() == {"id": "", "status": ""}


def test_a_garbage_fault_is_no_json(gateway: LocalGateway, client: Client) -> None:
    gateway.inject(Fault(garbage=True))
    answer = client.get("/openai/v1/batches/b1")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    with pytest.raises(ValueError):
        answer.json()


def test_a_dropped_connection_has_no_answer_and_the_next_call_works(gateway: LocalGateway, client: Client) -> None:
    batch_id = gateway.add_batch(status="completed")
    gateway.inject(Fault(drop=True))
    with pytest.raises(DROPPED):
        client.batch(batch_id)
    assert client.batch(batch_id)["status"] == "completed"


def test_a_lost_create_makes_no_batch_unless_it_was_applied(gateway: LocalGateway, client: Client) -> None:
    for applied, batches in ((False, 0), (True, 1)):
        gateway.inject(Fault(drop=True, method="POST", path_contains="/batches", applied=applied))
        with pytest.raises(DROPPED):
            client.create(["one"])
        assert len(gateway.batches) == batches


def test_a_fault_for_a_provider_finds_it_in_the_body_of_a_create(gateway: LocalGateway, client: Client) -> None:
    gateway.inject(Fault(status=503, provider="gemini"))
    body = {"input_file_id": "f", "endpoint": "/v1/chat/completions"}
    assert client.post("/openai/v1/batches", json=body).status_code == 400
    assert client.post("/openai/v1/batches", json={**body, "provider": "gemini"}).status_code == 503


def test_an_upload_can_fail_too(gateway: LocalGateway, client: Client) -> None:
    gateway.inject(Fault(status=503, path_contains="/files"))
    assert client.upload(b"{}\n").status_code == 503
    assert client.upload(b"{}\n").status_code == 200
    assert len(client.get("/openai/v1/files").json()["data"]) == 1


def test_a_delay_holds_back_the_answer_only(gateway: LocalGateway, client: Client) -> None:
    gateway.inject(Fault(delay=30, method="POST", path_contains="/batches"))
    with pytest.raises(httpx.ReadTimeout):
        client.post(
            "/openai/v1/batches",
            json={"provider": "anthropic", "requests": [{"custom_id": "a", "params": {}}]},
            timeout=0.2,
        )
    until(lambda: len(gateway.batches) == 1)


def test_stopping_does_not_wait_for_delays_or_idle_connections() -> None:
    gateway = LocalGateway().start()
    with httpx.Client(base_url=gateway.url) as client:
        client.get("/health")
        gateway.inject(Fault(delay=60))
        with pytest.raises(httpx.ReadTimeout):
            client.get("/health", timeout=0.1)
        raw = socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2])))
        gateway.inject(Fault(delay=60))
        raw.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: len(gateway.requests) == 3)
        stopping = threading.Thread(target=gateway.stop, daemon=True)
        stopping.start()
        stopping.join(30)
        assert not stopping.is_alive()
        assert raw.recv(100).startswith(b"HTTP/1.1 200")
        raw.close()


def test_requests_are_recorded_as_they_came(gateway: LocalGateway, client: Client) -> None:
    began = time.time()
    client.post(
        "/openai/v1/batches/a%2Fb=/cancel?provider=openai",
        content=b'{"provider": "openai"}',
        headers={"X-Team": "growth"},
    )
    (seen,) = gateway.requests
    assert (seen.method, seen.path, seen.query) == ("POST", "/openai/v1/batches/a%2Fb=/cancel", "provider=openai")
    assert seen.headers["x-team"] == "growth"
    assert seen.body == b'{"provider": "openai"}'
    assert began - 1 < seen.at < time.time() + 1


def test_a_large_body_is_recorded_up_to_a_limit(gateway: LocalGateway, client: Client) -> None:
    client.upload(b"x" * 1_000_000)
    assert len(gateway.requests[0].body) == 65_536
