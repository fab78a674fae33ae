"""Files and batches of the openai routes, end to end."""

from __future__ import annotations

import json
import time

import pytest
from support.local_gateway_client import Client

from airflow_bifrost.testing import LocalGateway


def test_a_file_that_was_uploaded_can_be_read_back(client: Client) -> None:
    uploaded = client.upload(b'{"custom_id": "a"}\n').json()
    assert {**uploaded, "id": 0, "created_at": 0} == {
        "id": 0,
        "object": "file",
        "bytes": 19,
        "created_at": 0,
        "filename": "in.jsonl",
        "purpose": "batch",
        "status": "processed",
        "storage_backend": "api",
        "extra_fields": {"request_type": "file_upload", "provider": "openai", "latency": 0, "chunk_index": 0},
    }
    content = client.get(f"/openai/v1/files/{uploaded['id']}/content", headers={"range": "bytes=0-3"})
    assert (content.status_code, content.content) == (200, b'{"custom_id": "a"}\n')
    assert content.headers["content-type"] == "application/octet-stream"
    assert content.headers["content-length"] == "19"


def test_a_large_file_survives_upload_and_download(client: Client) -> None:
    content = b'{"custom_id": "' + b"x" * 5_000_000 + b'"}\n'
    file_id = client.upload(content).json()["id"]
    assert client.get(f"/openai/v1/files/{file_id}/content").content == content


def test_a_deleted_file_is_gone(client: Client) -> None:
    file_id = client.upload(b"{}\n").json()["id"]
    assert client.delete(f"/openai/v1/files/{file_id}").json()["deleted"] is True
    missing = client.get(f"/openai/v1/files/{file_id}/content")
    assert missing.status_code == 404
    assert missing.json()["error"]["message"] == f"No such File object: {file_id}"


def test_the_results_of_a_batch_do_not_depend_on_its_input_file(client: Client) -> None:
    batch = client.wait(client.create(["one", "two"]))
    assert client.delete(f"/openai/v1/files/{batch['input_file_id']}").json()["deleted"] is True
    assert client.get(f"/openai/v1/files/{batch['input_file_id']}").status_code == 404
    assert batch["input_file_id"] not in client.get("/openai/v1/files").text
    assert [row["custom_id"] for row in client.rows(batch["output_file_id"])] == ["r0", "r1"]


def test_every_row_is_answered_in_order(client: Client) -> None:
    batch = client.wait(client.create(["one", "two", "three"]))
    rows = client.rows(batch["output_file_id"])
    assert [row["custom_id"] for row in rows] == ["r0", "r1", "r2"]
    assert rows[1]["response"]["body"]["choices"][0]["message"]["content"] == "echo: two"
    assert batch["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    assert "error_file_id" not in batch


def test_failed_rows_stand_in_the_error_file(client: Client) -> None:
    batch = client.wait(client.create(["fine", "!fail 422", "!expire not now"]))
    assert batch["status"] == "expired"
    assert batch["request_counts"] == {"total": 3, "completed": 1, "failed": 2}
    failed, expired = client.rows(batch["error_file_id"])
    assert (failed["custom_id"], failed["response"]["status_code"]) == ("r1", 422)
    assert (expired["custom_id"], expired["error"]["code"]) == ("r2", "batch_expired")


def test_a_batch_whose_rows_all_fail_is_completed_without_output(client: Client) -> None:
    batch = client.wait(client.create(["!fail", "!fail"]))
    assert batch["status"] == "completed"
    assert "output_file_id" not in batch
    assert len(client.rows(batch["error_file_id"])) == 2


def test_a_flaky_row_succeeds_in_the_next_batch(client: Client) -> None:
    first = client.wait(client.create(["!flaky hello"]))
    second = client.wait(client.create(["!flaky hello"]))
    assert (first["request_counts"]["failed"], second["request_counts"]["failed"]) == (1, 0)


def test_a_missing_row_is_in_no_file_and_a_garbled_one_is_no_json(client: Client) -> None:
    batch = client.wait(client.create(["!missing", "!garble", "fine"]))
    content = client.get(f"/openai/v1/files/{batch['output_file_id']}/content").text.splitlines()
    assert content[0] == "this line is not json"
    assert json.loads(content[1])["custom_id"] == "r2"
    assert len(content) == 2
    assert "error_file_id" not in batch


def test_a_file_with_bad_lines_fails_validation(client: Client) -> None:
    lines = b'{"custom_id": "a", "body": {}}\nnonsense\n{"custom_id": "a", "body": {}}\n'
    file_id = client.upload(lines).json()["id"]
    created = client.post("/openai/v1/batches", json={"input_file_id": file_id, "endpoint": "/v1/chat/completions"})
    batch = client.wait(created.json()["id"])
    assert batch["status"] == "failed"
    assert [(e["code"], e["line"]) for e in batch["errors"]["data"]] == [
        ("invalid_json_line", 2),
        ("duplicate_custom_id", 3),
    ]
    assert batch["request_counts"] == {"total": 0, "completed": 0, "failed": 0}


def test_a_create_shows_a_new_batch_even_if_it_is_over_at_once(client: Client) -> None:
    file_id = client.upload(b'{"custom_id": "a", "body": {}}\n').json()["id"]
    body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "metadata": {"run": "1"}}
    created = client.post("/openai/v1/batches", json=body).json()
    assert (created["status"], created["metadata"]) == ("validating", {"run": "1"})
    assert "completed_at" not in created


def test_inline_requests_become_a_file_unless_there_is_one(client: Client) -> None:
    inline = [{"custom_id": "i", "body": {"messages": [{"role": "user", "content": "inline"}]}}]
    body = {"requests": inline, "endpoint": "/v1/chat/completions"}
    alone = client.post("/openai/v1/batches", json=body).json()
    assert client.rows(client.wait(alone["id"])["output_file_id"])[0]["custom_id"] == "i"
    file_id = client.upload(b'{"custom_id": "f", "body": {}}\n').json()["id"]
    both = client.post("/openai/v1/batches", json={**body, "input_file_id": file_id}).json()
    assert client.rows(client.wait(both["id"])["output_file_id"])[0]["custom_id"] == "f"


def test_the_same_create_twice_makes_two_batches_and_the_key_is_kept(gateway: LocalGateway, client: Client) -> None:
    file_id = client.upload(b'{"custom_id": "a", "body": {}}\n').json()["id"]
    body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions"}
    for _ in range(2):
        client.post("/openai/v1/batches", json=body, headers={"x-bf-eh-idempotency-key": "k1"})
    assert [batch["idempotency_key"] for batch in gateway.batches] == ["k1", "k1"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"endpoint": "/v1/chat/completions"}, "either input_file_id or requests is required for batch create request"),
        ({"input_file_id": "f"}, "endpoint is required for OpenAI batch API"),
        ({"input_file_id": "f", "provider": "anthropic"}, "requests array is required for Anthropic batch API"),
        ({"input_file_id": "f", "provider": "bedrock"}, "model is required for Bedrock batch API"),
        ({"input_file_id": "f", "provider": "nosuch"}, "provider not found for batch create request"),
        ({"input_file_id": "f", "metadata": {"run": 7}}, "Invalid JSON"),
    ],
)
def test_a_create_that_lacks_something_is_500(client: Client, body: dict[str, object], message: str) -> None:
    refused = client.post("/openai/v1/batches", json=body)
    assert (refused.status_code, refused.json()["error"]["message"]) == (500, message)


def test_a_create_with_an_unknown_file_is_the_providers_400(client: Client) -> None:
    refused = client.post("/openai/v1/batches", json={"input_file_id": "file-x", "endpoint": "/v1/chat/completions"})
    assert refused.status_code == 400
    assert refused.json()["error"] == {
        "type": "invalid_request_error",
        "param": "input_file_id",
        "message": "No such File object: file-x",
    }


@pytest.mark.parametrize(
    ("data", "files", "cause"),
    [
        ({}, {"file": ("in.jsonl", b"{}")}, "purpose field is required"),
        ({"purpose": "batch"}, {"other": ("in.jsonl", b"{}")}, "file field is required"),
        ({"purpose": "batch"}, None, "request Content-Type has bad boundary or is not multipart/form-data"),
    ],
)
def test_an_incomplete_upload_is_500(
    client: Client, data: dict[str, str], files: dict[str, tuple[str, bytes]] | None, cause: str
) -> None:
    refused = client.post("/openai/v1/files", data=data, files=files)
    assert (refused.status_code, refused.json()["error"]["error"]) == (500, cause)


def test_an_empty_file_is_500(client: Client) -> None:
    refused = client.upload(b"")
    assert (refused.status_code, refused.json()["error"]["message"]) == (
        500,
        "file content is required for file upload request",
    )


def test_a_batch_moves_through_its_statuses_and_counts_rows() -> None:
    with LocalGateway(batch_seconds=0.5) as gateway, Client(base_url=gateway.url) as client:
        batch_id = client.create([f"row {i}" for i in range(50)])
        seen = []
        while (batch := client.batch(batch_id))["status"] != "completed":
            seen.append((batch["status"], batch["request_counts"]["completed"]))
            time.sleep(0.02)
    assert seen[0][0] == "validating"
    done = [count for status, count in seen if status == "in_progress"]
    assert done == sorted(done)
    assert len(set(done)) > 3


def test_a_cancelled_batch_keeps_its_finished_rows() -> None:
    with LocalGateway(batch_seconds=1.0) as gateway, Client(base_url=gateway.url) as client:
        batch_id = client.create([f"row {i}" for i in range(100)])
        while client.batch(batch_id)["request_counts"]["completed"] < 10:
            time.sleep(0.01)
        cancelled = client.post(f"/openai/v1/batches/{batch_id}/cancel").json()
        assert cancelled["status"] == "cancelling"
        assert set(cancelled) == {"id", "object", "status", "request_counts", "cancelling_at", "extra_fields"}
        batch = client.wait(batch_id)
        assert batch["status"] == "cancelled"
        assert len(client.rows(batch["output_file_id"])) == batch["request_counts"]["completed"] < 100


def test_a_finished_batch_cannot_be_cancelled(gateway: LocalGateway, client: Client) -> None:
    refused = client.post(f"/openai/v1/batches/{gateway.add_batch(status='completed')}/cancel")
    assert refused.status_code == 409
    assert refused.json()["error"]["message"] == "Cannot cancel a batch with status 'completed'."


def test_a_cancel_takes_its_provider_from_the_body_before_the_query(gateway: LocalGateway, client: Client) -> None:
    batch_id = gateway.add_batch("azure", status="in_progress")
    cancelled = client.post(f"/openai/v1/batches/{batch_id}/cancel?provider=openai", json={"provider": "azure"})
    assert cancelled.json()["extra_fields"]["provider"] == "azure"


def test_a_list_is_paged_by_next_cursor_newest_first(gateway: LocalGateway, client: Client) -> None:
    ids = [gateway.add_batch(status="completed") for _ in range(5)]
    seen: list[str] = []
    query = {"limit": "2"}
    while True:
        page = client.get("/openai/v1/batches", params=query).json()
        seen += [batch["id"] for batch in page["data"]]
        if not page.get("has_more"):
            break
        query["after"] = page["next_cursor"]
    assert seen == ids[::-1]
    assert "next_cursor" not in page


@pytest.mark.parametrize(("after", "cause"), [("batch_b9", "unmarshal"), ("!!!", "illegal base64")])
def test_a_cursor_that_is_none_is_500(client: Client, after: str, cause: str) -> None:
    refused = client.get("/openai/v1/batches", params={"after": after})
    assert (refused.status_code, refused.json()["error"]["message"]) == (500, "invalid pagination cursor")
    assert cause in refused.json()["error"]["error"]


@pytest.mark.parametrize("provider", ["anthropic", "gemini", "bedrock"])
def test_three_providers_give_their_first_page_for_ever(gateway: LocalGateway, client: Client, provider: str) -> None:
    for _ in range(3):
        gateway.add_batch(provider, status="completed")
    first = client.get("/openai/v1/batches", params={"provider": provider, "limit": 2}).json()
    again = client.get(
        "/openai/v1/batches", params={"provider": provider, "limit": 2, "after": first["next_cursor"]}
    ).json()
    assert first == again
    assert again["has_more"] is True


def test_the_cursor_of_a_list_of_files_is_called_after(client: Client) -> None:
    ids = [client.upload(b"{}\n").json()["id"] for _ in range(3)]
    first = client.get("/openai/v1/files", params={"limit": 2}).json()
    rest = client.get("/openai/v1/files", params={"limit": 2, "after": first["after"]}).json()
    assert [file["id"] for page in (first, rest) for file in page["data"]] == ids[::-1]
    assert "storage_backend" not in first["data"][0]
    assert "has_more" not in rest


def test_result_files_are_listed_once_they_exist(client: Client) -> None:
    batch = client.wait(client.create(["one"]))
    listed = {file["id"]: file for file in client.get("/openai/v1/files").json()["data"]}
    assert set(listed) == {batch["input_file_id"], batch["output_file_id"]}
    assert listed[batch["output_file_id"]]["bytes"] > 100
