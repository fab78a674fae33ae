"""Reads rows from an iterable or from the lines of a JSONL file."""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from airflow_bifrost.submission.bad_rows import input_error

RowNumber = int | str  # how errors refer to a row: by its number, or by its number and its file


class IdentifiedRow(NamedTuple):
    """A prompt or a request body with its ID."""

    custom_id: str
    row: Any


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for a row whose line cannot be read.

    :param reason: continues "line 7 ...".
    """

    reason: str


def numbered(rows: Any) -> Iterator[tuple[int, Any]]:
    """Rows with their numbers, from 1.

    :raises ValueError: this is not an iterable of rows.
    :raises BatchInputError: the rows have no stable order.
    """
    if rows is None or isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise ValueError(
            f"rows must be a list of prompts, bodies or batch lines, not {type(rows).__name__}; for a JSONL file use input_path"
        )
    if isinstance(rows, Set):
        raise input_error(
            f"The rows come as {type(rows).__name__}, whose order differs from process to process, so a retry would submit and pay again.",
            "Give a list: sorted(rows), or one in any fixed order.",
        )
    return enumerate(rows, 1)


def read_jsonl(lines: Iterable[bytes]) -> Iterator[tuple[int, Any]]:
    """The rows of a JSONL file with the numbers of their lines, from 1. Blank lines and a byte order mark are skipped.

    A line that is not JSON in UTF-8 becomes an :class:`Unreadable`, so that one error can report all such lines.

    :param lines: with or without line endings.
    """
    for number, line in enumerate(lines, 1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if line and not line.isspace():
            yield number, read_row(line)


def read_row(line: bytes) -> Any:
    """The row of a line; :class:`Unreadable` if the line is not JSON in UTF-8. A number that a float would round becomes a Decimal."""
    try:
        return _decode(line)
    except UnicodeDecodeError:
        return Unreadable("is not UTF-8")
    except _OutOfRangeError:
        return Unreadable("has a number beyond the range of a 64-bit float")
    except msgspec.DecodeError as error:
        return Unreadable(f"is not JSON: {error}")
    except RecursionError:
        return Unreadable("is nested too deeply")


class _OutOfRangeError(Exception):
    """A number that receivers cannot represent."""


def _number(text: str) -> float | Decimal:
    value = float(text)
    if repr(value) == text:
        return value
    if not math.isfinite(value):
        raise _OutOfRangeError
    exact = Decimal(text)
    return value if Decimal(repr(value)) == exact else exact


_decode = msgspec.json.Decoder(float_hook=_number).decode
