"""Recorded answers of a real gateway, through the parser of their call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_bifrost import exceptions
from airflow_bifrost.exceptions import BifrostGatewayError
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.outcome import outcome_of_batch
from airflow_bifrost.gateway.retry import NO_RETRY
from airflow_bifrost.gateway.summary import BatchSummary

ANSWERS = Path(__file__).parent / "answers"
CASES = sorted(ANSWERS.rglob("*.json"))

ARGUMENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "list_page": ((), {}),
    "health": ((), {}),
    "create_batch": ((), {"input_file_id": "file-1", "model": "m", "idempotency_key": "k"}),
    "upload_file": ((b"x",), {"purpose": "batch", "idempotency_key": "k"}),
}


def ask(case: dict[str, Any]) -> Any:
    """Make the case's call and give it the case's answer."""
    recorded = case["answer"]
    body = recorded["body"]
    content = body.encode() if isinstance(body, str) else b"" if body is None else json.dumps(body).encode()

    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(recorded["status"], headers=recorded["headers"], content=content)

    args, kwargs = ARGUMENTS.get(case["call"], (("some_id",), {}))
    if case["call"] != "health":
        kwargs = {**kwargs, "provider": case["upstream"]}
    config = GatewayConfig("https://gw.example", token="sk-bf-conformance")
    with GatewayClient(config, retry=NO_RETRY, transport=httpx.MockTransport(handler)) as client:
        if case["call"] == "file_content":
            with client.file_content(*args, **kwargs) as chunks:
                return b"".join(chunks)
        return getattr(client, case["call"])(*args, **kwargs)


@pytest.mark.parametrize("path", CASES, ids=[str(path.relative_to(ANSWERS).with_suffix("")) for path in CASES])
def test_a_recorded_answer_means_what_the_gateway_means_by_it(path):
    case = json.loads(path.read_text())
    expected = case["expected"]
    if "error" in expected:
        with pytest.raises(BifrostGatewayError) as caught:
            ask(case)
        assert type(caught.value) is getattr(exceptions, expected.pop("error"))
        assert {name: getattr(caught.value, name) for name in expected} == expected
        return
    value = ask(case)
    if "content" in expected:
        assert value == expected["content"].encode()
        return
    shown = value.model_dump(mode="json")
    for name, field in expected["fields"].items():
        assert shown[name] == field or (str(field)[-6:] == "+00:00" and shown[name] == field[:-6] + "Z"), name
    if "ids" in expected:
        assert [item.id for item in value.data] == expected["ids"]
    if "outcome" in expected:
        assert outcome_of_batch(value, case["upstream"]) == expected["outcome"]
        summary = BatchSummary.of(value, batch_id="some_id", provider=case["upstream"]).to_xcom()
        assert json.loads(json.dumps(summary)) == summary


def test_there_are_answers_of_every_upstream_and_call():
    cases = [json.loads(path.read_text()) for path in CASES]
    assert {case["upstream"] for case in cases} >= {"openai", "azure", "anthropic", "gemini", "bedrock"}
    assert {case["call"] for case in cases} >= {
        "get_batch",
        "create_batch",
        "cancel_batch",
        "list_page",
        "batch_results",
        "upload_file",
        "get_file",
        "delete_file",
        "file_content",
        "health",
    }
