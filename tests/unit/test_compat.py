"""What differs between the versions of Airflow."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest
from airflow.sdk import BaseHook

from airflow_bifrost import _compat
from airflow_bifrost.exceptions import BatchFailed, BifrostError


@pytest.mark.parametrize("name", _compat.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(_compat, name)


@pytest.mark.filterwarnings("ignore:airflow.exceptions")
@pytest.mark.parametrize("name", [name for name in _compat.__all__ if name.startswith("Airflow")])
def test_an_error_is_the_one_that_airflow_itself_catches(name: str) -> None:
    import airflow.exceptions

    assert getattr(_compat, name) is getattr(airflow.exceptions, name)


def test_our_errors_are_airflows() -> None:
    assert issubclass(BifrostError, _compat.AirflowException)
    assert issubclass(BatchFailed, _compat.AirflowFailException)


def test_async_connection_gives_what_the_sync_lookup_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_GW", "bifrost://:token@gw:8080/http?timeout=5")
    found, same = asyncio.run(_compat.async_connection("gw")), BaseHook.get_connection("gw")
    assert (found.host, found.port, found.password, found.extra) == (same.host, same.port, same.password, same.extra)


def test_async_connection_blocks_the_loop_in_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync call to Airflow from the event loop may deadlock; where there is no safe coroutine, a thread makes the call."""
    asked_in: list[threading.Thread] = []
    get_connection = BaseHook.get_connection

    def recorded(conn_id: str) -> object:
        asked_in.append(threading.current_thread())
        return get_connection(conn_id)

    monkeypatch.setenv("AIRFLOW_CONN_GW", "bifrost://gw")
    monkeypatch.setattr(BaseHook, "get_connection", recorded)
    asyncio.run(_compat.async_connection("gw"))
    assert threading.current_thread() not in asked_in


def test_outside_of_tasks_a_lookup_asks_the_database_too_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.execution_time.supervisor import ensure_secrets_backend_loaded

    def backends() -> set[str]:
        return {type(backend).__name__ for backend in ensure_secrets_backend_loaded()}

    monkeypatch.delenv("_AIRFLOW_PROCESS_CONTEXT", raising=False)
    with _compat.outside_of_tasks():
        assert backends() == {"EnvironmentVariablesBackend", "MetastoreBackend"}
    assert backends() == {"EnvironmentVariablesBackend"}


def test_a_process_that_says_what_it_is_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "client")
    with _compat.outside_of_tasks():
        assert os.environ["_AIRFLOW_PROCESS_CONTEXT"] == "client"
    assert os.environ["_AIRFLOW_PROCESS_CONTEXT"] == "client"
