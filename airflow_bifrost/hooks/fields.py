"""The fields of an Airflow connection, whatever form they have. Pure; each ``ValueError`` names the field."""

from __future__ import annotations

import json
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Connection

_HIGHEST_PORT = 65_535


def base_url(connection: Connection) -> str:
    """From ``host``, ``schema`` and ``port``. A full URL in ``host`` takes precedence."""
    host = text("host", connection.host)
    if host is None:
        raise ValueError("host: it is empty. Enter the gateway's host name or URL.")
    if "://" in host:
        return host
    schema = (text("schema", connection.schema) or "https").lower()
    if schema not in ("http", "https"):
        raise ValueError(f"schema: it must be http or https, not {schema!r}")
    host, slash, path = host.partition("/")
    if _is_ipv6(host):
        host = f"[{host}]"
    port = whole("port", connection.port)
    if port is not None:
        if not 0 < port <= _HIGHEST_PORT:
            raise ValueError(f"port: it must be a number from 1 to {_HIGHEST_PORT}, not {port}")
        if ":" in host.rpartition("]")[2]:
            raise ValueError("port: both host and port contain it. Enter it once.")
        host = f"{host}:{port}"
    return f"{schema}://{host}{slash}{path}"


def _is_ipv6(host: str) -> bool:
    """Whether it is an IPv6 address without brackets: Airflow removes those of ``[::1]`` in a URI."""
    try:
        return bool(IPv6Address(host))
    except ValueError:
        return False


def extra_of(connection: Connection) -> dict[str, Any]:
    """The JSON object in ``extra``."""
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


def text(name: str, value: Any) -> str | None:
    """The text without surrounding whitespace; None if it is empty."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"{name}: it must be a string, not {type(value).__name__}")
    return value.strip() or None


def number(name: str, value: Any) -> float | None:
    """A number, or a string that holds one."""
    if value is None or value == "":
        return None
    if not isinstance(value, bool) and isinstance(value, int | float | str):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise ValueError(f"{name}: it must be a number, not {value!r}")


def whole(name: str, value: Any) -> int | None:
    """An integer, or a string that holds one."""
    given = number(name, value)
    if given is not None and not given.is_integer():
        raise ValueError(f"{name}: it must be an integer, not {value!r}")
    return None if given is None else int(given)


def verify(value: Any) -> bool | str | None:
    """True, False, or the path of a CA bundle."""
    if isinstance(value, bool):
        return value
    if value is not None and not isinstance(value, str):
        raise ValueError(f"extra verify: it must be true, false or the path of a CA bundle, not {value!r}")
    given = text("extra verify", value)
    return {"true": True, "false": False}.get(given.lower(), given) if given else None


def switch(name: str, value: Any) -> bool | None:
    """A boolean, or a string that holds one."""
    given = (
        {"true": True, "false": False}.get(str(value).strip().lower()) if value is not None and value != "" else None
    )
    if given is None and value is not None and value != "":
        raise ValueError(f"{name}: it must be true or false, not {value!r}")
    return given
