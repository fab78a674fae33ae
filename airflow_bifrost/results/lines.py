"""Bytes -> lines -> JSON types, of files that may be large and need not be clean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import IO, Any

import msgspec

from airflow_bifrost.gateway.models import read_json

CHUNK = 2**18  # bytes that are read at a time


def chunks_of(file: IO[bytes]) -> Iterator[bytes]:
    """The rest of an open file."""
    return iter(partial(file.read, CHUNK), b"")


def lines_in(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of an open file, without their ends. Faster than the file's own way to them, where it is no local one."""
    return lines_of(chunks_of(file))


def lines_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a file that comes in chunks, cut anywhere; without their ends.

    Only a newline ends one: what else separates lines elsewhere is text within JSON.
    """
    begun: list[bytes] = []
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        begun.append(first)
        if others:
            yield b"".join(begun)
            yield from others[:-1]
            begun = others[-1:]
    if last := b"".join(begun):
        yield last


def parse_line(line: bytes) -> Any:
    """A line as JSON types: as :func:`read_json` reads it, many times faster where it is clean.

    :raises ValueError: it is no JSON, or nested too deep to be read.
    """
    try:
        return msgspec.json.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # the first is no ValueError before msgspec 0.22
        return read_json(line)  # takes NaN and halves of surrogate pairs
