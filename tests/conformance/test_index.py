"""Every exchange that was recorded is used, or there is a reason why not."""

from __future__ import annotations

import json

from .recordings import HERE, RECORDINGS

INDEX = json.loads((HERE / "index.json").read_text())
EXCHANGES = [f"{topic}/{case}" for topic, cases in INDEX["exchanges"].items() for case in cases]


def test_every_recorded_exchange_is_used_or_named_with_a_reason() -> None:
    used = [r.recorded for r in RECORDINGS]
    assert sorted([*used, *INDEX["unused"]]) == sorted(EXCHANGES)
    assert all(INDEX["unused"].values())


def test_an_exchange_that_is_left_out_as_a_repetition_names_one_that_is_there() -> None:
    names = {r.name for r in RECORDINGS}
    repeated = [
        reason.partition(": ")[2] for reason in INDEX["unused"].values() if reason.startswith("the same exchange")
    ]
    assert repeated
    assert set(repeated) <= names


def test_there_are_recordings_of_every_provider_and_call() -> None:
    assert {r.provider for r in RECORDINGS} >= {"openai", "azure", "anthropic", "gemini", "bedrock"}
    assert {r.call for r in RECORDINGS} == {
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
