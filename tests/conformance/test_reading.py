"""Each recorded answer through the parser of its call. What is expected is in the recording, and was decided by what the gateway means."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from airflow_bifrost import exceptions, providers
from airflow_bifrost.exceptions import BifrostGatewayError
from airflow_bifrost.gateway.summary import BatchSummary

from .recordings import RECORDINGS, Recording, ask, differing


def mistakes(expects: str, compare: Callable[[Recording], tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    """What is read and what is expected, of each recording where the two differ.

    :param expects: the member of ``expected`` that a recording must have.
    """
    return differing([recording for recording in RECORDINGS if expects in recording.expected], compare)


def shown(model: Any, names: Any) -> dict[str, Any]:
    """Members of a model as JSON; UTC spelled as the data files do."""
    value = model.model_dump(mode="json")
    return {
        name: item[:-1] + "+00:00" if name.endswith("_at") and item else item
        for name in names
        for item in [value[name]]
    }


def test_every_recorded_error_is_the_typed_error_that_it_means() -> None:
    def compare(recording: Recording) -> tuple[Any, Any]:
        expected = dict(recording.expected)
        try:
            value = ask(recording)
        except BifrostGatewayError as error:
            kind = getattr(exceptions, expected.pop("error"))
            return (type(error), {name: getattr(error, name) for name in expected}), (kind, expected)
        return value, expected

    assert mistakes("error", compare) == {}


def test_all_recorded_content_is_passed_on_byte_for_byte() -> None:
    assert mistakes("content", lambda r: (ask(r), r.expected["content"].encode())) == {}


def test_every_recorded_answer_is_the_model_that_it_means() -> None:
    def compare(recording: Recording) -> tuple[Any, Any]:
        value, expected = ask(recording), recording.expected
        rows = [[row["custom_id"], kind_of(row)] for row in value.results] if "rows" in expected else None
        return (shown(value, expected["fields"]), rows), (expected["fields"], expected.get("rows"))

    assert mistakes("fields", compare) == {}


def kind_of(row: dict[str, Any]) -> Any:
    """The outcome of a row, from the one member that says it."""
    return row.get("result", {}).get("type") or row.get("response", {}).get("status_code") or "error"


def test_every_recorded_version_is_read() -> None:
    assert mistakes("value", lambda r: (ask(r), r.expected["value"])) == {}


def test_every_recorded_batch_has_the_outcome_that_its_provider_means() -> None:
    def compare(recording: Recording) -> tuple[Any, Any]:
        batch, expected = ask(recording), recording.expected["outcome"]
        summary = BatchSummary.of(batch, batch_id="some_id", provider=recording.provider).to_xcom()
        outcome = providers.get(recording.provider).outcome(batch.status, batch.request_counts)
        return (outcome, summary["outcome"], json.loads(json.dumps(summary))), (expected, expected, summary)

    assert mistakes("outcome", compare) == {}


def test_every_entry_of_a_recorded_page_is_read() -> None:
    def compare(recording: Recording) -> tuple[Any, Any]:
        provider, read = providers.get(recording.provider), []
        entries = ask(recording).data
        if len(entries) != len(recording.expected["entries"]):
            return len(entries), recording.expected["entries"]
        for entry, expected in zip(entries, recording.expected["entries"], strict=True):
            fields = shown(entry, [name for name in expected if name != "outcome"])
            if "outcome" in expected:
                fields["outcome"] = provider.outcome(entry.status, entry.request_counts)
            read.append(fields)
        return read, recording.expected["entries"]

    assert mistakes("entries", compare) == {}


def test_every_recording_expects_something() -> None:
    kinds = ("error", "content", "fields", "value")
    assert [r.title for r in RECORDINGS if sum(kind in r.expected for kind in kinds) != 1] == []
