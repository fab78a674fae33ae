"""Rows that cannot be sent, and the error that names them."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.requests import CHAT, refused

from airflow_bifrost._compat import AirflowFailException
from airflow_bifrost.exceptions import BatchInputError
from airflow_bifrost.submission.parts import write_parts
from airflow_bifrost.submission.reading import read_jsonl


def test_an_input_error_is_not_retried_and_says_that_nothing_is_billed(tmp_path: Path) -> None:
    error = refused(["Hi", 7, "Hi", {"custom_id": "", "body": {}}], tmp_path)
    assert isinstance(error, AirflowFailException)
    assert pickle.loads(pickle.dumps(error)).errors == error.errors
    assert str(error) == (
        "The input was not sent because of 2 rows: row 2 is int: a row is a prompt (text), a request body or a whole batch line (dicts);"
        " row 4 has the id '': it must be a non-empty string."
        " Fix the input or the task's arguments, and run the task again. Nothing was submitted, and nothing is billed."
    )
    assert [number for number, _ in error.errors] == [2, 4]


def test_rows_that_are_wrong_for_the_same_reason_are_reported_together(tmp_path: Path) -> None:
    error = refused([7, "Hi", 8], tmp_path)
    assert "row 1 (and 1 more) is int" in str(error)
    assert len(error.errors) == 2


def test_reading_stops_at_the_twentieth_error(tmp_path: Path) -> None:
    read = []

    def rows() -> Iterator[Any]:
        for number in range(1000):
            read.append(number)
            yield {"custom_id": "x" * number + ".", "params": {}}

    error = refused(rows(), tmp_path, provider="anthropic")
    assert len(error.errors) == len(read) == 20
    assert "20 rows, where reading stopped" in str(error)
    assert "and 15 more reasons" in str(error)


def test_an_error_never_shows_a_prompt_and_shortens_ids_and_names(tmp_path: Path) -> None:
    secret = "the private prompt"
    rows = [
        f"{secret} \ud800",
        {"messages": [{"content": f"{secret} \ud800"}]},
        {"messages": [{"content": secret, "at": object()}]},
        {"custom_id": "a", "body": secret},
        {"custom_id": "i" * 500 + ".", "params": {}},
        {"custom_id": "b", "k" * 500: secret},
        {"custom_id": "c", "params": {}, "method": "m" * 500},
    ]
    error = refused(rows, tmp_path, provider="anthropic")
    told = str(error) + repr(error.errors) + repr(error.__cause__)
    assert len(error.errors) == len(rows)
    assert "private" not in told
    assert not any(letter * 81 in told for letter in "ikm")


def test_errors_of_a_file_name_the_numbers_of_its_lines(tmp_path: Path) -> None:
    file = io.BytesIO(b'"Hi"\n\n7\nnope\n')
    with pytest.raises(BatchInputError, match=r"because of 2 lines: line 3 is int.*; line 4 is not JSON") as caught:
        write_parts(read_jsonl(file), tmp_path, provider="openai", endpoint=CHAT, model="m", unit="line")
    assert [number for number, _ in caught.value.errors] == [3, 4]


@settings(deadline=None, max_examples=50)
@given(st.sets(st.integers(1, 60), min_size=1, max_size=19))
def test_errors_name_exactly_the_bad_rows(wrong: set[int]) -> None:
    rows = [7 if number in wrong else "Hi" for number in range(1, 61)]
    with TemporaryDirectory() as folder:
        assert [number for number, _ in refused(rows, Path(folder)).errors] == sorted(wrong)
