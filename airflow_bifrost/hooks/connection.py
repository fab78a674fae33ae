"""What the fields of an Airflow connection of type ``bifrost`` mean."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_bifrost._compat import conf
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.hooks.connection_errors import naming_the_connection, variable_of
from airflow_bifrost.hooks.fields import base_url, extra_of, number, switch, text, verify, whole

if TYPE_CHECKING:
    from airflow.sdk import Connection

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
    "retry_budget",
    "settle_time",
    "transport",
)


def config_of(connection: Connection, conn_id: str) -> GatewayConfig:
    """What the fields of an Airflow connection mean.

    ``host`` may be a full URL, with or without a path, which takes precedence over ``schema`` and ``port``. Fields that are missing, null
    or empty take their defaults. Numbers and booleans may be strings, as they are in a URI.

    :raises BifrostConfigurationError: names the field that is wrong.
    """
    with naming_the_connection(conn_id):
        if text("host", connection.host) is None and _is_neither_json_nor_a_uri(
            os.environ.get(variable_of(conn_id), "")
        ):
            raise ValueError(f"{variable_of(conn_id)} is neither JSON nor a URI with a host")
        extra = extra_of(connection)
        if unknown := sorted(set(extra) - set(EXTRA_FIELDS)):
            raise ValueError(f"extra: unknown key {unknown[0]!r}. Known keys: {', '.join(EXTRA_FIELDS)}")
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
            "retry_budget": number("extra retry_budget", extra.get("retry_budget")),
            "settle_time": number("extra settle_time", extra.get("settle_time")),
            "coalesce": switch("extra coalesce", extra.get("coalesce")),
        }
        settings = {
            "max_in_flight": conf.getint("bifrost", "max_in_flight", fallback=8),
            "poll_interval": conf.getfloat("bifrost", "poll_interval", fallback=60.0),
            "connection_ttl": conf.getfloat("bifrost", "connection_ttl", fallback=300.0),
            "retry_budget": conf.getfloat("bifrost", "retry_budget", fallback=300.0),
            "settle_time": conf.getfloat("bifrost", "settle_time", fallback=600.0),
            "coalesce": conf.getboolean("bifrost", "coalesce", fallback=True),
        }
        return GatewayConfig(
            base_url=base_url(connection),
            token=text("password", connection.password),
            name=conn_id,
            **settings | {name: value for name, value in given.items() if value is not None},
        )


def ignored_port(connection: Connection, config: GatewayConfig) -> int | None:
    """The connection's ``port``, if it is ignored because the URL in ``host`` uses another one."""
    parts = urlsplit(config.base_url)
    used = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return connection.port if str(connection.port or used) != str(used) else None


def _is_neither_json_nor_a_uri(value: str) -> bool:
    """Airflow reads such a variable as a connection without a host."""
    return value != "" and not value.startswith("{") and "://" not in value
