"""What is special to each provider behind the gateway."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from support.local_gateway_client import Client

from airflow_bifrost.testing import LocalGateway


def prompts(*texts: str) -> list[dict[str, Any]]:
    """Request lines that every provider reads."""
    return [{"custom_id": f"r{i}", "body": {"messages": [{"role": "user", "content": t}]}} for i, t in enumerate(texts)]


def results(client: Client, batch_id: str, provider: str) -> dict[str, Any]:
    answer = client.get(f"/v1/batches/{batch_id}/results", params={"provider": provider})
    assert answer.status_code == 200, answer.text
    return {row["custom_id"]: row for row in answer.json()["results"]}


def test_anthropic_takes_inline_requests_only_and_shows_no_input(client: Client) -> None:
    params = {"model": "claude-haiku-4-5", "max_tokens": 16, "messages": [{"role": "user", "content": "Hi"}]}
    body = {"provider": "anthropic", "requests": [{"custom_id": "a", "params": params}]}
    created = client.post("/openai/v1/batches", json=body).json()
    assert created["id"].startswith("msgbatch_")
    assert created["request_counts"] == {"total": 1, "completed": 0, "failed": 0, "pending": 1}
    assert {"endpoint", "input_file_id", "completion_window"}.isdisjoint(created)
    message = results(client, created["id"], "anthropic")["a"]["result"]["message"]
    assert message["content"] == [{"type": "text", "text": "echo: Hi"}]
    assert message["usage"] == {"input_tokens": 1, "output_tokens": 2}


def test_anthropic_ends_whatever_became_of_the_requests(gateway: LocalGateway, client: Client) -> None:
    batch_id = gateway.add_batch("anthropic", rows=prompts("fine", "!fail", "!expire"))
    batch = client.wait(batch_id, "anthropic")
    assert (batch["status"], batch["processing_status"]) == ("ended", "ended")
    assert batch["request_counts"] == {"total": 3, "completed": 1, "failed": 1, "succeeded": 1, "expired": 1}
    assert batch["results_url"] == f"https://api.anthropic.com/v1/messages/batches/{batch_id}/results"
    rows = results(client, batch_id, "anthropic")
    assert rows["r1"] == {"custom_id": "r1", "result": {"type": "errored"}, "error": {"code": "error"}}
    assert rows["r2"] == {"custom_id": "r2", "result": {"type": "expired"}}


def test_anthropic_counts_everything_as_pending_while_it_runs(gateway: LocalGateway, client: Client) -> None:
    batch_id = gateway.add_batch("anthropic", rows=4, status="in_progress")
    batch = client.batch(batch_id, "anthropic")
    assert batch["request_counts"] == {"total": 4, "completed": 0, "failed": 0, "pending": 4}
    assert "results_url" not in batch
    early = client.get(f"/v1/batches/{batch_id}/results?provider=anthropic")
    assert (early.status_code, early.json()["error"]["type"]) == (404, "not_found_error")


def test_anthropic_says_canceling_and_then_ended_with_canceled_requests(gateway: LocalGateway, client: Client) -> None:
    batch_id = gateway.add_batch("anthropic", rows=4, status="canceling")
    batch = client.batch(batch_id, "anthropic")
    assert (batch["status"], batch["processing_status"]) == ("cancelling", "canceling")
    gateway.set_batch(batch_id, status="cancelled")
    batch = client.batch(batch_id, "anthropic")
    assert batch["status"] == "ended"
    assert batch["request_counts"] == {"total": 4, "completed": 2, "failed": 0, "succeeded": 2, "canceled": 2}


def test_gemini_counts_failures_as_completed_and_has_no_file(gateway: LocalGateway, client: Client) -> None:
    batch_id = gateway.add_batch("gemini", rows=prompts("fine", "!fail", "fine too"))
    batch = client.wait(batch_id, "gemini")
    assert (batch["status"], batch["done"]) == ("completed", True)
    assert batch["request_counts"] == {"total": 3, "completed": 3, "failed": 1, "succeeded": 2}
    assert {"output_file_id", "completed_at", "endpoint", "input_file_id"}.isdisjoint(batch)
    refused = client.get("/openai/v1/files/files-x/content?provider=gemini")
    assert refused.status_code == 500
    assert "doesn't support direct content download" in refused.json()["error"]["message"]


def test_gemini_ids_have_a_dash_a_slash_or_neither(gateway: LocalGateway, client: Client) -> None:
    batch_id = gateway.add_batch("gemini", status="BATCH_STATE_SUCCEEDED")
    bare = batch_id.removeprefix("batches-")
    assert bare != batch_id
    for form in (batch_id, bare):
        assert client.get(f"/openai/v1/batches/{form}?provider=gemini").json()["id"] == batch_id
    assert client.get(f"/v1/batches/{bare}?provider=gemini").json()["id"] == f"batches/{bare}"
    assert client.get(f"/v1/batches/{batch_id}?provider=gemini").status_code == 404
    assert client.get("/openai/v1/batches?provider=gemini").json()["data"][0]["id"] == bare


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("BATCH_STATE_PENDING", "in_progress"),
        ("BATCH_STATE_RUNNING", "in_progress"),
        ("BATCH_STATE_CANCELLING", "cancelling"),
        ("BATCH_STATE_EXPIRED", "expired"),
        ("BATCH_STATE_PAUSED", "BATCH_STATE_PAUSED"),
    ],
)
def test_gemini_has_its_own_words_for_a_status(gateway: LocalGateway, client: Client, word: str, status: str) -> None:
    assert client.batch(gateway.add_batch("gemini", status=word), "gemini")["status"] == status


def test_gemini_native_results_are_cut_down(gateway: LocalGateway, client: Client) -> None:
    batch_id = gateway.add_batch("gemini", rows=prompts("Hi", "!fail"), status="completed")
    rows = results(client, batch_id.removeprefix("batches-"), "gemini")
    assert rows["r0"]["response"]["body"] == {
        "finish_reason": "STOP",
        "text": "echo: Hi",
        "usage": {"completion_tokens": 2, "prompt_tokens": 1, "total_tokens": 3},
    }
    assert rows["r1"]["error"]["code"] == "3"


def test_gemini_native_results_may_be_one_invented_row(gateway: LocalGateway, client: Client) -> None:
    batch_id = gateway.add_batch("gemini", rows=2, status="completed", dest=False)
    (info,) = results(client, batch_id.removeprefix("batches-"), "gemini").values()
    assert info["custom_id"] == "info"
    assert (
        info["response"]["body"]["message"]
        == "Batch completed with state: BATCH_STATE_SUCCEEDED. No results available."
    )


def test_bedrock_ids_are_padded_base64_that_must_not_be_quoted(gateway: LocalGateway, client: Client) -> None:
    batch_id = gateway.add_batch("bedrock", status="Completed")
    assert batch_id.endswith("==")
    assert base64.b64decode(batch_id).startswith(b"arn:aws:bedrock:")
    assert client.batch(batch_id, "bedrock")["id"] == batch_id
    for mangled in (batch_id.replace("=", "%3D"), batch_id.rstrip("=")):
        assert client.get(f"/openai/v1/batches/{mangled}?provider=bedrock").status_code == 400


def test_a_bedrock_job_that_is_not_there_is_404_in_any_region(client: Client) -> None:
    arn = b"arn:aws:bedrock:us-east-1:123456789012:model-invocation-job/abc123def456"
    missing = client.get(f"/openai/v1/batches/{base64.b64encode(arn).decode()}?provider=bedrock")
    assert (missing.status_code, missing.json()["error"]) == (404, {"message": "Could not find model invocation job"})


def test_bedrock_native_routes_take_the_bare_job_id(gateway: LocalGateway, client: Client) -> None:
    batch_id = gateway.add_batch("bedrock", status="Completed", batch_id="abc123def456")
    native = client.get("/v1/batches/abc123def456?provider=bedrock").json()
    assert native["id"] == base64.b64decode(batch_id).decode()


def test_bedrock_knows_no_counts_and_its_output_is_a_prefix_from_the_first_moment(
    gateway: LocalGateway, client: Client
) -> None:
    batch = client.batch(gateway.add_batch("bedrock", rows=3, status="Submitted"), "bedrock")
    assert batch["status"] == "validating"
    assert batch["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert batch["output_file_id"] == "s3://example-bucket/out/"
    assert batch["metadata"] == {"job_name": "job", "model_id": "echo-1"}


def test_bedrock_partially_completed_is_failed_although_output_exists(gateway: LocalGateway, client: Client) -> None:
    batch_id = gateway.add_batch("bedrock", rows=4, status="PartiallyCompleted", batch_id="abc123def456")
    assert client.batch(batch_id, "bedrock")["status"] == "failed"
    assert len(results(client, "abc123def456", "bedrock")) == 2


def test_bedrock_runs_a_file_in_s3_and_its_output_is_read_by_base64(client: Client) -> None:
    lines = [{"recordId": "a", "modelInput": {"messages": [{"role": "user", "content": "Hi"}]}}]
    s3 = {"storage_config[s3][bucket]": "example-bucket", "storage_config[s3][prefix]": "in"}
    uploaded = client.upload(lines, provider="bedrock", **s3).json()
    assert uploaded["storage_uri"] == "s3://example-bucket/in/in.jsonl"
    assert base64.b64decode(uploaded["id"]).decode() == uploaded["storage_uri"]
    body = {
        "provider": "bedrock",
        "model": "anthropic.claude",
        "input_file_id": uploaded["storage_uri"],
        "role_arn": "arn:aws:iam::123456789012:role/batch",
        "output_s3_uri": "s3://example-bucket/out/",
        "job_name": "nightly",
    }
    created = client.post("/openai/v1/batches", json=body).json()
    assert created["input_file_id"] == uploaded["id"]
    batch = client.wait(created["id"], "bedrock")
    job = base64.b64decode(batch["id"]).decode().rpartition("/")[2]
    key = base64.b64encode(f"{batch['output_file_id']}{job}/in.jsonl.out".encode()).decode()
    (row,) = client.rows(key, "bedrock")
    assert row["recordId"] == "a"
    assert row["modelOutput"]["content"][0]["text"] == "echo: Hi"


def test_azure_files_are_pending_and_it_may_spell_canceled_with_one_l(gateway: LocalGateway, client: Client) -> None:
    assert client.upload(b"{}\n", provider="azure").json()["status"] == "pending"
    batch = client.batch(gateway.add_batch("azure", status="canceled"), "azure")
    assert batch["status"] == "canceled"
    assert "cancelled_at" in batch


def test_the_default_provider_is_openai_or_azure_by_user_agent(gateway: LocalGateway, client: Client) -> None:
    batch_id = gateway.add_batch("azure", status="completed")
    assert client.get(f"/openai/v1/batches/{batch_id}").status_code == 404
    by_agent = client.get(f"/openai/v1/batches/{batch_id}", headers={"user-agent": "AzureOpenAI/Python 1.0"})
    assert by_agent.json()["extra_fields"]["provider"] == "azure"


@pytest.mark.parametrize("provider", ["nosuch", "OpenAI", " openai", "vertex"])
def test_an_unknown_provider_is_500_here_and_400_on_native_routes(client: Client, provider: str) -> None:
    for base, status in (("/openai/v1", 500), ("/v1", 400)):
        refused = client.get(f"{base}/batches/b1", params={"provider": provider})
        assert refused.status_code == status
        assert refused.json()["error"]["message"] == "failed to get config for provider: not found"


def test_a_provider_without_batches_is_500_unsupported_operation(client: Client) -> None:
    refused = client.get("/openai/v1/batches/b1?provider=groq")
    assert refused.status_code == 500
    assert refused.json()["error"] == {
        "code": "unsupported_operation",
        "message": "batch_retrieve is not supported by groq provider",
    }


def test_openai_native_results_leave_out_failures_and_list_unreadable_lines(
    gateway: LocalGateway, client: Client
) -> None:
    batch_id = gateway.add_batch(rows=prompts("fine", "!fail", "!garble"), status="completed")
    answer = client.get(f"/v1/batches/{batch_id}/results?provider=openai").json()
    assert [row["custom_id"] for row in answer["results"]] == ["r0"]
    assert set(answer["results"][0]) == {"custom_id", "response"}
    assert [(e["code"], e["line"]) for e in answer["extra_fields"]["parse_errors"]] == [("parse_error", 2)]


def test_openai_native_results_are_500_for_ever_if_every_row_failed(gateway: LocalGateway, client: Client) -> None:
    batch_id = gateway.add_batch(rows=prompts("!fail"), status="completed")
    refused = client.get(f"/v1/batches/{batch_id}/results?provider=openai")
    assert (refused.status_code, refused.json()["is_bifrost_error"]) == (500, True)


def test_a_native_create_takes_its_provider_from_the_model(client: Client) -> None:
    file_id = client.upload(b'{"custom_id": "a", "body": {}}\n').json()["id"]
    body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions"}
    assert client.post("/v1/batches?provider=openai", json=body).status_code == 400
    created = client.post("/v1/batches", json={**body, "model": "openai/gpt-4o"})
    assert created.json()["extra_fields"]["provider"] == "openai"
