from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel, Field
from support.run_states import REQUEST, a_run

from airflow_bifrost.runs.output import schema_of
from airflow_bifrost.runs.request import RunInput, RunRequest, run_digest, sha256_of


def test_a_value_without_a_stable_order_has_no_digest() -> None:
    with pytest.raises(ValueError, match="differs from process to process"):
        sha256_of({"stop": {"a", "b"}})


def test_a_float_that_is_not_a_number_has_no_digest() -> None:
    with pytest.raises(ValueError, match="JSON has no such number"):
        sha256_of([float("nan")])


def test_a_digest_does_not_depend_on_the_order_of_members() -> None:
    one, other = (
        {"b": [1, 2.5, None, "é"], "a": {"d": True, "c": "x"}},
        {"a": {"c": "x", "d": True}, "b": [1, 2.5, None, "é"]},
    )
    assert sha256_of(one) == sha256_of(other)


def test_dates_and_decimals_have_a_digest() -> None:
    assert sha256_of([date(2026, 1, 2), Decimal("0.20")]) == sha256_of(["2026-01-02", 0.2])


def test_the_digest_of_a_run_does_not_depend_on_how_its_lines_are_split() -> None:
    one, other = RunInput("lines", 10, ["a"], [10]), RunInput("lines", 10, ["b", "c"], [5, 5])
    assert run_digest(REQUEST, one) == run_digest(REQUEST, other)
    assert run_digest(REQUEST, one) != run_digest(REQUEST, replace(one, digest="other lines"))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"metadata": {"team": "a"}}, []),
        ({"extra_form": {"storage": "b"}}, []),
        ({"model": "n"}, ["model"]),
        ({"endpoint": "/v1/embeddings", "provider": "azure"}, ["provider", "endpoint"]),
        ({"output_schema": {"type": "object"}}, ["output_type"]),
        ({"body_digest": "e"}, ["system_prompt or request_params"]),
    ],
    ids=str,
)
def test_the_arguments_in_which_two_requests_differ_are_named(changes: dict[str, Any], names: list[str]) -> None:
    other = replace(REQUEST, **changes)
    assert REQUEST.differences(other) == names
    assert (REQUEST.digest == other.digest) is (not names)


def test_a_state_survives_a_round_trip_through_json() -> None:
    state = a_run(10, 20)
    assert type(state).from_json(state.to_json()) == state


def test_a_default_that_is_computed_at_import_does_not_look_like_a_changed_request() -> None:
    def imported() -> RunRequest:
        class Answer(BaseModel):
            text: str
            id: str = str(uuid4())
            at: datetime = Field(default=datetime.now(UTC), examples=[str(uuid4())])

        return replace(REQUEST, output_schema=schema_of(Answer))

    assert imported().differences(imported()) == []
