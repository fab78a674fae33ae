"""What is worth asking again, and when."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_bifrost.exceptions import (
    BatchNotFound,
    BifrostAuthError,
    BifrostBudgetExceeded,
    BifrostProtocolError,
    BifrostRateLimited,
    BifrostRequestError,
    BifrostUnavailable,
)
from airflow_bifrost.gateway.retry import NO_RETRY, RETRY_AFTER_CAP, RetryPolicy, backoff, parse_retry_after

NOW = 1_775_400_000.0  # Sun, 05 Apr 2026 14:40:00 GMT
POLICY = RetryPolicy(budget=60, base=0.5, cap=20)


def delay(error, attempt=1, elapsed=0.0, chance=0.5, policy=POLICY):
    return policy.delay(attempt, error, elapsed=elapsed, random=lambda: chance)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("1.5", 1.5),
        ("-3", 0),
        ("999999", RETRY_AFTER_CAP),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("Sun, 05 Apr 2026 14:40:30 GMT", 30),
        ("Sun, 05 Apr 2026 16:40:30 +0200", 30),
        ("Sunday, 05-Apr-26 14:40:30 GMT", 30),
        ("Sun Apr  5 14:40:30 2026", 30),
        ("Sun, 05 Apr 2026 14:39:00 GMT", 0),
        ("Sun, 05 Apr 2037 14:40:30 GMT", RETRY_AFTER_CAP),
        ("Sun, 99 Apr 2026 14:40:30 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_capped(header, seconds):
    assert parse_retry_after(header, NOW) == seconds


@settings(deadline=None)
@given(st.text() | st.from_regex(r"\w{3}, \d{2} \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}"))
def test_any_retry_after_is_readable_or_none(header):
    seconds = parse_retry_after(header, NOW)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_CAP


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_has_full_jitter_below_a_bound_that_doubles_up_to_the_cap(attempt, chance):
    bound = min(20, 0.5 * 2.0 ** min(attempt - 1, 100))
    assert math.isclose(backoff(attempt, base=0.5, cap=20, random=lambda: chance), chance * bound)


@pytest.mark.parametrize(
    "error", [BifrostUnavailable("x"), BifrostRateLimited("x"), BifrostUnavailable("x", status_code=504)]
)
def test_what_may_pass_soon_is_repeated(error):
    assert delay(error) == 0.25


@pytest.mark.parametrize(
    "error",
    [
        BifrostAuthError("x"),
        BifrostBudgetExceeded("x"),
        BatchNotFound("x"),
        BifrostRequestError("x"),
        BifrostProtocolError("x"),
        BifrostProtocolError("x", transient=True),
        BifrostUnavailable("x", transient=False),
    ],
)
def test_what_cannot_pass_soon_is_not_repeated(error):
    assert delay(error) is None


def test_retry_after_is_waited_for_on_top_of_the_jitter():
    assert delay(BifrostRateLimited("x", retry_after=5)) == 5.25


def test_the_last_repetition_begins_within_the_budget():
    error = BifrostUnavailable("x")
    assert delay(error, elapsed=59.75) == 0.25
    assert delay(error, elapsed=59.76) is None
    assert delay(BifrostRateLimited("x", retry_after=61)) is None


def test_without_a_budget_nothing_is_repeated():
    assert delay(BifrostUnavailable("x"), chance=0.0, policy=NO_RETRY) is None
