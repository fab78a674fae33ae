"""Reads single values that a server sent. The server is not trusted: a value of the wrong type counts as absent, texts are printable and
bounded, and anything like a key in them is masked."""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import Annotated, Any

import pendulum
from pydantic import BeforeValidator, Field, PlainSerializer

from airflow_bifrost.gateway.redact import quote, without_token

# What a server may send within the largest answer, so that reading it takes neither long nor much memory
MAX_VALUES = 250_000  # of an answer
MAX_ENTRIES = 10_000  # of a page; some lists have no pages
MAX_MEMBERS = 64  # of an object whose members this package does not know
MAX_ERRORS = 100  # of a batch, which may have an error for each row
MAX_WORD = 100  # characters of a status, an error code and the like
MAX_MESSAGE = 500  # characters
MAX_ADDRESS = 4096  # characters of an ID, a cursor or a URL
MAX_WORDS = 4000  # characters of an error's message, before it is shortened


def read_json(body: bytes, *, token: str | None = None, max_values: int | None = MAX_VALUES) -> Any:
    """``body`` as JSON types. NaN and Infinity, which JSON does not have, become None; what is not UTF-8 is replaced.

    :param token: the connection's token, masked wherever the server repeats it.
    :param max_values: more members and entries than this are an error.
    :raises ValueError: it is not JSON, nested too deeply, or has too many values.
    """
    text = body.removeprefix(BOM_UTF8).decode(errors="replace")
    if max_values is not None and text.count(",") > max_values:
        raise ValueError(f"it has more than {max_values} values")
    try:
        if "\\u" in text or (token and "\\/" in text):
            # Perhaps half of a surrogate pair, which cannot be encoded, stored or shown; or the token, written with escapes
            text = json.dumps(_parsed(text), ensure_ascii=False).encode(errors="replace").decode()
        return _parsed(without_token(text, token))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _parsed(text: str) -> Any:
    return json.loads(text, parse_constant=lambda _: None)


def _words(value: Any) -> str | None:
    """A text that is shortened and masked before it is shown."""
    return value[:MAX_WORDS] if isinstance(value, str) and value else None


def _message(value: Any) -> str | None:
    return quote(value, MAX_MESSAGE - 1) if isinstance(value, str) and value else None


def _name(value: Any) -> str | None:
    """A word that is compared and shown: on one line, bounded, with anything like a key masked."""
    return _quoted(value[: 4 * MAX_WORD]) or None if isinstance(value, str) else None


@lru_cache(maxsize=256)
def _quoted(name: str) -> str:
    return quote(name, MAX_WORD - 1)


def address(value: Any) -> str | None:
    """The complete value or None, because a shortened one would name something else."""
    return value if isinstance(value, str) and value and len(value) <= MAX_ADDRESS and value.isprintable() else None


def _url(value: Any) -> str | None:
    return (text := address(value)) and quote(text, MAX_ADDRESS)


def _given_name(value: Any) -> Any:
    """A name that is required. If nothing of it can be shown, it becomes unknown instead of absent."""
    return _name(value) or "?" if isinstance(value, str) and value else value


def _given_id(value: Any) -> Any:
    """An ID that is required, so a wrong one is an error instead of absent."""
    if isinstance(value, str) and value and address(value) is None:
        raise ValueError("too long, or not printable")
    return value


def word(value: Any) -> str | None:
    """A name that some servers send as a number."""
    return str(value)[:MAX_WORD] if isinstance(value, int) and not isinstance(value, bool) else _name(value)


def count(value: Any) -> int | None:
    """A whole number that is not negative, also as text."""
    if (isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}", value)) or (
        isinstance(value, float) and value.is_integer()
    ):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < 2**63 else None


def _time(value: Any) -> pendulum.DateTime | None:
    """Unix seconds, or ISO 8601 as some servers send it, as an aware time in UTC. 0 means unknown."""
    if isinstance(value, datetime):
        return pendulum.instance(value)
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not value:
        return None
    try:
        seconds = float(value)
        return pendulum.from_timestamp(seconds) if seconds > 0 else None
    except (OverflowError, OSError):
        return None
    except ValueError:
        return _iso_time(str(value))


def _iso_time(text: str) -> pendulum.DateTime | None:
    try:
        return pendulum.instance(datetime.fromisoformat(text)).in_timezone("UTC")
    except (ValueError, OverflowError):
        return None


def _mapping(value: Any) -> dict[str, Any] | None:
    return dict(islice(value.items(), MAX_MEMBERS)) if isinstance(value, dict) and value else None


def _metadata(value: Any) -> dict[str, Any] | None:
    """Pairs of short texts, which is all that a provider stores."""
    if not isinstance(value, dict) or not value:
        return None
    pairs = {}
    for key, item in islice(value.items(), MAX_MEMBERS):
        if isinstance(item, str):
            item = _without_controls(item[:MAX_ADDRESS])
        elif isinstance(item, dict | list):
            item = "…"
        pairs[_without_controls(key[:MAX_WORD])] = item
    return pairs


def _without_controls(text: str) -> str:
    """Line breaks and tabs stay, because these are the user's own texts."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c in "\t\n" else " " for c in text)


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def more_pages(value: Any) -> bool | None:
    """``has_more`` of a page. A value that is neither true nor false nor absent counts as true, because ending a list too early would hide batches."""
    return value if isinstance(value, bool) or value is None else True


Words = Annotated[str | None, BeforeValidator(_words)]
Name = Annotated[str | None, BeforeValidator(_name)]
Message = Annotated[str | None, BeforeValidator(_message)]
Id = Annotated[str | None, BeforeValidator(address)]
Url = Annotated[str | None, BeforeValidator(_url)]
GivenName = Annotated[str, Field(min_length=1), BeforeValidator(_given_name)]
GivenId = Annotated[str, Field(min_length=1), BeforeValidator(_given_id)]
Metadata = Annotated[dict[str, Any] | None, BeforeValidator(_metadata)]
Word = Annotated[str | None, BeforeValidator(word)]
Count = Annotated[int | None, BeforeValidator(count)]
Time = Annotated[
    pendulum.DateTime | None,
    BeforeValidator(_time),
    PlainSerializer(lambda time: time and time.to_iso8601_string(), return_type=str | None, when_used="json"),
]
Mapping = Annotated[dict[str, Any] | None, BeforeValidator(_mapping)]
Flag = Annotated[bool | None, BeforeValidator(_flag)]
