"""What goes out is what was given: a value that JSON cannot hold exactly is an error before anything is sent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from numbers import Integral
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

import attrs
import msgspec
import pendulum
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from support.requests import line_of, reason, refused, write

from airflow_bifrost.exceptions import BatchInputError
from airflow_bifrost.submission.reading import read_jsonl


class Color(Enum):
    RED = "red"
    ODD = 7


class Level(IntEnum):
    HIGH = 3


class Word(StrEnum):
    YES = "yes"


@dataclass
class Point:
    x: Any
    _private: Any = 1


@attrs.frozen
class Size:
    width: Any


class Box(msgspec.Struct, rename="camel", omit_defaults=True):
    inner_value: Any
    left_out: int = 0


class Tagged(msgspec.Struct, tag="t"):
    value: Any


class Row(msgspec.Struct, array_like=True, tag=True):
    value: Any


class Model(BaseModel):
    value: Any


class Pair(NamedTuple):
    left: Any
    right: Any = None


# an offset with seconds, as local mean times have
ODD_TIME = datetime(1900, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=53, seconds=28)))


class NoJSONError(Exception):
    """JSON has no such value."""


def as_json(value: Any) -> Any:
    """What an exact JSON decoder must find; :class:`NoJSONError` where JSON has no such value."""
    match value:
        case Enum():
            return as_json(value.value)
        case str():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise NoJSONError from None
            return value
        case None | bool() | int():
            return value
        case float() | Decimal():
            if not Decimal(value).is_finite():
                raise NoJSONError
            return Decimal(repr(value)) if isinstance(value, float) else value
        case datetime() | date() | time():
            return value.isoformat()
        case UUID():
            return str(value)
        case list() | tuple():
            return [as_json(item) for item in value]
        case dict():
            if not all(isinstance(name, str) for name in value):
                raise NoJSONError
            return {as_json(name): as_json(item) for name, item in value.items()}
    raise NoJSONError


def sent(value: Any) -> Any:
    """A member of a body as it goes out, its numbers exact."""
    with TemporaryDirectory() as folder:
        (part,) = write([{"messages": [], "x": value}], Path(folder))
        return json.loads(part.path.read_bytes(), parse_float=Decimal)["body"]["x"]


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=5)  # halves of surrogate pairs too
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.decimals()
    | ANY_TEXT
    | st.binary(max_size=3)
    | st.dates()
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.uuids()
    | st.sampled_from([Color.RED, Color.ODD, Level.HIGH, Word.YES, timedelta(1), 1j, range(3), object()])
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.frozensets(st.integers(), max_size=3)
        | st.dictionaries(ANY_TEXT | st.integers() | st.just(Word.YES), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(deadline=None, max_examples=300)
@given(VALUES)
@example(Decimal("0.2"))
@example(Decimal("0.1000000000000000055511151231257827"))
@example(Decimal("1E+400"))
@example([Decimal("NaN")])
@example({"at": ODD_TIME})
def test_what_goes_out_is_what_was_given_or_nothing_goes_out(value: Any) -> None:
    try:
        expected = as_json(value)
    except NoJSONError:
        with pytest.raises(BatchInputError):
            sent(value)
    else:
        assert sent(value) == expected


@pytest.mark.parametrize(
    ("value", "json_value"),
    [
        (Point(Decimal("0.20")), {"x": Decimal("0.20"), "_private": 1}),
        (Size(date(2026, 1, 2)), {"width": "2026-01-02"}),
        (Box([Color.RED]), {"innerValue": ["red"]}),
        (Box(Decimal("0.20")), {"innerValue": Decimal("0.20")}),
        (Box(ODD_TIME, left_out=1), {"innerValue": ODD_TIME.isoformat(), "leftOut": 1}),
        (Box([Point(1)]), {"innerValue": [{"x": 1, "_private": 1}]}),
        (Tagged(Model(value=1)), {"type": "t", "value": {"value": 1}}),
        (Row(Decimal("0.20")), ["Row", Decimal("0.20")]),
        (Model(value=time(1, 2, 3)), {"value": "01:02:03"}),
        (Pair(UUID(int=7)), ["00000000-0000-0000-0000-000000000007", None]),
        (pendulum.datetime(2026, 1, 2), "2026-01-02T00:00:00+00:00"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (type("text", (str,), {})("Hi"), "Hi"),
        (type("number", (float,), {})(0.5), Decimal("0.5")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_object_goes_out_as_its_fields(value: Any, json_value: Any) -> None:
    assert sent(value) == json_value
    assert sent([{"deep": value}]) == [{"deep": json_value}]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"b", "a"}, "has a set in 'x': its order differs from process to process"),
        (frozenset("a"), "has a set"),
        ({"a": 1}.keys(), "has a set"),
        (float("nan"), "has NaN or an infinity"),
        (-float("inf"), "has NaN or an infinity"),
        (Decimal("sNaN"), "has NaN or an infinity"),
        (b"secret", "has bytes"),
        (bytearray(b"secret"), "has bytes"),
        ({1: "secret"}, "has a member whose name is int"),
        (10**5000, "has an integer of thousands of digits"),
        (timedelta(1), "has a value of type timedelta"),
        (MappingProxyType({"a": 1}), "has a value of type mappingproxy"),
        (msgspec.Raw(b"secret"), "has a value of type Raw"),
        (iter(["secret"]), "has a value of type"),
        ("secret \ud800", "has half of a surrogate pair"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_json_cannot_hold_is_an_error_wherever_it_is(value: Any, said: str, tmp_path: Path) -> None:
    model = Model.model_construct(value=value)
    for given_value in (
        value,
        [[value]],
        {"in": value},
        Point(value),
        Size(value),
        Box(value),
        Row(value),
        Pair(value),
        model,
    ):
        text = reason({"messages": [], "x": given_value}, tmp_path)
        assert said in text
        assert "secret" not in text


@pytest.mark.parametrize("value", [{"b", "a"}, float("nan"), b"secret", "secret \ud800"])
def test_request_params_and_system_prompt_are_held_to_the_same(value: Any, tmp_path: Path) -> None:
    for options in ({"request_params": {"x": value}}, {"system_prompt": value}):
        error = refused(["Hi"], tmp_path, **options)
        assert str(error).startswith("What every request is given (`model`, `system_prompt`")
        assert "nothing is billed" in str(error)
        assert "secret" not in str(error)


class NumpyInteger:
    """Like numpy.int64: an integer that is not an int."""

    def __index__(self) -> int:
        return 2**62


class NotATime(datetime):
    """Like pandas.NaT: a datetime that equals nothing."""

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    __hash__ = datetime.__hash__


def test_other_libraries_integers_go_out_exactly_and_their_missing_times_not_at_all(tmp_path: Path) -> None:
    Integral.register(NumpyInteger)
    assert sent([NumpyInteger()]) == [2**62]
    assert "has NaT" in reason({"messages": [], "x": NotATime(2026, 1, 2)}, tmp_path)


NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)


@settings(deadline=None)
@given(NUMBERS)
@example("0.1000000000000000055511151231257827")
@example("1e-400")
@example("123456789012345678901234567890")
def test_a_number_in_a_file_goes_out_as_the_same_number(number: str) -> None:
    ((_, row),) = read_jsonl([b'{"messages": [], "x": %b}' % number.encode()])
    assert Decimal(sent(row["x"])) == Decimal(number)


def test_plain_rows_go_out_without_a_copy_of_their_form(tmp_path: Path) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "n": 1, "t": 0.5, "s": None, "b": True}
    assert line_of(body, tmp_path)["body"] == body
