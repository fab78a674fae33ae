"""The table of what each provider says: true, whole, and what the documentation shows."""

from __future__ import annotations

import importlib.util
import json
import re
from typing import Any

import pytest

from airflow_bifrost import providers
from airflow_bifrost.gateway.models import RequestCounts
from airflow_bifrost.providers.statuses import BatchStatus

from .recordings import HERE, RECORDINGS, Recording

TABLE: dict[str, Any] = json.loads((HERE / "providers.json").read_text())
ROWS = [(provider, row) for provider, of_it in TABLE.items() for row in of_it["statuses"]]
BY_NAME: dict[str, list[Recording]] = {}
for recording in RECORDINGS:
    BY_NAME.setdefault(recording.name, []).append(recording)
ALWAYS_SENT = {"total", "completed", "failed"}  # the other counts are absent where they are 0
RESULTS = ("output_file_id", "error_file_id", "results_url")


def test_every_row_has_the_outcome_that_the_package_comes_to() -> None:
    wrong = {
        (provider, row["said"], row.get("when")): outcome
        for provider, row in ROWS
        for outcome in [providers.get(provider).outcome(row["status"], RequestCounts.model_validate(row["counts"]))]
        if outcome != row["outcome"]
    }
    assert wrong == {}


def test_every_row_is_shown_by_its_recordings_in_each_version() -> None:
    for provider, row in ROWS:
        for name in row["shown_by"]:
            for recording in BY_NAME[name]:
                assert_shows(recording, provider, row)


def assert_shows(recording: Recording, provider: str, row: dict[str, Any]) -> None:
    fields, counts = recording.expected["fields"], recording.expected["fields"]["request_counts"]
    title = recording.title
    assert (recording.provider, recording.provider_said) == (provider, row["said"]), title
    assert (fields["status"], recording.expected["outcome"]) == (row["status"], row["outcome"]), title
    assert [field for field in RESULTS if fields.get(field)] == row["results"], title
    assert all(counts[count] is not None for count in ALWAYS_SENT & set(row["trusted"])), title
    assert row["trusted"] or all(number is None for number in counts.values()), title
    # A count that is present is trusted, or named as one that is not.
    given = {count for count, number in counts.items() if number}
    assert given - set(row["trusted"]) <= set(row.get("not_trusted", ())), title
    if recording.name == row["shown_by"][0]:
        assert {count: number for count, number in counts.items() if number} == row["counts"], title


def test_a_difference_between_versions_is_shown_by_recordings_that_differ() -> None:
    for of_it in TABLE.values():
        for difference in of_it.get("differences", ()):
            for name in difference["shown_by"]:
                first, *later = BY_NAME[name]
                assert later
                assert all(of_substance(first) != of_substance(recording) for recording in later), name


def of_substance(recording: Recording) -> str:
    """The answer without what differs from call to call and from version to version in every answer."""
    return re.sub(r'"(latency|routing_info)": [^,}]*}?', "", json.dumps(recording.answer, sort_keys=True))


def test_every_recorded_status_of_a_provider_is_in_the_table():
    in_table = {(provider, row["said"], row["status"], row["outcome"]) for provider, row in ROWS}
    recorded = [r for r in RECORDINGS if r.provider_said and "outcome" in r.expected]
    assert recorded
    said = {(r.provider, r.provider_said, r.expected["fields"]["status"], r.expected["outcome"]) for r in recorded}
    assert said <= in_table


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
