"""Values as JSON, exactly or not at all.

Every process must write the same bytes for the same value: a retry that writes other bytes submits a new batch and pays again. So a value
that JSON cannot hold, or that has no stable order, is an error here, before anything is uploaded.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Mapping, Set
from decimal import Decimal
from enum import Enum
from numbers import Integral
from operator import index
from typing import Any
from uuid import UUID

import msgspec
from pydantic import BaseModel

from airflow_bifrost.submission.bad_rows import shown

JsonObject = dict[str, Any]


class InexactError(ValueError):
    """A value that JSON cannot hold exactly. The text never shows the value, and continues "row 7 ...".

    :param what: the kind of value.
    :param advice: what to give instead.
    :param member: name of the member that holds the value.
    """

    def __init__(self, what: str, advice: str, member: str | None = None) -> None:
        super().__init__(f"has {what}{f' in {shown(member)}' if member is not None else ''}: {advice}")
        self.what = what
        self.advice = advice


_encoder = msgspec.json.Encoder(decimal_format="number")


def encode(value: Any) -> bytes:
    """A plain value as JSON in UTF-8.

    :raises InexactError: it has text that is not Unicode, or a number that is too long.
    """
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        raise InexactError("half of a surrogate pair", "UTF-8 cannot hold it; repair the text") from None
    except ValueError:  # Python writes no integer of more than 4,300 digits
        raise InexactError("an integer of thousands of digits", "give it as text") from None


def plain(value: Any) -> Any:
    """The value, made of text, integers, finite floats and Decimals, booleans, None, lists, and dicts with text as keys.

    Dates and times become ISO 8601, UUIDs text, enums their values, and tuples lists. Dataclasses, attrs classes, msgspec Structs and
    pydantic models become dicts of their fields. A plain value is returned unchanged.

    :raises InexactError: JSON cannot hold the value exactly, or each process would write it differently.
    :raises RecursionError: it is nested too deeply, or contains itself.
    """
    return value if _is_plain(value) else _converted(value)


_ATOMS = frozenset({str, int, bool, type(None)})


def _is_plain(value: Any) -> bool:
    """Whether the value is plain already. This runs for every row, so it only recognizes the usual case."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is dict:
        return all(type(key) is str and (type(item) in _ATOMS or _is_plain(item)) for key, item in value.items())
    if kind is list:
        return all(type(item) in _ATOMS or _is_plain(item) for item in value)
    return kind is float and math.isfinite(value)


def _converted(value: Any) -> Any:
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, str | UUID):
        return str.__str__(value) if isinstance(value, str) else str(value)
    if isinstance(value, float | Decimal):
        return _number(value)
    if isinstance(value, Integral):  # numpy's integers too
        return index(value)
    if isinstance(value, datetime.date | datetime.time):
        return _moment(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        # Only dicts: another mapping may iterate in the order of its hashes, which differs from process to process.
        return {_name(key): plain(item) for key, item in value.items()}
    if isinstance(value, Set):
        raise InexactError(
            "a set", "its order differs from process to process, so a retry would submit and pay again; give a list"
        )
    if isinstance(value, bytes | bytearray | memoryview):
        raise InexactError("bytes", "JSON has no bytes; decode them, or give the text of their base64")
    return plain(_fields(value))


def _number(value: float | Decimal) -> float | Decimal:
    if not (value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)):
        raise InexactError("NaN or an infinity", "JSON has no such number; give null, or leave it out")
    return Decimal(value) if isinstance(value, Decimal) else float.__float__(value)


def as_number(value: Decimal) -> int | float | None:
    """The integer or float with the value of this Decimal; None if a float cannot hold all of its digits."""
    if value == value.to_integral_value():
        return int(value)
    return float(value) if Decimal(repr(float(value))) == value else None


def _moment(value: datetime.date | datetime.time) -> str:
    if value != value:
        raise InexactError("NaT, which is not a date", "give null, or leave it out")
    return value.isoformat()


def _name(key: Any) -> str:
    if not isinstance(key, str):
        raise InexactError(f"a member whose name is {type(key).__name__}", "give text")
    return plain(key) if isinstance(key, Enum) else str.__str__(key)


def _fields(value: Any) -> Any:
    """The members of an object that describes its own fields."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, msgspec.Struct):
        return _struct_members(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if (attributes := getattr(type(value), "__attrs_attrs__", None)) is not None:
        return {attribute.name: getattr(value, attribute.name) for attribute in attributes}
    raise InexactError(
        f"a value of type {type(value).__name__}", "JSON has no such type; give text, numbers, lists and dicts"
    )


def _struct_members(value: msgspec.Struct) -> Any:
    """The members of a Struct under the names that it encodes, with its tag and without the defaults that it omits."""
    # Only the names are taken: msgspec would turn sets into lists, and round some times.
    written = msgspec.to_builtins(value, enc_hook=str)
    fields = dict(zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True))
    if isinstance(written, dict):
        return {name: getattr(value, fields[name]) if name in fields else tag for name, tag in written.items()}
    tag = written[: len(written) - len(fields)]  # of a Struct that writes an array
    return [*tag, *(getattr(value, name) for name in fields.values())]


def plain_members(members: Mapping[str, Any]) -> JsonObject:
    """A JSON object whose values are plain; see :func:`plain`.

    :raises InexactError: it names the member.
    """
    if type(members) is dict and _is_plain(members):
        return members
    object_: JsonObject = {}
    for key, value in members.items():
        name = _name(key)
        try:
            object_[name] = plain(value)
        except InexactError as error:
            raise InexactError(error.what, error.advice, name) from None
    return object_


def json_members(members: Mapping[str, Any]) -> JsonObject:
    """A JSON object of the types that the module ``json`` takes: :func:`plain_members`, with integers and floats for Decimals.

    :raises InexactError: it names the member.
    """
    object_: JsonObject = {}
    for name, value in plain_members(members).items():
        try:
            object_[name] = _without_decimals(value)
        except InexactError as error:
            raise InexactError(error.what, error.advice, name) from None
    return object_


def _without_decimals(value: Any) -> Any:
    if isinstance(value, Decimal):
        if (number := as_number(value)) is None:
            raise InexactError("a Decimal with more digits than a float holds", "give it as text")
        return number
    if isinstance(value, list):
        return [_without_decimals(item) for item in value]
    return {key: _without_decimals(item) for key, item in value.items()} if isinstance(value, dict) else value
