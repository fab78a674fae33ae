from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.run_states import REQUEST, a_part, a_run

from airflow_bifrost.runs.begin import beginning, new_run, uncovered
from airflow_bifrost.runs.events import LinesLost, Submitted
from airflow_bifrost.runs.request import RunInput, RunPolicy
from airflow_bifrost.runs.state import RunState

BEFORE = a_run(10)
SAME = BEFORE.input
OTHER_ROWS = replace(SAME, digest="other lines")
OTHER_REQUEST = replace(REQUEST, model="other")
SENT = BEFORE.after(Submitted(1, "b1"))
WRITTEN = replace(SENT, written={"rows": {"cancelled": 0}})
CANCELLED = replace(SENT, written={"rows": {"cancelled": 3}})


@pytest.mark.parametrize(
    ("before", "known", "changes", "expected"),
    [
        (None, SAME, {}, "new"),
        (BEFORE, SAME, {}, "go_on"),
        (BEFORE, None, {}, "go_on"),
        (BEFORE, None, {"begun": False}, "new"),
        (BEFORE, OTHER_ROWS, {}, "new"),
        (WRITTEN, SAME, {}, "as_written"),
        (WRITTEN, None, {}, "as_written"),
        (WRITTEN, SAME, {"intact": False}, "go_on"),
        (CANCELLED, SAME, {}, "go_on"),
        (BEFORE, SAME, {"request": OTHER_REQUEST}, "go_on_stopped"),
        (BEFORE, None, {"request": OTHER_REQUEST}, "go_on_stopped"),
        (BEFORE, OTHER_ROWS, {"request": OTHER_REQUEST}, "go_on_stopped"),
        (BEFORE, OTHER_ROWS, {"request": OTHER_REQUEST, "on_changed_request": "continue"}, "go_on"),
        (BEFORE, SAME, {"request": OTHER_REQUEST, "begun": False}, "new"),
        (BEFORE, SAME, {"request": OTHER_REQUEST, "wait_id": 1}, "new"),  # the task was cleared
        (WRITTEN, SAME, {"request": OTHER_REQUEST}, "new"),
    ],
)
def test_an_attempt_continues_an_earlier_run_or_starts_a_new_one(
    before: RunState | None, known: RunInput | None, changes: dict[str, Any], expected: str
) -> None:
    given = {"request": REQUEST, "begun": True, "intact": True, "wait_id": 0, "on_changed_request": "fail"} | changes
    assert beginning(before, given.pop("request"), known, **given) == expected


def begun_after(before: RunState | None, known: RunInput, size: int) -> RunState:
    parts = [a_part(1, size, 0), a_part(2, known.rows - size, size)]
    rest = {"folder": "f", "output_path": "o", "attempt": 2, "wait_id": 0, "now": 1.0}
    return new_run(before, REQUEST, known, parts, RunPolicy(), **rest)


def test_rows_of_an_earlier_input_keep_their_parts_even_if_the_limits_have_changed() -> None:
    first = begun_after(None, SAME, 4)
    other = begun_after(first, OTHER_ROWS, 5)
    back = begun_after(other, SAME, 7)
    assert [part.rows for part in back.parts] == [4, 6]
    assert list(back.earlier) == [other.digest]


def test_rows_of_an_earlier_input_keep_the_parts_of_their_later_rounds_which_may_be_paid_for() -> None:
    first = begun_after(None, SAME, 4)
    resent = a_part(3, 2, None, round=2, batch_id="b3", attempt=2)
    other = begun_after(replace(first, parts=[*first.parts, resent]), OTHER_ROWS, 5)
    assert begun_after(other, SAME, 7).parts == [*first.parts, resent.unsent()]


def test_rows_of_an_earlier_input_keep_their_parts_even_if_others_were_lost() -> None:
    first = begun_after(None, SAME, 4)
    other = begun_after(first.after(LinesLost([2])), OTHER_ROWS, 5)
    back = begun_after(other, SAME, 7)
    assert back.parts == first.parts[:1]
    assert uncovered(back.parts, SAME.rows) == [(4, 6)]


def test_rows_that_are_in_no_part_are_found() -> None:
    parts = [a_part(1, 2, 3), a_part(2, 2, 7), a_part(3, 4, None)]
    assert uncovered(parts, 12) == [(0, 3), (5, 2), (9, 3)]
    assert uncovered([a_part(1, 12, 0)], 12) == []
