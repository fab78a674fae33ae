"""The differences between Airflow 3.1, 3.2 and 3.3. No other module branches on Airflow's version."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Connection, conf
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowRescheduleException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
        TaskDeferralError,
        TaskDeferralTimeout,
        XComNotFound,
    )
else:
    try:  # Airflow 3.2 and later
        from airflow.sdk import conf
        from airflow.sdk.exceptions import (
            AirflowException,
            AirflowFailException,
            AirflowRescheduleException,
            AirflowSensorTimeout,
            AirflowSkipException,
            AirflowTaskTimeout,
            TaskDeferralError,
            TaskDeferralTimeout,
            XComNotFound,
        )
    except ImportError:  # Airflow 3.1
        from airflow.configuration import conf
        from airflow.exceptions import (
            AirflowException,
            AirflowFailException,
            AirflowRescheduleException,
            AirflowSensorTimeout,
            AirflowSkipException,
            AirflowTaskTimeout,
            TaskDeferralError,
            TaskDeferralTimeout,
            XComNotFound,
        )


def keyword_arguments(
    function: Callable[..., Any], args: Collection[Any], context: Mapping[str, Any]
) -> dict[str, Any]:
    """The keyword arguments that a decorated function takes from the task's context."""
    try:
        module = import_module("airflow.sdk.bases.decorator")  # Airflow 3.2 and later
        determine_kwargs = module.determine_kwargs
    except AttributeError:
        determine_kwargs = import_module("airflow.utils.operator_helpers").determine_kwargs  # Airflow 3.1
    return dict(determine_kwargs(function, args, context))


async def async_connection(conn_id: str) -> Connection:
    """Look up an Airflow connection without blocking the event loop.

    Before Airflow 3.3.2, ``BaseHook.aget_connection`` masks secrets with a sync call to Airflow, which can deadlock. On these versions, the
    sync lookup runs in a thread, through asgiref, so that Airflow's channel to the supervisor finds this event loop.
    """
    from airflow.sdk import BaseHook

    if hasattr(BaseHook, "aget_hook"):  # was added together with the fixed aget_connection
        return await BaseHook.aget_connection(conn_id)
    from asgiref.sync import sync_to_async

    return await sync_to_async(BaseHook.get_connection)(conn_id)


@contextmanager
def outside_of_tasks() -> Iterator[None]:
    """Look up connections as Airflow's own commands do, including in the metadata database.

    Outside of a task, ``airflow.sdk`` asks only secrets backends and the environment, unless the process declares itself a server.
    """
    variable = "_AIRFLOW_PROCESS_CONTEXT"
    before = os.environ.get(variable)
    os.environ.setdefault(variable, "server")
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]


def stats() -> Any:
    """Airflow's metrics as a triggerer configures them. The copy in ``airflow.sdk`` is configured only in workers."""
    try:
        stats = import_module("airflow.observability.stats")  # Airflow 3.2 and later
    except ImportError:
        stats = import_module("airflow.stats")  # Airflow 3.1
    return stats.Stats


__all__ = [
    "AirflowException",
    "AirflowFailException",
    "AirflowRescheduleException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "TaskDeferralError",
    "TaskDeferralTimeout",
    "XComNotFound",
    "async_connection",
    "conf",
    "keyword_arguments",
    "outside_of_tasks",
    "stats",
]
