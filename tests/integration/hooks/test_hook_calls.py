"""Every call of the hook, sync and async, over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pendulum
import pytest

from airflow_bifrost.exceptions import (
    BatchNotFound,
    BifrostAuthError,
    BifrostBudgetExceeded,
    BifrostConfigurationError,
    BifrostError,
    BifrostProtocolError,
    BifrostRateLimited,
    BifrostRequestError,
    BifrostUnavailable,
)
from airflow_bifrost.hooks.bifrost import BifrostHook
from airflow_bifrost.testing import Fault, LocalGateway

TOKEN = "sk-bf-0123456789abcdef"
ROW = b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": []}}\n'


@pytest.fixture
def input_path(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_bytes(ROW)
    return path


def asked(gateway: LocalGateway) -> list[str]:
    return [f"{request.method} {request.path}?{request.query}".rstrip("?") for request in gateway.requests]


def test_get_batch_retrieves_a_batch_of_the_connections_provider(hook: Any, gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch(status="in_progress", batch_id="batch_1", created_at=1_700_000_000)
    batch = hook.get_batch(batch_id)
    assert (batch.id, batch.status) == ("batch_1", "in_progress")
    assert batch.created_at == pendulum.datetime(2023, 11, 14, 22, 13, 20)
    assert asked(gateway) == ["GET /openai/v1/batches/batch_1?provider=openai"]
    assert gateway.requests[0].headers["authorization"] == f"Bearer {TOKEN}"


def test_provider_names_another_provider(hook: Any, gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch("anthropic", status="ended")
    assert hook.get_batch(batch_id, provider="Anthropic").status == "ended"
    assert asked(gateway) == [f"GET /openai/v1/batches/{batch_id}?provider=anthropic"]


def test_list_batches_gives_at_most_as_many_as_asked_for(hook: Any, gateway: LocalGateway) -> None:
    made = [gateway.add_batch() for _ in range(5)]
    assert [batch.id for batch in hook.list_batches(limit=3)] == made[:-4:-1]
    assert {batch.id for batch in hook.list_batches(limit=None)} == set(made)


def test_list_batches_follows_the_pages(hook: Any, gateway: LocalGateway) -> None:
    made = {gateway.add_batch() for _ in range(130)}
    assert {batch.id for batch in hook.list_batches(limit=None)} == made
    assert len(gateway.requests) == 2


def test_list_batches_ends_where_a_provider_repeats_its_first_page(hook: Any, gateway: LocalGateway) -> None:
    for _ in range(130):
        gateway.add_batch("anthropic")
    listed = hook.list_batches(provider="anthropic", limit=None)
    assert len({batch.id for batch in listed}) == len(listed) == 100


@pytest.mark.parametrize("call", ["list_batches", "list_files"])
def test_a_limit_below_one_is_refused_before_anything_is_sent(hook: Any, gateway: LocalGateway, call: str) -> None:
    with pytest.raises(ValueError, match="limit"):
        getattr(hook, call)(limit=0)
    assert asked(gateway) == []


def test_a_batch_is_created_once_from_an_uploaded_file(hook: Any, gateway: LocalGateway, input_path: Path) -> None:
    file = hook.upload_file(input_path)
    batch = hook.create_batch(input_file_id=file.id, endpoint="/v1/chat/completions", metadata={"team": "a"})
    [made] = gateway.batches
    assert (batch.id, batch.input_file_id, batch.metadata) == (made["id"], file.id, {"team": "a"})
    assert made["idempotency_key"]


def test_an_idempotency_key_of_ones_own_is_passed_on(hook: Any, gateway: LocalGateway) -> None:
    hook.create_batch(
        requests=[{"custom_id": "a", "params": {"model": "m", "messages": []}}],
        provider="anthropic",
        idempotency_key="mine",
    )
    assert gateway.batches[0]["idempotency_key"] == "mine"


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(drop=True), Fault(status=503, applied=True)])
def test_a_create_that_may_have_reached_the_provider_is_never_repeated(
    hook: Any, gateway: LocalGateway, fault: Fault
) -> None:
    gateway.inject(fault)
    with pytest.raises(BifrostUnavailable, match="A batch may exist and be billed"):
        hook.create_batch(requests=[{"custom_id": "a", "params": {"model": "m", "messages": []}}], provider="anthropic")
    assert len(gateway.requests) == 1


@pytest.mark.parametrize("fault", [Fault(status=503, times=2), Fault(drop=True, times=2), Fault(status=429, times=2)])
def test_an_upload_that_fails_is_repeated_as_a_whole(
    hook: Any, gateway: LocalGateway, input_path: Path, fault: Fault
) -> None:
    gateway.inject(fault)
    assert hook.upload_file(input_path).bytes == len(ROW)
    assert len(gateway.requests) == 3


def test_a_create_is_repeated_while_the_gateway_refuses_connections(
    hook: Any, gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As during a restart: a refused connection has sent nothing."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", f"bifrost://127.0.0.1:{port}/http?retry_budget=0.2")
    with pytest.raises(BifrostUnavailable, match="Nothing was submitted, and nothing is billed") as caught:
        hook.create_batch(input_file_id="file-1", endpoint="/v1/chat/completions")
    assert caught.value.sent is False


def test_a_client_that_is_told_to_stop_makes_no_further_attempt(gateway: LocalGateway) -> None:
    stop = threading.Event()
    stop.set()
    gateway.inject(Fault(status=503, times=None))
    with BifrostHook().open_client(sleep=stop.wait) as client, pytest.raises(BifrostUnavailable):
        client.get_batch("batch_1")
    assert len(gateway.requests) == 1


def test_a_client_whose_gateway_has_worked_before_retries_garbage(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch()
    gateway.inject(Fault(garbage=True, times=2))
    with BifrostHook().open_client(worked_before=True) as client:
        assert client.get_batch(batch_id).id == batch_id
    gateway.inject(Fault(garbage=True))
    with BifrostHook().open_client() as client, pytest.raises(BifrostProtocolError):
        client.get_batch(batch_id)


def test_a_rotated_token_is_taken_up_by_an_open_client(
    hook: Any, gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = gateway.add_batch()
    monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", gateway.connection_json(token="sk-bf-not-known-any-more"))
    with pytest.raises(BifrostAuthError):
        hook.get_batch(batch_id)
    monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", gateway.connection_json(token=TOKEN))
    assert hook.get_batch(batch_id).id == batch_id


def test_arguments_that_would_cost_money_for_nothing_are_never_sent(hook: Any, gateway: LocalGateway) -> None:
    for wrong in (
        {},
        {"input_file_id": "f", "requests": [{}]},
        {"requests": []},
        {"input_file_id": "f", "metadata": {"a": 1}},
    ):
        with pytest.raises(ValueError):
            hook.create_batch(**wrong)
    assert asked(gateway) == []


def test_cancel_batch_cancels(hook: Any, gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch()
    assert hook.cancel_batch(batch_id).status == "cancelling"
    assert gateway.batches[0]["status"] == "cancelling"


@pytest.mark.parametrize(
    ("provider", "status"), [("anthropic", "ended"), ("gemini", "BATCH_STATE_SUCCEEDED"), ("bedrock", "Completed")]
)
def test_batch_results_brings_the_rows(hook: Any, gateway: LocalGateway, provider: str, status: str) -> None:
    batch_id = gateway.add_batch(provider, status=status, rows=3)
    results = hook.batch_results(batch_id, provider=provider)
    assert len({row["custom_id"] for row in results.results}) == 3


def test_an_uploaded_file_is_found_listed_read_and_deleted(
    hook: Any, gateway: LocalGateway, input_path: Path, tmp_path: Path
) -> None:
    file = hook.upload_file(input_path)
    assert (file.filename, file.bytes, file.purpose) == ("in.jsonl", len(ROW), "batch")
    assert hook.get_file(file.id).bytes == len(ROW)
    assert [listed.id for listed in hook.list_files()] == [file.id]
    assert b"".join(hook.content(file.id)) == ROW
    assert hook.download_file(file.id, tmp_path / "out.jsonl") == len(ROW)
    assert (tmp_path / "out.jsonl").read_bytes() == ROW
    assert hook.delete_file(file.id).deleted is True
    assert hook.list_files() == []


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(status=401), BifrostAuthError),
        (Fault(status=402), BifrostBudgetExceeded),
        (Fault(status=403), BifrostAuthError),
        (Fault(status=404), BatchNotFound),
        (Fault(status=422), BifrostRequestError),
        (Fault(status=200, body="<html></html>", content_type="text/html"), BifrostProtocolError),
        (Fault(garbage=True), BifrostProtocolError),
    ],
)
def test_a_permanent_error_is_raised_at_once(
    hook: Any, gateway: LocalGateway, fault: Fault, error: type[Exception]
) -> None:
    batch_id = gateway.add_batch()
    gateway.inject(fault)
    with pytest.raises(error, match=rf"{batch_id}.*'bifrost_default'"):
        hook.get_batch(batch_id)
    assert len(gateway.requests) == 1


@pytest.mark.parametrize("fault", [Fault(status=503, times=2), Fault(status=429, times=2), Fault(drop=True, times=2)])
def test_a_call_is_retried_after_a_transient_error(hook: Any, gateway: LocalGateway, fault: Fault) -> None:
    batch_id = gateway.add_batch()
    gateway.inject(fault)
    assert hook.get_batch(batch_id).id == batch_id
    assert len(gateway.requests) == 3


def test_a_rate_limit_that_lasts_too_long_is_raised_with_its_seconds(hook: Any, gateway: LocalGateway) -> None:
    gateway.inject(Fault(status=429, retry_after=320))
    with pytest.raises(BifrostRateLimited) as caught:
        hook.get_batch("batch_1")
    assert caught.value.retry_after == 320


def test_an_unusable_connection_is_an_error_of_every_call(hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", '{"conn_type": "bifrost"}')
    with pytest.raises(BifrostConfigurationError, match=r"'bifrost_default' .*host"):
        hook.get_batch("batch_1")


def test_a_corrected_connection_works_without_a_new_hook(
    hook: Any, gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", '{"conn_type": "bifrost"}')
        with pytest.raises(BifrostConfigurationError):
            hook.get_batch("batch_1")
    assert hook.get_batch(gateway.add_batch())


def test_all_errors_are_of_one_kind(hook: Any, gateway: LocalGateway) -> None:
    with pytest.raises(BifrostError):
        hook.get_batch("batch_nowhere")


def test_one_client_serves_many_calls(hook: Any) -> None:
    assert hook.get_conn() is hook.get_conn()


def test_a_context_manager_closes_the_connections_and_the_hook_works_afterwards(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch()
    hook = BifrostHook()
    with hook as entered:
        assert entered is hook
        client = hook.get_conn()
        assert hook.get_batch(batch_id)
    assert client._http.is_closed
    assert hook.get_batch(batch_id)
    hook.close()
    hook.close()


def test_an_async_context_manager_closes_the_connections_and_the_hook_works_afterwards(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch()

    async def use() -> None:
        hook = BifrostHook()
        async with hook as entered:
            assert entered is hook
            client = await hook.aget_conn()
            assert await hook.aget_batch(batch_id)
        assert client._http.is_closed
        assert await hook.aget_batch(batch_id)
        await hook.aclose()
        await hook.aclose()

    asyncio.run(use())


def test_many_coroutines_at_once_share_one_async_client(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch()

    async def use() -> int:
        async with BifrostHook() as hook:
            clients = await asyncio.gather(*(hook.aget_conn() for _ in range(20)))
            await asyncio.gather(*(hook.aget_batch(batch_id) for _ in range(20)))
        return len(set(map(id, clients)))

    assert asyncio.run(use()) == 1


def test_a_hook_may_be_used_in_one_event_loop_after_another(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch()
    hook = BifrostHook()
    for _ in range(3):
        assert asyncio.run(hook.aget_batch(batch_id)).id == batch_id
    asyncio.run(hook.aclose())


def test_a_coroutine_that_is_cancelled_while_the_client_opens_does_not_spoil_it_for_the_others(
    gateway: LocalGateway,
) -> None:
    batch_id = gateway.add_batch()

    async def use() -> str:
        async with BifrostHook() as hook:
            hasty = asyncio.create_task(hook.aget_batch(batch_id))
            patient = asyncio.create_task(hook.aget_batch(batch_id))
            await asyncio.sleep(0)
            hasty.cancel()
            return (await patient).id

    assert asyncio.run(use()) == batch_id


async def content_of(hook: BifrostHook, file_id: str) -> bytes:
    async with hook.afile_content(file_id) as chunks:
        return b"".join([chunk async for chunk in chunks])


def one_off_calls(hook: BifrostHook, gateway: LocalGateway, path: Path) -> list[Coroutine[Any, Any, Any]]:
    """A call of each form: one answer, a list, a stream, an upload, a download, and a failure."""
    batch_id, file_id = gateway.add_batch(), gateway.add_file(ROW)
    return [
        hook.aget_batch(batch_id),
        hook.alist_batches(),
        content_of(hook, file_id),
        hook.aupload_file(path),
        hook.adownload_file(file_id, path.with_name("out.jsonl")),
        hook.aget_batch("batch_that_does_not_exist"),
    ]


def test_a_one_off_coroutine_of_the_hook_closes_its_connections(gateway: LocalGateway, input_path: Path) -> None:
    told: list[str] = []

    async def call_all() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
        for call in one_off_calls(BifrostHook(), gateway, input_path):
            with contextlib.suppress(BatchNotFound):
                await call
        gc.collect()  # aiohttp tells of a session that nobody has closed

    asyncio.run(call_all())
    assert told == []


def test_an_outer_context_manager_keeps_the_connections_for_an_inner_one(gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch()

    async def use() -> bool:
        async with BifrostHook() as hook:
            client = await hook.aget_conn()
            async with hook:
                await hook.aget_batch(batch_id)
            await hook.aget_batch(batch_id)
            return client is await hook.aget_conn()

    assert asyncio.run(use())
