"""The counts of an output, and their differences from the batch's own counts."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_bifrost.gateway.models import RequestCounts
from airflow_bifrost.results import tally
from airflow_bifrost.results.tally import Tally

MIXED = Tally(total=10, succeeded=5, failed=2, expired=2, cancelled=1)


CAME = {"succeeded": 5, "failed": 2, "expired": 2, "cancelled": 1}


def differences(received: dict[str, int], provider: str = "openai", rows: int = 10, **counts: Any) -> list[str]:
    return tally.differences(received, rows, RequestCounts(**counts), provider)


def test_the_rows_of_a_manifest() -> None:
    rows = {"total": 10, "succeeded": 5, "failed": 2, "expired": 2, "cancelled": 1, "missing": 0}
    assert rows == MIXED.rows
    assert list(rows) == list(MIXED.rows)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "bedrock"])
def test_a_batch_without_counts_has_no_differences(provider: str) -> None:
    assert differences(CAME, provider) == []
    assert differences({}, provider, total=0, completed=0, failed=0) == []


@pytest.mark.parametrize("failed", [2, 3, 5])
def test_rows_that_expired_or_were_cancelled_may_be_counted_as_failed(failed: int) -> None:
    assert differences(CAME, total=10, completed=5, failed=failed) == []


@pytest.mark.parametrize("failed", [1, 6])
def test_a_different_number_of_failures_is_a_difference(failed: int) -> None:
    assert differences(CAME, total=10, completed=5, failed=failed) == [
        f"failed: the batch counts {failed}, its results 2"
    ]


def test_anthropic_counts_each_outcome() -> None:
    counts = {"total": 10, "completed": 5, "succeeded": 5, "failed": 2, "expired": 2, "canceled": 1}
    assert differences(CAME, "anthropic", **counts) == []
    assert differences(CAME, "anthropic", **{**counts, "failed": 4, "expired": 0}) == [
        "failed: the batch counts 4, its results 2",
        "expired: the batch counts 0, its results 2",
    ]


def test_completed_includes_failures_at_gemini() -> None:
    received = {"succeeded": 7, "failed": 3}
    assert differences(received, "gemini", total=10, completed=10, failed=3, succeeded=7) == []
    assert differences(received, "gemini", total=10, completed=10, failed=3) == []
    assert differences({"failed": 3}, "gemini", 3, total=3, completed=3, failed=3) == []
    assert differences(received, "openai", total=10, completed=10, failed=3) == [
        "succeeded: the batch counts 10, its results 7"
    ]


def test_missing_results_and_a_different_input_are_differences() -> None:
    received = {"succeeded": 8}
    assert differences(received, total=11, completed=10, failed=0) == [
        "total: the batch counts 11, and has 10",
        "succeeded: the batch counts 10, its results 8",
    ]
