"""What the doctor finds at gateways that are well, and at others."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from support.odd_gateway import BATCH, PAGE, TOKEN, OddGateway

from airflow_bifrost.doctor import examination
from airflow_bifrost.doctor.report import to_json
from airflow_bifrost.testing import Fault, LocalGateway


def test_all_is_well(visit: Any, gateway: LocalGateway) -> None:
    found = visit(gateway.url)
    assert found.report.well
    assert {name: finding.state for name, finding in found.by_name.items() if finding.state != "ok"} == {
        "provider.vertex": "note"
    }
    assert found["gateway"].values == {"version": "v1.4.19", "known": "recorded"}
    assert found["token"].values == {"enforced": True}
    assert found["listing"].values == {"pages": 2}
    assert found["latency"].values["calls"] == 20
    assert found["latency"].values["of"] == "batch"
    assert found.report.forms == []


@pytest.mark.parametrize(("version", "known"), [("1.4", "recorded"), ("1.5", "recorded"), ("2", "read")])
def test_a_healthy_gateway_of_any_version_says_nothing_unknown(visit: Any, version: str, known: str) -> None:
    others = ["azure", "anthropic", "gemini", "bedrock", *(["vertex"] if version != "1.4" else [])]
    with LocalGateway(batch_seconds=3600, virtual_keys=[TOKEN], enforce_auth=True, version=version) as gateway:
        for provider in ["openai", "openai", *others]:
            gateway.add_batch(provider)
        for provider in ["openai", *others]:
            found = visit(gateway.url, provider=provider)
            assert found.report.well, found.report.findings
            assert found["gateway"].values["known"] == known
            assert found.report.forms == []


def test_a_gateway_without_batches_is_well_too(visit: Any, gateway: LocalGateway) -> None:
    gateway.reset()
    found = visit(gateway.url)
    assert found.report.well
    assert found["latency"].values["of"] == "list"


@pytest.mark.parametrize("provider", ["openai", "gemini", "groq"])
def test_it_only_reads(visit: Any, gateway: LocalGateway, provider: str) -> None:
    visit(gateway.url, provider=provider)
    assert {request.method for request in gateway.requests} == {"GET"}
    assert len(gateway.batches) == 3


def test_the_token_goes_only_where_it_is_asked_for(visit: Any, odd: OddGateway) -> None:
    visit(odd.url)
    with_token = {path.split("?")[0] for path, token in odd.asked if token == TOKEN}
    assert with_token == {"/openai/v1/batches", f"/openai/v1/batches/{BATCH['id']}"}
    assert {token for _, token in odd.asked} == {TOKEN, None}


@pytest.mark.parametrize("provider", ["anthropic", "gemini", "bedrock"])
def test_providers_that_list_page_one_for_ever_are_well(visit: Any, gateway: LocalGateway, provider: str) -> None:
    for _ in range(3):
        gateway.add_batch(provider, status="in_progress")
    found = visit(gateway.url, provider=provider)
    assert found.report.well
    assert found.states("provider", "listing", "latency", "forms") == ["ok", "note", "ok", "ok"]


def test_a_connection_that_does_not_exist_is_a_problem_and_skips_every_other_check() -> None:
    report = examination.examine("nowhere")
    assert not report.well
    assert [finding.state for finding in report.findings].count("skipped") == len(report.findings) - 1
    assert "'nowhere'" in report.findings[0].finding
    assert str(report.findings[0].advice).startswith("Create it with type 'bifrost', or set AIRFLOW_CONN_NOWHERE.")


def test_a_variable_that_is_not_a_connection_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_GW", "not json")
    [connection, *_] = examination.examine("gw").findings
    assert "AIRFLOW_CONN_GW is neither JSON nor a URI with a host" in connection.finding


def test_what_is_odd_about_the_connection_is_noted(gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = {"conn_type": "http", "host": gateway.url, "port": 99, "password": TOKEN}
    monkeypatch.setenv("AIRFLOW_CONN_GW", json.dumps(odd))
    report = examination.examine("gw")
    assert report.well
    assert report.findings[0].state == "note"
    assert "'http'" in report.findings[0].finding
    assert "port 99" in report.findings[0].finding


def test_the_native_routes_are_noted(visit: Any, gateway: LocalGateway) -> None:
    found = visit(gateway.url, path_prefix="/")
    assert found.report.well
    assert found["path_prefix"].state == "note"


def test_a_connection_that_cannot_work_is_reported_with_its_field(visit: Any) -> None:
    assert "timeout" in visit("http://gw", timeout="soon")["connection"].finding
    assert "/nowhere/ca.pem" in visit("https://gw", verify="/nowhere/ca.pem")["connection"].finding


def test_a_gateway_that_is_not_there_is_unreachable(visit: Any) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        found = visit(f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert found.states("reachable", "gateway", "latency", "forms") == ["problem", "skipped", "skipped", "skipped"]
    assert "host, schema and port" in found["reachable"].advice
    assert "billed" not in found["reachable"].finding
    assert not found.report.well


def test_failing_tls_is_unreachable(visit: Any, gateway: LocalGateway) -> None:
    found = visit(gateway.url.replace("http:", "https:"))
    assert found["reachable"].state == "problem"
    assert "set the connection's schema to http" in found["reachable"].finding


def test_a_web_page_is_no_gateway(visit: Any, odd: OddGateway) -> None:
    odd.page = odd.batch = odd.health = b"<html>It works!</html>"
    found = visit(odd.url)
    assert found.states("reachable", "gateway", "path_prefix") == ["ok", "problem", "skipped"]
    assert found.report.forms == []


@pytest.mark.parametrize(
    ("status", "health"),
    [
        (200, {"status": "unhealthy", "components": {"db_pings": "failed"}}),
        (503, {"is_bifrost_error": False, "error": {"message": "config store not available"}}),
    ],
)
def test_a_gateway_that_is_not_well_is_a_problem_and_the_only_one(
    visit: Any, odd: OddGateway, status: int, health: Any
) -> None:
    odd.health_status, odd.health = status, health
    found = visit(odd.url)
    assert not found.report.well
    assert [name for name, finding in found.by_name.items() if finding.state == "problem"] == ["health"]
    assert found["latency"].values["calls"] == 20


@pytest.mark.parametrize(
    ("status", "health"), [(404, {"error": "no"}), (401, {"error": "login"}), (404, b"<html>"), (403, b"<html>")]
)
def test_a_health_that_is_hidden_is_no_problem(visit: Any, odd: OddGateway, status: int, health: Any) -> None:
    odd.health_status, odd.health = status, health
    found = visit(odd.url)
    assert found.report.well
    assert found["health"].state == "note"


def test_a_wrong_path_prefix_is_the_only_problem_reported(visit: Any, gateway: LocalGateway) -> None:
    found = visit(gateway.url, path_prefix="/nosuch")
    assert [name for name, finding in found.by_name.items() if finding.state == "problem"] == ["path_prefix"]
    assert found.states("token", "forms", "clock") == ["skipped", "skipped", "ok"]
    assert found.report.forms == []


@pytest.mark.parametrize("token", [None, "sk-bf-unknown-to-it"])
def test_a_refused_token_is_the_only_problem_reported(visit: Any, gateway: LocalGateway, token: str | None) -> None:
    found = visit(gateway.url, token)
    assert [name for name, finding in found.by_name.items() if finding.state == "problem"] == ["token"]
    assert found.states("provider", "provider.azure", "latency") == ["skipped", "skipped", "skipped"]
    assert found["token"].advice.startswith("A token was sent, but" if token else "No token was sent")
    assert "x-bf-vk" not in found["token"].finding
    assert sorted(request.path for request in gateway.requests) == ["/api/version", "/health", "/openai/v1/batches"]


def test_what_a_token_may_not_use_is_reported(visit: Any, gateway: LocalGateway) -> None:
    found = visit(gateway.url, "sk-bf-openai-only")
    assert found.report.well
    assert found.states("provider", "provider.azure") == ["ok", "note"]
    assert "may not use" in found["provider.azure"].finding
    barred = visit(gateway.url, "sk-bf-openai-only", provider="azure")
    assert barred.states("token", "provider", "provider.openai") == ["note", "problem", "ok"]


def test_a_used_up_budget_is_reported(visit: Any, gateway: LocalGateway) -> None:
    spent = {"type": "budget_exceeded", "error": {"message": "Budget exceeded"}, "extra_fields": {"provider": "openai"}}
    gateway.inject(Fault(status=402, body=spent, path_contains="/batches", times=None))
    found = visit(gateway.url)
    assert found.states("token", "provider") == ["note", "problem"]
    assert "budget" in found["provider"].finding


@pytest.mark.parametrize(
    ("provider", "said"), [("nosuch", "not configured"), ("groq", "has no such call"), ("cohere", "used for batches")]
)
def test_an_own_provider_without_batches_is_a_problem(
    visit: Any, gateway: LocalGateway, provider: str, said: str
) -> None:
    found = visit(gateway.url, provider=provider)
    assert found.states("token", "provider", "provider.openai", "listing") == ["ok", "problem", "ok", "skipped"]
    assert said in found["provider"].finding


def test_an_own_provider_that_refuses_the_gateways_key_is_no_fault_of_the_token(
    visit: Any, gateway: LocalGateway
) -> None:
    refusal = {
        "is_bifrost_error": False,
        "error": {"code": "401", "message": "Access denied due to invalid subscription key."},
        "extra_fields": {"provider": "azure", "request_type": "batch_list"},
    }
    gateway.inject(Fault(status=401, body=refusal, provider="azure", times=None))
    found = visit(gateway.url, provider="azure")
    assert found.states("token", "provider") == ["note", "problem"]
    assert "refuses the gateway's key" in found["provider"].finding


def test_a_gateway_that_serves_without_a_token_is_noted(visit: Any, odd: OddGateway) -> None:
    assert visit(odd.url)["token"].values == {"enforced": False}
    assert visit(odd.url, None)["token"].state == "note"


def test_a_list_whose_second_page_is_the_first_is_a_problem(visit: Any, odd: OddGateway) -> None:
    odd.page = {**PAGE, "has_more": True, "next_cursor": "c1"}
    assert visit(odd.url)["listing"].state == "problem"
    assert visit(odd.url, provider="anthropic")["listing"].state == "note"


def test_the_second_page_is_asked_for_with_the_first_ones_cursor(visit: Any, odd: OddGateway) -> None:
    def page(query: dict[str, str], token: str | None) -> Any:
        if query.get("after") == "c1":
            return {**PAGE, "data": [{**BATCH, "id": "batch_2"}]}
        return {**PAGE, "has_more": True, "next_cursor": "c1"}

    odd.page = page
    assert visit(odd.url)["listing"].values == {"pages": 2}


def test_an_outage_while_it_polls_is_a_problem(visit: Any, gateway: LocalGateway) -> None:
    gateway.inject(Fault(status=503, path_contains="/batches/batch_", times=2))
    found = visit(gateway.url)
    assert found["latency"].state == "problem"
    assert (found["latency"].values["failed"], found["latency"].values["calls"]) == (2, 18)
    assert len([request for request in gateway.requests if "/batches/batch_" in request.path]) == 20


@pytest.mark.parametrize(("ahead", "state"), [(0, "ok"), (300, "problem"), (-300, "problem"), (None, "note")])
def test_the_clocks_are_compared(visit: Any, odd: OddGateway, ahead: float | None, state: str) -> None:
    odd.clock_ahead = ahead
    assert visit(odd.url)["clock"].state == state


def test_an_unknown_field_is_noted_and_shown_masked(visit: Any, odd: OddGateway) -> None:
    odd.batch = {**BATCH, "priority": "high", "metadata": {"customer": "Ann"}}
    found = visit(odd.url)
    assert found.report.well
    assert found["forms"].state == "note"
    assert found.report.forms == [
        {
            "asked": "GET /openai/v1/batches/<id>?provider=openai",
            "status_code": 200,
            "unknown": ["priority"],
            "answer": {
                "id": "<string of 22>",
                "object": "batch",
                "status": "completed",
                "extra_fields": {"provider": "openai", "latency": 1},
                "priority": "<string of 4>",
                "metadata": {"<name of 8>": "<string of 3>"},
            },
        }
    ]


@pytest.mark.parametrize("batch", [{**BATCH, "status": "napping"}, {**BATCH, "id": ""}, [], b"<html>"])
def test_a_batch_that_cannot_be_understood_is_a_problem(visit: Any, odd: OddGateway, batch: Any) -> None:
    odd.batch = batch
    found = visit(odd.url)
    assert found["forms"].state == "problem"
    assert len(found.report.forms) == 1


def test_an_id_that_is_never_sent_is_reported(visit: Any, odd: OddGateway) -> None:
    odd.page = {**PAGE, "data": [{**BATCH, "id": "../files"}]}
    found = visit(odd.url)
    assert found["latency"].state == "problem"
    assert all("files" not in path for path, _ in odd.asked)


@pytest.mark.parametrize("token", [TOKEN, "open-sesame-open-sesame"])
@pytest.mark.parametrize("status", [200, 401, 404, 500])
def test_a_token_that_the_gateway_echoes_is_never_shown(visit: Any, odd: OddGateway, status: int, token: str) -> None:
    odd.status = status
    echo = {token: token, "status": f"is {token}", "type": token, "metadata": {token: token}, "endpoint": token}
    error = {
        "error": {"message": f"Invalid {token}", "type": token, "code": token, token: token},
        "is_bifrost_error": 0,
    }
    odd.batch = {**BATCH, **echo}
    odd.page = {**PAGE, "data": [{**BATCH, **echo, "id": token}], **echo, **(error if status != 200 else {})}
    odd.health = {**odd.health, **echo}
    odd.version = token
    assert token not in json.dumps(to_json(visit(odd.url, token).report))


def test_a_gateway_that_hangs_is_given_up_in_time(visit: Any, odd: OddGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    odd.delay = 5.0  # then it would answer
    found = visit(odd.url, timeout=0.2)
    assert found["reachable"].state == "problem"
    for limit in ("CALL_TIMEOUT", "TOTAL"):
        with monkeypatch.context() as less:
            less.setattr(examination, limit, 0.3)
            assert visit(odd.url, timeout=60)["reachable"].state == "problem"


def test_polls_that_are_slow_are_ended_in_time(visit: Any, odd: OddGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    odd.delay = 0.3
    monkeypatch.setattr(examination, "POLLING", 1.5)
    found = visit(odd.url)
    assert found["latency"].state == "note"
    assert 1 <= found["latency"].values["calls"] <= 5


@pytest.mark.parametrize("max_connections", [16, 1])
def test_one_hanging_provider_does_not_keep_the_others_from_being_asked(
    visit: Any, gateway: LocalGateway, max_connections: int
) -> None:
    gateway.inject(Fault(delay=60, provider="azure"))
    found = visit(gateway.url, timeout=3, max_connections=max_connections)
    assert found.report.well
    assert found.states("provider.azure", "provider.gemini", "latency") == ["note", "ok", "ok"]
