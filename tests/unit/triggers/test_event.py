"""The event of a wait: what comes out of a triggerer is not taken on trust."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_bifrost import exceptions
from airflow_bifrost.exceptions import BatchNotFound, BifrostError
from airflow_bifrost.triggers.event import BatchEvent, ErrorInEvent


@pytest.mark.parametrize("event", [None, {}, {"kind": "done"}, "finished", {"kind": "finished", "summaries": "none"}])
def test_an_invalid_event_is_an_error_that_says_the_batches_continue_to_run(event: Any) -> None:
    with pytest.raises(BifrostError, match="batches continue to run and are billed"):
        BatchEvent.read(event)


def test_fields_of_a_newer_version_are_passed_over() -> None:
    assert BatchEvent.read({"kind": "finished", "summaries": [], "colour": "green"}).kind == "finished"


def test_an_error_comes_back_as_what_it_was() -> None:
    sent = ErrorInEvent.of(BatchNotFound("no such batch", status_code=404, error_type="not_found_error"))
    error = ErrorInEvent.model_validate(sent.model_dump(mode="json")).to_exception()
    assert isinstance(error, BatchNotFound)
    assert (str(error), error.status_code, error.error_type) == ("no such batch", 404, "not_found_error")


@pytest.mark.parametrize("name", [name for name in vars(exceptions) if name.startswith(("Bifrost", "Batch"))])
def test_every_error_of_the_package_survives_the_way(name: str) -> None:
    kind = getattr(exceptions, name)
    assert type(ErrorInEvent.of(kind("it broke")).to_exception()) is kind


@pytest.mark.parametrize("name", ["SomethingNewer", "AirflowException", "annotations"])
def test_an_error_that_this_version_does_not_know_is_still_one_of_the_packages(name: str) -> None:
    assert type(ErrorInEvent(type=name, message="it broke").to_exception()) is BifrostError
