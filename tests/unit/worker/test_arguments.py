"""Arguments of operators, checked when the task runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_bifrost.providers.statuses import Outcome
from airflow_bifrost.worker.arguments import OUTCOMES, batch_ids_of, checked_accept, provider_of, seconds_of


def test_one_id_is_a_list_of_one() -> None:
    assert batch_ids_of("batch_1") == ["batch_1"]


@pytest.mark.parametrize("ids", [["a", "b"], ("a", "b"), iter(["a", "b"])], ids=["list", "tuple", "iterable"])
def test_any_iterable_of_ids_is_accepted_and_keeps_its_order(ids: Any) -> None:
    assert batch_ids_of(ids) == ["a", "b"]


@pytest.mark.parametrize("value", [None, "None"], ids=["None", "None as rendered text"])
def test_the_error_says_that_no_task_pushed_the_id(value: Any) -> None:
    with pytest.raises(ValueError, match="batch_id is None"):
        batch_ids_of(value)


def test_the_error_says_that_no_task_pushed_the_provider() -> None:
    with pytest.raises(ValueError, match="provider is None"):
        provider_of("None")


@pytest.mark.parametrize(("value", "provider"), [(None, None), ("", None), ("azure", "azure")])
def test_without_a_provider_the_connection_decides(value: Any, provider: str | None) -> None:
    assert provider_of(value) == provider


def test_a_list_that_jinja_rendered_to_text_is_not_taken_for_an_id() -> None:
    with pytest.raises(ValueError, match="render_template_as_native_obj"):
        batch_ids_of("['batch_1', 'batch_2']")


def test_a_bad_id_in_a_list_is_named_by_its_index() -> None:
    with pytest.raises(ValueError, match=r"batch_id\[1\]"):
        batch_ids_of(["batch_1", "batch/2"])


@pytest.mark.parametrize("value", [7, {"id": "b"}, b"batch_1"])
def test_a_value_that_is_not_an_id_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="must be a string"):
        batch_ids_of(value)


def test_accept_takes_exactly_the_outcomes_that_exist() -> None:
    assert tuple(str(outcome) for outcome in Outcome) == OUTCOMES


def test_an_unknown_outcome_is_refused() -> None:
    with pytest.raises(ValueError, match="'completed'"):
        checked_accept(["completed"])


def test_a_single_string_is_refused_as_a_collection_of_outcomes() -> None:
    with pytest.raises(ValueError, match="collection"):
        checked_accept("failed")


@pytest.mark.parametrize(("value", "seconds"), [(5, 5.0), (0.5, 0.5), (timedelta(minutes=2), 120.0)])
def test_a_duration_is_a_number_of_seconds_or_a_timedelta(value: Any, seconds: float) -> None:
    assert seconds_of("timeout", value) == seconds


@pytest.mark.parametrize("value", [-1, "60", None, True, float("nan"), timedelta(seconds=-1)])
def test_a_value_that_is_not_a_duration_is_refused_and_the_argument_is_named(value: Any) -> None:
    with pytest.raises(ValueError, match="timeout"):
        seconds_of("timeout", value)
