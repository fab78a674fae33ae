"""What the fields of an Airflow connection of type ``bifrost`` mean, and what to say of one that cannot work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_bifrost._compat import AirflowException, conf
from airflow_bifrost.exceptions import BifrostConfigurationError
from airflow_bifrost.hooks.fields import base_url, extra_of, number, switch, text, verify, whole
from airflow_bifrost.hooks.unreadable import why_unreadable

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_bifrost.gateway.config import GatewayConfig

EXTRA_FIELDS = (
    "provider",
    "path_prefix",
    "timeout",
    "connect_timeout",
    "verify",
    "max_connections",
    "max_in_flight",
    "poll_interval",
    "connection_ttl",
    "coalesce",
    "transport",
)


def config_of(connection: Connection, conn_id: str) -> GatewayConfig:
    """What the fields of an Airflow connection mean.

    ``host`` may be a full URL, with or without a path, and wins over ``schema`` and ``port`` then. Fields that are missing, null or
    empty take their defaults; numbers and booleans may be given as strings, as a URI gives them.

    :raises BifrostConfigurationError: names the field that is wrong.
    """
    from airflow_bifrost.gateway.config import GatewayConfig

    with naming_the_connection(conn_id):
        if text("host", connection.host) is None and _is_neither_json_nor_a_uri(
            os.environ.get(variable_of(conn_id), "")
        ):
            raise ValueError(f"{variable_of(conn_id)} is neither JSON nor a URI with a host")
        extra = extra_of(connection)
        if unknown := sorted(set(extra) - set(EXTRA_FIELDS)):
            raise ValueError(f"extra: unknown key {unknown[0]!r}; the known ones are {', '.join(EXTRA_FIELDS)}")
        provider = text("extra provider", extra.get("provider"))
        path_prefix = text("extra path_prefix", extra.get("path_prefix"))
        given: dict[str, Any] = {
            "provider": provider and provider.lower(),
            "path_prefix": path_prefix and f"/{path_prefix.strip('/')}".rstrip("/"),
            "timeout": number("extra timeout", extra.get("timeout")),
            "connect_timeout": number("extra connect_timeout", extra.get("connect_timeout")),
            "verify": verify(extra.get("verify")),
            "max_connections": whole("extra max_connections", extra.get("max_connections")),
            "transport": text("extra transport", extra.get("transport")),
            "max_in_flight": whole("extra max_in_flight", extra.get("max_in_flight")),
            "poll_interval": number("extra poll_interval", extra.get("poll_interval")),
            "connection_ttl": number("extra connection_ttl", extra.get("connection_ttl")),
            "coalesce": switch("extra coalesce", extra.get("coalesce")),
        }
        settings = {
            "max_in_flight": conf.getint("bifrost", "max_in_flight", fallback=8),
            "poll_interval": conf.getfloat("bifrost", "poll_interval", fallback=60.0),
            "connection_ttl": conf.getfloat("bifrost", "connection_ttl", fallback=300.0),
            "coalesce": conf.getboolean("bifrost", "coalesce", fallback=True),
        }
        return GatewayConfig(
            base_url=base_url(connection),
            token=text("password", connection.password),
            name=conn_id,
            **settings | {name: value for name, value in given.items() if value is not None},
        )


def ignored_port(connection: Connection, config: GatewayConfig) -> int | None:
    """The connection's ``port``, if the URL in its ``host`` leads to another one."""
    parts = urlsplit(config.base_url)
    used = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return connection.port if str(connection.port or used) != str(used) else None


@contextmanager
def naming_the_connection(conn_id: str) -> Iterator[None]:
    """Turn what is said of a field into an error that names the connection too."""
    try:
        yield
    except ValueError as error:
        raise _cannot_work(conn_id, str(error)) from None


@contextmanager
def finding_the_connection(conn_id: str) -> Iterator[None]:
    """Say what to do where Airflow has no such connection, or none that it can read."""
    try:
        yield
    except (AirflowException, PermissionError) as error:  # a secrets backend may deny access
        variable = variable_of(conn_id)
        if value := os.environ.get(variable):
            raise _cannot_work(
                conn_id, f"{variable} is set, but Airflow cannot read it: {why_unreadable(value)}"
            ) from None
        problem = f"Airflow cannot find the connection {conn_id!r} ({error})."
        advice = (
            f"Create it with type 'bifrost', or set {variable}. If it exists, Airflow's database or secrets backend may be away:"
            " then retry the task later."
        )
        missing = BifrostConfigurationError(f"{problem} Nothing was sent. {advice}", problem=problem, advice=advice)
        missing.undefined = True
        raise missing from error


def _cannot_work(conn_id: str, why: str) -> BifrostConfigurationError:
    problem = f"Connection {conn_id!r} cannot work: {why}."
    return BifrostConfigurationError(
        f"{problem} Nothing was sent; correct the connection.", problem=problem, advice="Correct the connection."
    )


def variable_of(conn_id: str) -> str:
    """The environment variable that Airflow reads a connection from."""
    return f"AIRFLOW_CONN_{conn_id.upper()}"


def _is_neither_json_nor_a_uri(value: str) -> bool:
    """Airflow takes such a variable for a connection without a host."""
    return value != "" and not value.startswith("{") and "://" not in value
