"""Each recorded answer through the parser of its call: what is expected stands beside it, and was decided by what the gateway means."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_bifrost import exceptions, providers
from airflow_bifrost.exceptions import BifrostGatewayError
from airflow_bifrost.gateway.summary import BatchSummary

from .recordings import RECORDINGS, Recording, ask, ids


def shown(model: Any, names: Any) -> dict[str, Any]:
    """Members of a model as JSON; UTC spelled as the data files do."""
    value = model.model_dump(mode="json")
    return {
        name: item[:-1] + "+00:00" if name.endswith("_at") and item else item
        for name in names
        for item in [value[name]]
    }


@pytest.mark.parametrize("recording", [r for r in RECORDINGS if "error" in r.expected], ids=ids)
def test_a_recorded_error_is_the_typed_error_that_it_means(recording: Recording) -> None:
    expected = dict(recording.expected)
    with pytest.raises(BifrostGatewayError) as caught:
        ask(recording)
    assert type(caught.value) is getattr(exceptions, expected.pop("error"))
    assert {name: getattr(caught.value, name) for name in expected} == expected


@pytest.mark.parametrize("recording", [r for r in RECORDINGS if "content" in r.expected], ids=ids)
def test_recorded_content_is_handed_on_byte_for_byte(recording: Recording) -> None:
    assert ask(recording) == recording.expected["content"].encode()


@pytest.mark.parametrize("recording", [r for r in RECORDINGS if "fields" in r.expected], ids=ids)
def test_a_recorded_answer_is_the_model_that_it_means(recording: Recording) -> None:
    value, expected = ask(recording), recording.expected
    assert shown(value, expected["fields"]) == expected["fields"]
    if "rows" in expected:
        assert [[row["custom_id"], kind_of(row)] for row in value.results] == expected["rows"]


def kind_of(row: dict[str, Any]) -> Any:
    """What came of a row, by the one member that says it."""
    return row.get("result", {}).get("type") or row.get("response", {}).get("status_code") or "error"


@pytest.mark.parametrize("recording", [r for r in RECORDINGS if "value" in r.expected], ids=ids)
def test_the_recorded_version_is_read(recording: Recording) -> None:
    assert ask(recording) == recording.expected["value"]


@pytest.mark.parametrize("recording", [r for r in RECORDINGS if "outcome" in r.expected], ids=ids)
def test_a_recorded_batch_has_the_outcome_that_its_provider_means(recording: Recording) -> None:
    batch = ask(recording)
    assert (
        providers.get(recording.provider).outcome(batch.status, batch.request_counts) == recording.expected["outcome"]
    )
    summary = BatchSummary.of(batch, batch_id="some_id", provider=recording.provider).to_xcom()
    assert summary["outcome"] == recording.expected["outcome"]
    assert json.loads(json.dumps(summary)) == summary


@pytest.mark.parametrize("recording", [r for r in RECORDINGS if "entries" in r.expected], ids=ids)
def test_each_entry_of_a_recorded_page_is_read(recording: Recording) -> None:
    entries = ask(recording).data
    assert len(entries) == len(recording.expected["entries"])
    for entry, expected in zip(entries, recording.expected["entries"], strict=True):
        fields = {name: value for name, value in expected.items() if name != "outcome"}
        assert shown(entry, fields) == fields
        if "outcome" in expected:
            assert providers.get(recording.provider).outcome(entry.status, entry.request_counts) == expected["outcome"]


def test_every_recording_expects_something() -> None:
    kinds = ("error", "content", "fields", "value")
    assert [r.name for r in RECORDINGS if sum(kind in r.expected for kind in kinds) != 1] == []
