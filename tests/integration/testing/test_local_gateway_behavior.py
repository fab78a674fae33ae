"""Providers that process files late, name results late, and give out lists that lie."""

from __future__ import annotations

import pytest
from support.local_gateway_client import Client, line

from airflow_bifrost.testing import Fault, LocalGateway, ProviderBehavior

AZURE = {"provider": "azure"}


def upload(client: Client, provider: str = "azure") -> str:
    return str(client.upload([line("a", "hello")], provider=provider).json()["id"])


def create(client: Client, file_id: str, provider: str = "azure") -> int:
    body = {"provider": provider, "input_file_id": file_id, "endpoint": "/v1/chat/completions"}
    return client.post("/openai/v1/batches", json=body).status_code


def file_status(client: Client, file_id: str) -> str:
    return str(client.get(f"/openai/v1/files/{file_id}", params=AZURE).json()["status"])


def page(client: Client, after: str = "") -> dict[str, object]:
    return dict(client.get("/openai/v1/batches", params={"after": after} if after else {}).json())


def test_a_pending_file_is_processed_after_so_many_reads(gateway: LocalGateway, client: Client) -> None:
    gateway.behave("azure", ProviderBehavior(file_pending=2))
    file_id = upload(client)
    assert [file_status(client, file_id) for _ in range(3)] == ["pending", "pending", "processed"]
    assert create(client, file_id) == 200


def test_a_create_with_a_pending_file_is_refused_and_counts(gateway: LocalGateway, client: Client) -> None:
    gateway.behave("azure", ProviderBehavior(file_pending=2))
    file_id = upload(client)
    assert [create(client, file_id) for _ in range(3)] == [400, 400, 200]
    assert len(gateway.batches) == 1


def test_a_file_may_fail(gateway: LocalGateway, client: Client) -> None:
    gateway.behave("azure", ProviderBehavior(file_pending=1, file_fails=True))
    file_id = upload(client)
    assert [file_status(client, file_id) for _ in range(3)] == ["pending", "error", "error"]
    assert create(client, file_id) == 400


def test_a_batch_runs_in_its_first_polls_however_late_they_come(gateway: LocalGateway, client: Client) -> None:
    gateway.behave("openai", ProviderBehavior(running_polls=2))
    batch_id = gateway.add_batch("openai", status="completed")
    assert [client.batch(batch_id)["status"] for _ in range(3)] == ["validating", "validating", "completed"]


@pytest.mark.parametrize(("late_counts", "shown"), [(True, 3), (False, 0)])
def test_a_terminal_batch_names_its_files_late(
    gateway: LocalGateway, client: Client, late_counts: bool, shown: int
) -> None:
    gateway.behave("openai", ProviderBehavior(files_late=2, late_counts=late_counts))
    batch_id = gateway.add_batch(rows=3)
    seen = [client.batch(batch_id) for _ in range(3)]
    assert {batch["status"] for batch in seen} == {"completed"}
    assert ["output_file_id" in batch for batch in seen] == [False, False, True]
    assert [batch["request_counts"]["completed"] for batch in seen] == [shown, shown, 3]


def test_a_page_is_short(gateway: LocalGateway, client: Client) -> None:
    gateway.behave("openai", ProviderBehavior(list_page=1))
    older, newer = gateway.add_batch(), gateway.add_batch()
    first = page(client)
    second = page(client, first["next_cursor"])
    assert [[b["id"] for b in p["data"]] for p in (first, second)] == [[newer], [older]]
    assert "has_more" not in second


def test_a_list_says_that_there_is_more_and_gives_no_cursor(gateway: LocalGateway, client: Client) -> None:
    gateway.behave("openai", ProviderBehavior(list_page=1, list_lie="no_cursor"))
    _, newer = gateway.add_batch(), gateway.add_batch()
    assert [b["id"] for b in page(client)["data"]] == [newer]
    assert page(client)["has_more"] is True
    assert "next_cursor" not in page(client)


def test_a_list_repeats_its_cursor(gateway: LocalGateway, client: Client) -> None:
    gateway.behave("openai", ProviderBehavior(list_page=1, list_lie="repeated_cursor"))
    _, newer = gateway.add_batch(), gateway.add_batch()
    first = page(client)
    second = page(client, first["next_cursor"])
    assert first["next_cursor"] == second["next_cursor"]
    assert [b["id"] for b in second["data"]] == [newer]


def test_a_list_goes_on_with_empty_pages(gateway: LocalGateway, client: Client) -> None:
    gateway.behave("openai", ProviderBehavior(list_lie="empty_pages"))
    gateway.add_batch()
    cursors, after = set(), ""
    for _ in range(5):
        answer = page(client, after)
        assert (answer["data"], answer["has_more"]) == ([], True)
        after = answer["next_cursor"]
        cursors.add(after)
    assert len(cursors) == 5


def test_only_the_first_page_of_a_list_can_be_read(gateway: LocalGateway, client: Client) -> None:
    gateway.behave("openai", ProviderBehavior(list_page=1, list_lie="unreadable"))
    _, newer = gateway.add_batch(), gateway.add_batch()
    first = page(client)
    assert [b["id"] for b in first["data"]] == [newer]
    second = client.get("/openai/v1/batches", params={"after": first["next_cursor"]})
    assert second.status_code == 200
    with pytest.raises(ValueError, match=r"Expecting value|codec"):
        second.json()


def test_a_list_shows_no_metadata_and_the_batch_does(gateway: LocalGateway, client: Client) -> None:
    gateway.behave("openai", ProviderBehavior(list_metadata=False))
    batch_id = gateway.add_batch(metadata={"k": "v"})
    assert "metadata" not in page(client)["data"][0]
    assert client.batch(batch_id)["metadata"] == {"k": "v"}


def test_a_batch_is_answered_with_another_id(gateway: LocalGateway, client: Client) -> None:
    batch_id = gateway.add_batch(status="in_progress")
    gateway.set_batch(batch_id, id="batch_other")
    assert client.batch(batch_id)["id"] == "batch_other"
    assert client.post(f"/openai/v1/batches/{batch_id}/cancel", json={}).json()["id"] == "batch_other"


def test_a_fault_meets_the_list_and_not_the_batch(gateway: LocalGateway, client: Client) -> None:
    batch_id = gateway.add_batch()
    gateway.inject(Fault(call="batch_list", status=503))
    assert client.batch(batch_id)["id"] == batch_id
    assert client.get("/openai/v1/batches").status_code == 503
    assert client.get("/openai/v1/batches").status_code == 200


@pytest.mark.parametrize(
    ("fault", "body"),
    [
        (Fault(call="file_content", garbage=True), b"\x00\x01\x02 this is not JSON"),
        (Fault(call="file_content", status=200, body=""), b""),
        (Fault(call="file_content", status=200, body={"error": {"message": "no"}}), b'{"error": {"message": "no"}}'),
    ],
    ids=["garbage", "empty", "error"],
)
def test_a_results_file_is_unreadable_once(gateway: LocalGateway, client: Client, fault: Fault, body: bytes) -> None:
    url = f"/openai/v1/files/{client.batch(gateway.add_batch())['output_file_id']}/content"
    gateway.inject(fault)
    first, second = client.get(url), client.get(url)
    assert (first.status_code, first.content) == (200, body)
    assert second.json()["custom_id"] == "row-1"


def test_reset_restores_the_behavior_of_the_start() -> None:
    late = {"openai": ProviderBehavior(files_late=1)}
    with LocalGateway(batch_seconds=0, behavior=late) as gateway, Client(base_url=gateway.url) as client:
        for _ in range(2):
            batch_id = gateway.add_batch()
            assert ["output_file_id" in client.batch(batch_id) for _ in range(2)] == [False, True]
            gateway.behave("openai", ProviderBehavior())
            assert "output_file_id" in client.batch(gateway.add_batch())
            gateway.reset()


def test_another_process_changes_the_behavior(gateway: LocalGateway, client: Client) -> None:
    assert client.put("/_local/behavior/azure", json={"file_pending": 1}).status_code == 204
    assert file_status(client, upload(client)) == "pending"
    for provider, body in (("azure", {"file_pendin": 1}), ("azur", {}), ("azure", {"list_lie": "no"})):
        assert client.put(f"/_local/behavior/{provider}", json=body).status_code == 400


@pytest.mark.parametrize(
    "wrong",
    [
        {"file_pending": -1},
        {"files_late": 1.5},
        {"running_polls": "1"},
        {"list_page": 0},
        {"list_lie": "lies"},
        {"late_counts": 1},
    ],
    ids=str,
)
def test_a_behavior_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError), match=next(iter(wrong))):
        ProviderBehavior(**wrong)


def test_a_member_that_no_batch_has_is_refused(gateway: LocalGateway, client: Client) -> None:
    batch_id = gateway.add_batch()
    for change in (gateway.add_batch, lambda **fields: gateway.set_batch(batch_id, **fields)):
        with pytest.raises(ValueError, match=r"a member of a batch is one of .* not 'output_file'"):
            change(output_file="file-1")
    answer = client.patch(f"/_local/batches/{batch_id}", json={"stats": "completed"})
    assert (answer.status_code, "not 'stats'" in answer.json()["error"]) == (400, True)
    assert client.post("/_local/batches", json={"stats": "completed"}).status_code == 400
    assert len(gateway.batches) == 1


def test_a_fault_for_a_query_is_refused() -> None:
    with pytest.raises(ValueError, match="has no query"):
        Fault(status=503, path_contains="/batches?")
    with pytest.raises(ValueError, match="a call is one of"):
        Fault(status=503, call="list")
