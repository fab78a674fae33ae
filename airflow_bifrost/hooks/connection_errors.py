"""Errors about an Airflow connection: one that Airflow cannot load, and one whose fields cannot work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_bifrost._compat import AirflowException
from airflow_bifrost.exceptions import BifrostConfigurationError
from airflow_bifrost.hooks.unreadable import why_unreadable


@contextmanager
def naming_the_connection(conn_id: str) -> Iterator[None]:
    """Turn a ``ValueError`` about a field into an error that also names the connection."""
    try:
        yield
    except ValueError as error:
        raise _cannot_work(conn_id, str(error)) from None


@contextmanager
def finding_the_connection(conn_id: str) -> Iterator[None]:
    """Say what to do if Airflow has no such connection, or cannot read it."""
    try:
        yield
    except (AirflowException, PermissionError) as error:  # a secrets backend may deny access
        variable = variable_of(conn_id)
        if value := os.environ.get(variable):
            raise _cannot_work(
                conn_id, f"{variable} is set, but Airflow cannot read it: {why_unreadable(value)}"
            ) from None
        problem = f"Airflow cannot load connection {conn_id!r} ({error})."
        advice = (
            f"Create it with type 'bifrost', or set {variable}. If it exists, Airflow's database, API server or secrets backend may be"
            " unavailable: retry later."
        )
        missing = BifrostConfigurationError(f"{problem} Nothing was sent. {advice}", problem=problem, advice=advice)
        missing.undefined = True
        raise missing from error


def _cannot_work(conn_id: str, why: str) -> BifrostConfigurationError:
    problem = f"Connection {conn_id!r} cannot work: {why.rstrip('.')}."
    advice = "Fix the connection."
    return BifrostConfigurationError(f"{problem} Nothing was sent. {advice}", problem=problem, advice=advice)


def variable_of(conn_id: str) -> str:
    """The environment variable from which Airflow reads a connection."""
    return f"AIRFLOW_CONN_{conn_id.upper()}"
