"""What the fields of an Airflow connection of type ``bifrost`` mean. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_bifrost.exceptions import BifrostConfigurationError

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_bifrost.gateway.config import GatewayConfig

EXTRA_FIELDS = ("provider", "path_prefix", "timeout", "connect_timeout", "verify", "max_connections")


def config_of(connection: Connection, conn_id: str) -> GatewayConfig:
    """What the fields of an Airflow connection mean. Pure.

    ``host`` may be a full URL, with or without a path, and wins over ``schema`` and ``port`` then. Fields that are missing, null or
    empty take their defaults; numbers and booleans may be given as strings, as a URI gives them.

    :raises BifrostConfigurationError: names the field that is wrong.
    """
    from airflow_bifrost.gateway.config import GatewayConfig

    with naming_the_connection(conn_id):
        extra = _extra_of(connection)
        if unknown := sorted(set(extra) - set(EXTRA_FIELDS)):
            raise ValueError(f"extra: unknown key {unknown[0]!r}; the known ones are {', '.join(EXTRA_FIELDS)}")
        given: dict[str, Any] = {
            "provider": _string("provider", extra.get("provider")),
            "path_prefix": _string("path_prefix", extra.get("path_prefix")),
            "timeout": _number("timeout", extra.get("timeout")),
            "connect_timeout": _number("connect_timeout", extra.get("connect_timeout")),
            "verify": _verify(extra.get("verify")),
            "max_connections": _whole("max_connections", extra.get("max_connections")),
        }
        if given["provider"] is not None:
            given["provider"] = given["provider"].lower()
        if given["path_prefix"] is not None:
            given["path_prefix"] = "/" + given["path_prefix"].strip("/") if given["path_prefix"].strip("/") else ""
        return GatewayConfig(
            base_url=_base_url(connection),
            token=(connection.password or "").strip() or None,
            name=conn_id,
            **{name: value for name, value in given.items() if value is not None},
        )


def _base_url(connection: Connection) -> str:
    host = (connection.host or "").strip()
    if not host:
        raise ValueError("host: it is empty; give the gateway's host name or URL")
    if "://" in host:
        return host
    schema = (connection.schema or "https").strip().lower()
    if schema not in ("http", "https"):
        raise ValueError(f"schema: {schema!r} is not http or https")
    host, slash, path = host.partition("/")
    port = connection.port
    if port is not None:
        if not isinstance(port, int) or not 0 < port < 65536:
            raise ValueError(f"port: {port!r} is not a number from 1 to 65535")
        if ":" in host and not host.startswith("["):
            raise ValueError("port: it stands both in host and in port; give it once")
        host = f"{host}:{port}"
    return f"{schema}://{host}{slash}{path}"


def _extra_of(connection: Connection) -> dict[str, Any]:
    raw = connection.extra
    if not raw:
        return {}
    try:
        extra = json.loads(raw) if isinstance(raw, str) else raw
    except ValueError:
        raise ValueError("extra: it is not JSON") from None
    if not isinstance(extra, dict):
        raise ValueError("extra: it is not a JSON object")
    return extra


def _string(name: str, value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ValueError(f"extra {name}: it must be a string, not {type(value).__name__}")
    return value.strip()


def _number(name: str, value: Any) -> float | None:
    if value is None or value == "":
        return None
    if not isinstance(value, bool) and isinstance(value, int | float | str):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise ValueError(f"extra {name}: it must be a number, not {value!r}")


def _whole(name: str, value: Any) -> int | None:
    number = _number(name, value)
    if number is not None and not number.is_integer():
        raise ValueError(f"extra {name}: it must be a whole number, not {value!r}")
    return None if number is None else int(number)


def _verify(value: Any) -> bool | str | None:
    if value is None or value == "" or isinstance(value, bool):
        return None if value == "" else value
    if not isinstance(value, str):
        raise ValueError(f"extra verify: it must be true, false or the path of a CA bundle, not {value!r}")
    return {"true": True, "false": False}.get(value.strip().lower(), value.strip())


@contextmanager
def naming_the_connection(conn_id: str) -> Iterator[None]:
    """Turn what is said of a field into an error that names the connection too."""
    try:
        yield
    except ValueError as error:
        raise BifrostConfigurationError(
            f"Connection {conn_id!r} cannot work: {error}. Nothing was sent; correct the connection."
        ) from None


def no_connection(conn_id: str, error: Exception) -> BifrostConfigurationError:
    return BifrostConfigurationError(
        f"Connection {conn_id!r} cannot be had from Airflow ({error}). Nothing was sent."
        f" Create it with type 'bifrost', or set AIRFLOW_CONN_{conn_id.upper()}."
    )
