"""The package's tables of gateway versions agree with what gateways of these versions answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_bifrost.gateway.faults import FAULTS, Fault, fault_of
from airflow_bifrost.gateway.models import GatewayErrorBody
from airflow_bifrost.gateway.versions import FIELDS, RECORDED

from .recordings import RECORDINGS, VERSIONS, Recording

MINOR = {recorded: minor for minor, recorded in RECORDED.items()}

# What the table says of a recorded version, and no recording shows.
NOT_RECORDED: dict[tuple[str, str, int], str] = {
    **dict.fromkeys(
        [("a queue is full", "1.4.19", 500), ("a queue is full", "1.4.19", 400), ("a queue is full", "1.5.16", 400)],
        "other words for a queue that is full, which were read in the source",
    ),
    (
        "the ID is not one that this gateway or provider gives",
        "1.4.19",
        500,
    ): "seen with Bedrock; the answer was not kept",
    ("the provider's answer is not what it promises", "1.4.19", 400): "HTML on a native route, which was not recorded",
    ("the virtual key may not use the model", "1.5.16", 403): "1.5 checks the model only of chat completions",
}


def faults_in(recordings: list[Recording]) -> Iterator[tuple[Recording, Fault]]:
    """The recorded errors that a row of the table recognizes."""
    for recording in recordings:
        body = recording.answer and recording.answer["body"]
        if not isinstance(body, dict) or recording.answer["status"] == 200:
            continue
        error = GatewayErrorBody.of(body)
        fault = fault_of(recording.answer["status"], type=error.type, code=error.code, message=error.message)
        if fault:
            yield recording, fault


def test_the_table_and_the_recordings_are_of_the_same_versions() -> None:
    assert tuple(MINOR) == VERSIONS


def test_a_recorded_error_has_a_status_that_the_table_gives_its_version() -> None:
    wrong = {
        recording.title: (recording.answer["status"], fault.what)
        for recording, fault in faults_in(RECORDINGS)
        if recording.answer["status"] not in fault.answers.get(MINOR[recording.version], ())
    }
    assert wrong == {}


def test_every_row_of_the_table_is_shown_by_an_answer_of_each_recorded_version_or_named() -> None:
    shown = {(fault.what, recording.version, recording.answer["status"]) for recording, fault in faults_in(RECORDINGS)}
    said = {
        (fault.what, recorded, status)
        for fault in FAULTS
        for minor, recorded in RECORDED.items()
        for status in fault.answers.get(minor, ())
    }
    assert said - shown == set(NOT_RECORDED)


def extra_fields_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            if name == "extra_fields" and isinstance(item, dict):
                yield from item
            else:
                yield from extra_fields_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from extra_fields_in(item)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_extra_fields_of_a_version_are_those_that_the_table_gives_it(version: str) -> None:
    found = {
        name for r in RECORDINGS if r.version == version and r.answer for name in extra_fields_in(r.answer["body"])
    }
    said = {field.name for field in FIELDS if field.where == "extra_fields" and MINOR[version] in field.versions}
    assert found == said
