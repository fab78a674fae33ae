"""Reads members of JSON objects from servers: a member of the wrong type counts as absent. Pure."""

from __future__ import annotations

from typing import Any

JsonObject = dict[str, Any]

MAX_NUMBER = 2**53  # many JSON readers cannot represent larger integers exactly, so these are not counts


def object_of(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}


def list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def text_of(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def number_of(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_NUMBER else None


def word_of(value: Any) -> str | None:
    """A code, which some servers send as a number."""
    return str(value) if number_of(value) is not None else text_of(value)
