"""A batch may be terminal before it names its files."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_bifrost import providers
from airflow_bifrost.gateway.models import RequestCounts

ALL = {"total": 10, "completed": 10, "failed": 0}
SOME = {"total": 10, "completed": 4, "failed": 6}
NONE = {"total": 10, "completed": 0, "failed": 10}
NOT_GIVEN = {"total": 0, "completed": 0, "failed": 0}


def late(status: str, counts: dict[str, int], provider: str = "openai", **files: Any) -> bool:
    named = {"output_file_id": None, "error_file_id": None, **files}
    return providers.get(provider).results_late(status, RequestCounts.model_validate(counts), **named)


@pytest.mark.parametrize("provider", ["openai", "azure", "groq", "vertex"])
def test_a_completed_batch_without_a_file_is_late_unless_its_counts_prove_that_nothing_succeeded(provider: str) -> None:
    assert late("completed", ALL, provider)
    assert late("completed", SOME, provider)
    assert late("completed", NOT_GIVEN, provider)
    assert late("completed", {"total": 10, "completed": 0, "failed": 0}, provider)  # the counts are late, too
    assert not late("completed", NONE, provider)


@pytest.mark.parametrize("status", ["expired", "cancelled", "failed"])
def test_a_batch_that_ended_early_without_a_file_is_late_if_rows_succeeded(status: str) -> None:
    assert late(status, SOME)
    assert late(status, SOME, error_file_id="file-errors")
    assert not late(status, NONE)
    assert not late(status, NOT_GIVEN)


@pytest.mark.parametrize("error_file_id", [None, "file-errors"])
def test_only_counts_prove_that_a_completed_batch_has_no_output_file(error_file_id: str | None) -> None:
    named = {"error_file_id": error_file_id}
    assert late("completed", SOME, **named)
    assert late("completed", NOT_GIVEN, **named)
    assert late("completed", {"total": 10, "completed": 0, "failed": 0}, **named)
    assert late("completed", {"total": 0, "completed": 0, "failed": 3}, **named)  # of how many rows?
    assert not late("completed", NONE, **named)


@pytest.mark.parametrize("status", ["expired", "cancelled", "failed"])
def test_without_counts_a_batch_that_ended_early_and_names_its_error_file_may_have_an_output_file(status: str) -> None:
    assert late(status, NOT_GIVEN, error_file_id="file-errors")
    assert not late(status, NONE, error_file_id="file-errors")


def test_a_batch_that_names_its_output_is_not_late() -> None:
    assert not late("completed", ALL, output_file_id="file-out")
    assert not late("expired", SOME, output_file_id="file-out")


@pytest.mark.parametrize("status", ["in_progress", "finalizing", "unheard_of"])
def test_a_batch_that_is_not_terminal_is_not_late(status: str) -> None:
    assert not late(status, ALL)


@pytest.mark.parametrize(("provider", "status"), [("anthropic", "ended"), ("gemini", "completed")])
def test_a_provider_whose_batches_never_name_a_file_is_not_late(provider: str, status: str) -> None:
    assert not late(status, ALL, provider)
