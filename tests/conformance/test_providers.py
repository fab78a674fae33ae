"""The table of what each provider says: true, whole, and what the documentation shows."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest

from airflow_bifrost import providers
from airflow_bifrost.gateway.models import RequestCounts
from airflow_bifrost.providers.statuses import BatchStatus

from .recordings import HERE, RECORDINGS

TABLE: dict[str, Any] = json.loads((HERE / "providers.json").read_text())
ROWS = [
    pytest.param(provider, row, id=f"{provider}: {row['said']} {row.get('when', '')}")
    for provider, of_it in TABLE.items()
    for row in of_it["statuses"]
]
BY_NAME = {r.name: r for r in RECORDINGS}
ALWAYS_SENT = {"total", "completed", "failed"}  # the other counts are absent where they are 0
RESULTS = ("output_file_id", "error_file_id", "results_url")


@pytest.mark.parametrize(("provider", "row"), ROWS)
def test_a_row_has_the_outcome_that_the_package_comes_to(provider, row):
    assert providers.get(provider).outcome(row["status"], RequestCounts.model_validate(row["counts"])) == row["outcome"]


@pytest.mark.parametrize(("provider", "row"), [row for row in ROWS if row.values[1]["shown_by"]])
def test_a_row_is_shown_by_its_recordings(provider, row):
    for name in row["shown_by"]:
        recording = BY_NAME[name]
        fields, counts = recording.expected["fields"], recording.expected["fields"]["request_counts"]
        assert (recording.provider, recording.provider_said) == (provider, row["said"])
        assert (fields["status"], recording.expected["outcome"]) == (row["status"], row["outcome"])
        assert [field for field in RESULTS if fields.get(field)] == row["results"]
        assert all(counts[count] is not None for count in ALWAYS_SENT & set(row["trusted"]))
        assert row["trusted"] or all(number is None for number in counts.values())
        # A count that is present is trusted, or named as one that is not.
        given = {count for count, number in counts.items() if number}
        assert given - set(row["trusted"]) <= set(row.get("not_trusted", ()))
    first = BY_NAME[row["shown_by"][0]].expected["fields"]["request_counts"]
    assert {count: number for count, number in first.items() if number} == row["counts"]


def test_every_recorded_status_of_a_provider_is_in_the_table():
    shown = {name for of_it in TABLE.values() for row in of_it["statuses"] for name in row["shown_by"]}
    in_table = {
        (up, row["said"], row["status"], row["outcome"]) for up, of_it in TABLE.items() for row in of_it["statuses"]
    }
    recorded = [r for r in RECORDINGS if r.provider_said and "outcome" in r.expected]
    assert recorded
    for r in recorded:
        assert (
            r.name in shown
            or (r.provider, r.provider_said, r.expected["fields"]["status"], r.expected["outcome"]) in in_table
        )


@pytest.mark.parametrize("provider", TABLE)
def test_every_outcome_of_every_provider_is_in_the_table(provider):
    ends = {row["outcome"] for row in TABLE[provider]["statuses"]}
    assert ends >= {None, "succeeded", "failed", "cancelled", "expired"}


def test_every_status_that_the_package_knows_is_in_the_table():
    read = {BatchStatus.of(row["status"]) for of_it in TABLE.values() for row in of_it["statuses"]}
    assert read == set(BatchStatus)


def test_the_page_in_the_documentation_is_the_table():
    place = HERE.parents[1] / "docs" / "providers_page.py"
    spec = importlib.util.spec_from_file_location("providers_page", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.page(TABLE), "run: python docs/providers_page.py"
