"""Turns bytes into lines, and lines into JSON types. Files may be large and may hold invalid JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import IO, Any

import msgspec

CHUNK = 2**18  # bytes to read at once
MAX_LINE = 2**27  # bytes of a line of results; an answer of 2048 embeddings has 100 MB

_ID = re.compile(rb'"(?:custom_id|recordId|key)"\s*:\s*"([^"\\\\]{1,100})"')
_ID_WITHIN = 4096  # bytes; most lines begin with it


class TooLong(ValueError):
    """A line, or a native value, is longer than any result of a row.

    :param what: ``line`` or ``value``.
    :param begin: its beginning, which may have the row's ID.
    :param most: the largest size that is accepted.
    """

    def __init__(self, what: str, begin: bytes, most: str) -> None:
        found = _ID.search(begin[:_ID_WITHIN])
        of_row = f" of row {found[1].decode(errors='replace')!r}" if found else ""
        super().__init__(f"the {what}{of_row} has more than {most}")


def chunks_of(file: IO[bytes]) -> Iterator[bytes]:
    """The rest of an open file."""
    return iter(partial(file.read, CHUNK), b"")


def lines_in(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of an open file, without their ends. Faster than iterating over a file that is not local."""
    return lines_of(chunks_of(file))


def lines_of(chunks: Iterable[bytes], max_line: int | None = None) -> Iterator[bytes]:
    """The lines of a file that arrives in chunks, split at any byte. The lines have no line ends.

    Only a newline ends a line: other line separators are ordinary text within JSON.

    :param max_line: bytes of the longest line; None: any.
    :raises TooLong: a line has more.
    """
    begun: list[bytes] = []
    size = 0
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        begun.append(first)
        size += len(first)
        if max_line is not None and size > max_line:
            raise TooLong("line", b"".join(begun[:2]), f"{max_line:,} bytes")
        if others:
            yield b"".join(begun)
            yield from others[:-1]
            begun = others[-1:]
            size = len(begun[0])
    if last := b"".join(begun):
        yield last


def parse_line(line: bytes) -> Any:
    """A line as JSON types. Values that JSON cannot hold are converted, see :func:`parse_untidy`.

    :raises ValueError: the line is not JSON, or nested too deep to be read.
    """
    try:
        return msgspec.json.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # the first is no ValueError before msgspec 0.22
        return parse_untidy(line)


def read_line(line: bytes) -> Any:
    """A line as JSON types; None, which is not a result, if the line is not JSON."""
    try:
        return parse_line(line)
    except ValueError:
        return None


def parse_untidy(text: bytes | str) -> Any:
    """Text as JSON types. A number that JSON cannot hold becomes a string: ``"NaN"``, ``"-Infinity"``, ``"1e999"``.

    Lone surrogates are replaced, because they cannot be encoded.

    :raises ValueError: the text is not JSON, or nested too deep to be read.
    """
    try:
        value = json.loads(text, parse_constant=str, parse_float=float_or_text)
        if _may_have_halves(text):
            value = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    except RecursionError:
        raise ValueError("nested too deep") from None
    return value


def float_or_text(number: str) -> float | str:
    """A JSON number as a float; as its text if it is outside a float's range."""
    value = float(number)
    return number if math.isinf(value) else value


def finite(value: Any) -> Any:
    """The value with each float that JSON cannot hold replaced by a string: ``"NaN"``, ``"Infinity"`` or ``"-Infinity"``."""
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    if isinstance(value, dict):
        return {name: finite(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [finite(member) for member in value]
    return value


def well_formed(value: Any) -> Any:
    """The value with lone surrogates replaced, because they cannot be encoded."""
    if isinstance(value, str) and value.isascii():
        return value
    return parse_untidy(json.dumps(value))


def _may_have_halves(text: bytes | str) -> bool:
    escapes = (b"\\ud", b"\\uD") if isinstance(text, bytes) else ("\\ud", "\\uD")
    return any(escape in text for escape in escapes)  # type: ignore[operator]
