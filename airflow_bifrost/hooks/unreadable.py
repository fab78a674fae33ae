"""Why Airflow cannot read an ``AIRFLOW_CONN_...`` variable. Airflow itself only says that the connection does not exist. Pure."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from airflow_bifrost.hooks.fields import base_url, extra_of, text

_FIELDS = ("conn_id", "conn_type", "description", "host", "login", "password", "schema", "port", "extra")
_A_URI = "as a URI it looks like bifrost://:TOKEN@HOST:PORT/http?timeout=60, each part percent-encoded"


def why_unreadable(value: str) -> str:
    """The field that is wrong, or what such a variable must look like. Never shows the token."""
    try:
        if value.startswith("{"):
            _check_json(value)
            return "one of its fields has the wrong type"
        _check_uri(value)
    except ValueError as error:
        return str(error)
    return _A_URI


def _check_json(value: str) -> None:
    try:
        given = json.loads(value)
    except ValueError:
        raise ValueError("it is not JSON") from None
    if unknown := sorted(set(given) - set(_FIELDS)):
        raise ValueError(f"unknown field {unknown[0]!r}. Known fields: {', '.join(_FIELDS)}")
    connection: Any = SimpleNamespace(**{name: given.get(name) for name in _FIELDS})
    for name in ("host", "login", "password", "schema"):
        text(name, given.get(name))
    extra_of(connection)
    base_url(connection)


def _check_uri(value: str) -> None:
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018 - reading it is the check
    except ValueError:
        raise ValueError("port: it must be a number from 0 to 65535") from None
    if extra := parse_qs(parts.query).get("__extra__"):
        extra_of(cast("Any", SimpleNamespace(extra=extra[-1])))
