"""Whether the results that were read are complete: a pure decision from the batch's counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_bifrost import providers
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.results.completeness import (
    Promise,
    Taken,
    promise_of_all,
    promise_of_errors,
    promise_of_output,
)

OPENAI = providers.get("openai")


def batch(status: str = "completed", **counts: int) -> Batch:
    return Batch.model_validate({"id": "b1", "status": status, "request_counts": counts})


MIXED = batch(total=10, completed=7, failed=3)
NO_COUNTS = batch(total=0, completed=0, failed=0)


def test_fewer_results_than_counted_are_a_flaw_and_as_many_as_counted_are_not() -> None:
    assert promise_of_output(MIXED, OPENAI).problem(Taken(6, 1)) == (
        "6 results can be read, but the batch counts 7. 1 lines cannot be read."
    )
    assert promise_of_output(MIXED, OPENAI).problem(Taken(7, 0)) is None
    assert promise_of_output(MIXED, OPENAI).problem(Taken(8, 0)) is None


def test_an_unreadable_line_is_not_a_flaw_if_the_counts_prove_that_no_result_is_missing() -> None:
    assert promise_of_output(MIXED, OPENAI).problem(Taken(7, 1)) is None


def test_without_counts_an_unreadable_line_may_be_a_result() -> None:
    assert promise_of_output(NO_COUNTS, OPENAI).problem(Taken(6, 1)) == "1 lines cannot be read."
    assert promise_of_output(NO_COUNTS, OPENAI).problem(Taken(6, 0)) is None


def test_without_counts_a_file_without_a_readable_result_is_a_flaw() -> None:
    assert promise_of_output(NO_COUNTS, OPENAI).problem(Taken(0, 0)) == "No result can be read."
    assert promise_of_output(NO_COUNTS, OPENAI).problem(Taken(0, 3)) == "No result can be read. 3 lines cannot be read."


def test_counts_that_do_not_cover_the_batch_yet_prove_nothing() -> None:
    late = batch(total=10, completed=0, failed=0)
    assert promise_of_output(late, OPENAI).problem(Taken(0, 0)) == "No result can be read."
    assert promise_of_output(batch(total=10, completed=5, failed=0), OPENAI).problem(Taken(5, 1)) is not None


def test_the_error_file_holds_what_the_output_file_does_not() -> None:
    assert promise_of_errors(MIXED, OPENAI, in_output=7).problem(Taken(3, 0)) is None
    assert promise_of_errors(MIXED, OPENAI, in_output=7).problem(Taken(0, 1)) is not None
    # some servers write failed rows into the output file
    assert promise_of_errors(MIXED, OPENAI, in_output=10).problem(Taken(0, 0)) is None


def test_an_empty_error_file_is_complete_if_no_row_failed() -> None:
    assert promise_of_errors(batch(total=3, completed=3, failed=0), OPENAI, in_output=3).problem(Taken(0, 0)) is None
    assert promise_of_errors(NO_COUNTS, OPENAI, in_output=3).problem(Taken(0, 0)) == "No result can be read."


@pytest.mark.parametrize("status", ["expired", "cancelled", "failed"])
def test_a_batch_that_ended_early_promises_only_its_succeeded_rows(status: str) -> None:
    early = batch(status, total=10, completed=4, failed=2)
    assert promise_of_output(early, OPENAI).problem(Taken(3, 0)) is not None
    assert promise_of_output(early, OPENAI).problem(Taken(4, 0)) is None
    assert promise_of_errors(early, OPENAI, in_output=4).problem(Taken(0, 0)) is None
    assert promise_of_output(batch(status), OPENAI).problem(Taken(0, 0)) is None
    assert promise_of_output(batch(status), OPENAI).problem(Taken(0, 1)) is not None


def test_the_counts_of_processed_rows_differ_by_provider() -> None:
    of_anthropic = batch("ended", total=10, completed=4, succeeded=4, failed=3, expired=2, canceled=1)
    assert promise_of_all(of_anthropic, providers.get("anthropic")).results == 10
    of_gemini = batch(total=10, completed=10, failed=3, succeeded=7)  # completed includes failures
    assert promise_of_all(of_gemini, providers.get("gemini")).results == 10
    cancelled = batch("cancelled", total=10, completed=6, failed=6)  # and succeeded is absent when it is 0
    assert promise_of_all(cancelled, providers.get("gemini")).problem(Taken(0, 0)) is None
    assert promise_of_all(batch("failed", total=10, completed=6, failed=4), providers.get("bedrock")).results == 6


COUNT = st.none() | st.integers(0, 5)


@settings(deadline=None)
@given(
    counts=st.fixed_dictionaries(dict.fromkeys(("total", "completed", "failed", "succeeded", "expired"), COUNT)),
    status=st.sampled_from(["completed", "ended", "failed", "expired", "cancelled"]),
    provider=st.sampled_from([*providers.ALL, "groq"]),
    results=st.integers(0, 30),
    unreadable=st.integers(0, 2),
)
def test_fewer_succeeded_rows_than_counted_are_always_a_problem(
    counts: dict[str, Any], status: str, provider: str, results: int, unreadable: int
) -> None:
    known, given_batch = providers.get(provider), batch(status, **counts)
    for promise in (promise_of_output(given_batch, known), promise_of_all(given_batch, known)):
        problem = promise.problem(Taken(results, unreadable))
        if results < (known.succeeded_rows(given_batch.request_counts) or 0):
            assert problem
        if not results and unreadable and not promise.is_all:
            assert problem


def test_an_empty_source_is_complete_if_it_may_be_empty() -> None:
    assert Promise(may_be_empty=True).problem(Taken()) is None
