"""The package's tables of gateway versions agree with what gateways of these versions answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_bifrost.gateway.faults import FAULTS, Fault, fault_of
from airflow_bifrost.gateway.models import GatewayErrorBody
from airflow_bifrost.gateway.versions import FIELDS, RECORDED, names_of

from .recordings import RECORDINGS, VERSIONS, Recording

MINOR = {recorded: minor for minor, recorded in RECORDED.items()}

# What the table says of a recorded version, and no recording shows.
NOT_RECORDED: dict[tuple[str, str, int], str] = {
    (
        "the ID is not one that this gateway or provider gives (message)",
        "1.4.19",
        500,
    ): "seen with Bedrock; the answer was not kept",
    (
        "the provider's answer is not what it promises (message)",
        "1.4.19",
        400,
    ): "HTML on a native route, which was not recorded",
    (
        "the virtual key may not use the model (model_blocked)",
        "1.5.16",
        403,
    ): "1.5 checks the model only of chat completions",
}


def errors_in(recordings: list[Recording]) -> Iterator[tuple[Recording, GatewayErrorBody]]:
    """The recorded errors in JSON."""
    for recording in recordings:
        body = recording.answer and recording.answer["body"]
        if isinstance(body, dict) and recording.answer["status"] != 200:
            yield recording, GatewayErrorBody.of(body)


def faults_in(recordings: list[Recording]) -> Iterator[tuple[Recording, Fault]]:
    """The recorded errors that a row of the table recognizes."""
    for recording, error in errors_in(recordings):
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


def name_of(row: Fault) -> str:
    """What happened, and what recognizes it: two rows may be about the same."""
    return f"{row.what} ({row.type or row.code or 'message'})"


def test_every_row_of_the_table_is_shown_by_an_answer_of_each_recorded_version_or_named() -> None:
    shown = {
        (name_of(row), recording.version, recording.answer["status"])
        for recording, error in errors_in(RECORDINGS)
        for row in FAULTS
        if row.matches(recording.answer["status"], error.type, error.code, error.message)
    }
    said = {
        (name_of(row), recorded, status)
        for row in FAULTS
        for minor, recorded in RECORDED.items()
        for status in row.answers.get(minor, ())
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


@pytest.mark.parametrize(("where", "kind"), [("batch", "batch"), ("file", "file"), ("error", None)])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_other_fields_of_a_version_are_those_that_the_table_gives_it(version: str, where: str, kind: str) -> None:
    found = {name for r in RECORDINGS if r.version == version and r.answer for name in fields_in(r.answer, kind)}
    said = {field.name for field in FIELDS if field.where == where and MINOR[version] in field.versions}
    assert found & names_of(where) == said


def fields_in(answer: dict[str, Any], kind: str | None) -> Iterator[str]:
    """The names of the members of each object of a kind (None: of an error body)."""
    body = answer["body"]
    if isinstance(body, dict) and (answer["status"] == 200) == (kind is not None):
        for value in [body, *(body.get("data") or [])]:
            if kind is None or (isinstance(value, dict) and value.get("object") == kind):
                yield from value
