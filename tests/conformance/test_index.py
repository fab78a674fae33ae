"""Every exchange that was recorded is used, or there is a reason why not."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from .recordings import FIRST, FOLDER, HERE, LATER, RECORDINGS, VERSIONS, load

INDEX = json.loads((HERE / "index.json").read_text())
each_version = pytest.mark.parametrize("version", VERSIONS)


def of(version: str) -> list[str]:
    """The names of the exchanges that the tests use, as the index has them."""
    return [r.recorded for r in RECORDINGS if r.version == version]


@each_version
def test_every_recorded_exchange_is_used_or_named_with_a_reason(version: str) -> None:
    exchanges = [f"{topic}/{case}" for topic, cases in INDEX[version]["exchanges"].items() for case in cases]
    unused = INDEX[version]["unused"]
    assert sorted([*of(version), *unused]) == sorted(exchanges)
    assert all(unused.values())


@each_version
def test_an_exchange_that_is_left_out_as_a_repetition_names_one_that_is_there(version: str) -> None:
    names = {r.name for r in RECORDINGS if r.version == version}
    reasons = INDEX[version]["unused"].values()
    repeated = [reason.partition(": ")[2] for reason in reasons if reason.startswith("the same exchange")]
    assert repeated
    assert set(repeated) <= names


def test_the_index_and_the_folders_name_the_same_versions() -> None:
    assert set(INDEX) == set(VERSIONS) == {folder.name for folder in FOLDER.iterdir()}


@pytest.mark.parametrize("version", LATER)
def test_a_later_recording_is_either_a_change_of_an_earlier_one_or_new(version: str) -> None:
    names = Counter(r.name for r in RECORDINGS if r.version == version)
    assert [name for name, number in names.items() if number > 1] == []
    changes = json.loads((FOLDER / version / "changes.json").read_text())
    assert set(changes) <= set(load(FIRST))
    assert set(names) - set(changes) == set(load(version))


@each_version
def test_there_are_recordings_of_every_provider_and_call(version: str) -> None:
    recordings = [r for r in RECORDINGS if r.version == version]
    vertex = {"vertex"} if version != FIRST else set()  # 1.4 has no batches of Vertex
    assert {r.provider for r in recordings} >= {"openai", "azure", "anthropic", "gemini", "bedrock"} | vertex
    assert {r.call for r in recordings} == {
        "get_batch",
        "create_batch",
        "cancel_batch",
        "list_page",
        "batch_results",
        "upload_file",
        "get_file",
        "delete_file",
        "file_content",
        "list_files_page",
        "health",
        "version",
    }
