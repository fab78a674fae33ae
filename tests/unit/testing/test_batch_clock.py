"""Where a batch stands, by the clock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_bifrost.testing.clock import Batch, Phase, progress

BATCH = Batch(
    seq=1,
    provider="openai",
    id="batch_1",
    created_at=1000.0,
    seconds=100.0,
    rows=80,
    input_file=1,
    input_file_id="file-1",
    endpoint="/v1/chat/completions",
    completion_window="24h",
    model=None,
    metadata={},
    options={},
    errors=[],
    expiring=False,
    odd_rows=0,
    cancel_at=None,
    held=None,
    held_at=None,
    overrides={},
    idempotency_key=None,
)


def at(second: float, **changes: Any) -> tuple[Phase | None, int]:
    stand = progress(replace(BATCH, **changes), {"canceled": Phase.CANCELLED}, 1000.0 + second)
    return stand.phase, stand.finished


@pytest.mark.parametrize(
    ("second", "stand"),
    [
        (0, (Phase.VALIDATING, 0)),
        (10, (Phase.IN_PROGRESS, 0)),
        (50, (Phase.IN_PROGRESS, 40)),
        (90, (Phase.FINALIZING, 80)),
        (100, (Phase.COMPLETED, 80)),
        (10_000, (Phase.COMPLETED, 80)),
    ],
)
def test_rows_are_done_one_after_the_other(second: float, stand: tuple[Phase, int]) -> None:
    assert at(second) == stand


@given(st.floats(0, 200), st.floats(0, 200))
def test_a_batch_never_goes_back(one: float, other: float) -> None:
    earlier, later = sorted((one, other))
    assert at(earlier)[1] <= at(later)[1]


def test_a_batch_of_no_seconds_ends_at_once() -> None:
    assert at(0, seconds=0.0) == (Phase.COMPLETED, 80)


def test_a_batch_with_rows_that_expire_ends_expired() -> None:
    assert at(100, expiring=True) == (Phase.EXPIRED, 80)


def test_a_batch_with_validation_errors_fails_after_validation() -> None:
    assert at(9, errors=[{"code": "x"}]) == (Phase.VALIDATING, 0)
    assert at(10, errors=[{"code": "x"}]) == (Phase.FAILED, 0)


def test_a_cancelled_batch_keeps_the_rows_that_were_done() -> None:
    assert at(51, cancel_at=1050.0) == (Phase.CANCELLING, 40)
    assert at(71, cancel_at=1050.0) == (Phase.CANCELLED, 40)


def test_a_held_batch_does_not_move() -> None:
    assert at(0, held="in_progress") == at(10_000, held="in_progress") == (Phase.IN_PROGRESS, 40)


def test_a_held_batch_knows_its_providers_words() -> None:
    assert at(0, held="canceled") == (Phase.CANCELLED, 40)


def test_a_held_status_that_nobody_knows_is_no_end() -> None:
    assert not progress(replace(BATCH, held="paused"), {}, 9999.0).terminal
