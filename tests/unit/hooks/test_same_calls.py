"""Sync client, async client and hook offer the same calls, with arguments that an editor can complete."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from airflow_bifrost.gateway.async_client import AsyncGatewayClient
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.hooks.async_calls import AsyncCalls
from airflow_bifrost.hooks.bifrost import BifrostHook
from airflow_bifrost.hooks.sync_calls import SyncCalls

NOT_CALLS = {"config", "close", "aclose", "get_conn", "aget_conn", "clock_offset", "key_id"}


def calls_of(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")} - NOT_CALLS


CALLS = sorted(calls_of(GatewayClient))

# What the hook's own convenience replaces: argument of the client -> argument of the hook.
AT_THE_HOOK = {
    "list_batches": {"page_size": "limit"},
    "list_files": {"page_size": "limit"},
    "upload_file": {"file": "path"},
    "download_file": {"file": "path"},
}


def arguments(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


def test_the_contracts_calls_are_there() -> None:
    contract = {
        "get_batch",
        "list_batches",
        "create_batch",
        "cancel_batch",
        "upload_file",
        "get_file",
        "delete_file",
        "download_file",
        "batch_results",
    }
    assert contract <= set(CALLS)
    assert hasattr(BifrostHook, "test_connection")
    assert hasattr(BifrostHook, "atest_connection")


def test_clients_and_hook_offer_the_same_calls() -> None:
    assert calls_of(AsyncGatewayClient) == set(CALLS)
    assert calls_of(SyncCalls) == set(CALLS)
    assert calls_of(AsyncCalls) == {f"a{name}" for name in CALLS}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_has_the_same_arguments_sync_and_async(name: str) -> None:
    assert arguments(getattr(GatewayClient, name)) == arguments(getattr(AsyncGatewayClient, name))
    assert arguments(getattr(SyncCalls, name)) == arguments(getattr(AsyncCalls, f"a{name}"))


@pytest.mark.parametrize("name", CALLS)
def test_a_call_of_the_hook_has_the_arguments_of_the_clients(name: str) -> None:
    renamed = AT_THE_HOOK.get(name, {})
    expected = {renamed.get(argument, argument) for argument in arguments(getattr(GatewayClient, name))}
    assert set(arguments(getattr(SyncCalls, name))) == expected


@pytest.mark.parametrize("name", ["get_config", "get_conn", "open_client", "close", "test_connection"])
def test_everything_else_of_the_hook_exists_twice_too(name: str) -> None:
    sync, asynchronous = arguments(getattr(BifrostHook, name)), arguments(getattr(BifrostHook, f"a{name}"))
    assert list(sync) == list(asynchronous)


@pytest.mark.parametrize("kind", [GatewayClient, AsyncGatewayClient, SyncCalls, AsyncCalls, BifrostHook])
def test_no_signature_hides_arguments_from_an_editor(kind: type) -> None:
    public = [function for name, function in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")]
    ours = [function for function in public if function.__module__.startswith("airflow_bifrost")]
    assert ours
    variable = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    hiding = {f.__qualname__ for f in ours if {p.kind for p in arguments(f).values()} & variable}
    assert hiding == set()
