"""The request and the ID of each row of a table, and the columns that its result carries."""

from __future__ import annotations

import datetime
import json
from collections import namedtuple
from decimal import Decimal
from typing import Any
from uuid import UUID

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_bifrost.exceptions import BatchInputError
from airflow_bifrost.submission.reading import IdentifiedRow, Unreadable
from airflow_bifrost.submission.tables.prompts import TablePrompt

ROW = {"id": 7, "review": "fine", "stars": 4.5}


def request(row: Any, prompt: Any, **options: Any) -> Any:
    [(number, made)] = TablePrompt(prompt, **options).rows([(3, row)])
    assert number == 3
    return made


def reason(row: Any, prompt: Any, **options: Any) -> str:
    made = request(row, prompt, **options)
    assert isinstance(made, Unreadable), made
    return made.reason


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("Classify: {review}", "Classify: fine"),
        ("{review} has {stars}: {review}", "fine has 4.5: fine"),
        ("{stars:.2f} and {review!r}", "4.50 and 'fine'"),
        ("no column, {{braces}}", "no column, {braces}"),
    ],
)
def test_names_in_braces_become_the_values_of_the_columns(prompt: str, text: str) -> None:
    assert request(ROW, prompt) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("007", "007"),
        (7, "7"),
        (True, "True"),
        (Decimal("0.10"), "0.10"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (["a", {"b": None}], '["a",{"b":null}]'),
    ],
)
def test_a_value_is_written_as_a_reader_expects(value: Any, text: str) -> None:
    assert request({"a": value}, "{a}") == text


@given(st.dictionaries(st.text("abc ", min_size=1), st.text(), min_size=1))
def test_a_value_is_never_read_as_a_template(row: dict[str, str]) -> None:
    prompt = "".join(f"[{{{name}}}]" for name in row)
    made = request(row, prompt)
    if any(row.values()):
        assert made == "".join(f"[{value}]" for value in row.values())
    else:
        assert "is empty in" in made.reason


@pytest.mark.parametrize("null", [None, float("nan"), Decimal("NaN"), pandas.NA, pandas.NaT])
def test_a_row_without_a_value_is_an_error_and_not_a_prompt_about_none(null: Any) -> None:
    assert reason({"review": null}, "Classify: {review}") == "has no value in the column 'review'"


def test_bytes_are_an_error_and_not_their_repr() -> None:
    assert "has bytes in the column 'review'" in reason({"review": b"fine"}, "{review}")


def test_a_column_that_the_table_does_not_have_is_an_error_that_lists_the_columns() -> None:
    for options in (
        {"prompt": "{reviews}"},
        {"prompt": "{review}", "id_column": "reviews"},
        {"prompt": "{review}", "keep": ["reviews"]},
    ):
        argument = next(name for name, value in options.items() if "reviews" in value)
        with pytest.raises(BatchInputError, match=rf"no column 'reviews', which `{argument}`.*'review', 'stars'"):
            TablePrompt(**options, columns=["review", "stars"])  # type: ignore[arg-type]


def test_a_row_that_lacks_a_column_is_an_error_that_lists_its_columns() -> None:
    assert reason(ROW, "{other}") == "has no column 'other': it has 'id', 'review', 'stars'"


@pytest.mark.parametrize("prompt", ["{review", "review}", "{}", "{!x"])
def test_a_malformed_template_is_an_error_that_shows_how_to_write_one(prompt: str) -> None:
    with pytest.raises(BatchInputError, match="The template in `prompt` is malformed"):
        TablePrompt(prompt)


def test_attributes_and_items_of_a_value_are_out_of_reach() -> None:
    assert "has no column 'review.__class__'" in reason(ROW, "{review.__class__}")
    assert "has no column 'review[0]'" in reason(ROW, "{review[0]}")


@pytest.mark.parametrize("made", ["Classify: fine", {"messages": [{"role": "user", "content": "fine"}]}])
def test_a_function_makes_a_prompt_or_a_body_of_a_row(made: Any) -> None:
    assert request(ROW, lambda row: made if row == ROW else None) == made


def test_a_function_that_makes_something_else_is_an_error_of_its_row() -> None:
    assert "got NoneType from `prompt`" in reason(ROW, lambda row: None)


def test_an_error_in_a_function_names_the_row_and_that_nothing_was_sent() -> None:
    with pytest.raises(KeyError) as error:
        request(ROW, lambda row: row["missing"])
    assert error.value.__notes__ == [
        "`prompt` failed for row 3 of the table. Nothing was submitted, and nothing is billed."
    ]


@pytest.mark.parametrize("row", [(1, "fine"), [1, "fine"]])
def test_the_columns_of_a_row_without_names_are_numbered_from_0(row: Any) -> None:
    assert request(row, "{1}", id_column="0") == IdentifiedRow("1", "fine")


def test_a_named_tuple_has_the_names_of_its_fields() -> None:
    assert request(namedtuple("Review", "id review")(1, "fine"), "{review}") == "fine"


@pytest.mark.parametrize("row", ["text", 7, None, b"x"])
def test_with_a_prompt_a_row_without_columns_is_an_error(row: Any) -> None:
    assert f"is {type(row).__name__}: with `prompt`" in reason(row, "{a}")


@pytest.mark.parametrize(("value", "custom_id"), [("a-1", "a-1"), (7, "7"), (UUID(int=7), str(UUID(int=7)))])
def test_the_id_column_gives_the_row_its_id(value: Any, custom_id: str) -> None:
    assert request({"id": value, "a": "x"}, "{a}", id_column="id") == IdentifiedRow(custom_id, "x")


@pytest.mark.parametrize("value", [None, "", 7.0, True, float("nan"), ["a"]])
def test_an_id_that_is_neither_text_nor_a_whole_number_is_an_error(value: Any) -> None:
    assert "which `id_column` names: an ID is text, a whole number or a UUID" in reason(
        {"id": value, "a": "x"}, "{a}", id_column="id"
    )


def test_carried_columns_are_kept_for_each_row_that_is_sent_and_for_no_other() -> None:
    kept: list[bytes] = []
    rows = [
        {"a": "x", "day": datetime.date(2026, 1, 2), "n": float("nan")},
        {"a": None, "day": 1, "n": 1},
        {"a": "y", "day": None, "n": 2},
    ]
    list(TablePrompt("{a}", keep=["day", "n"]).rows(enumerate(rows), kept.append))
    assert [json.loads(line) for line in kept] == [{"day": "2026-01-02", "n": None}, {"day": None, "n": 2}]


def test_a_carried_value_that_json_cannot_hold_is_an_error_of_its_row() -> None:
    assert "has bytes in the column 'b', which `keep` names" in reason({"a": "x", "b": b"x"}, "{a}", keep=["b"])


def test_an_unreadable_row_stays_unreadable() -> None:
    assert reason(Unreadable("is not JSON"), "{a}") == "is not JSON"
