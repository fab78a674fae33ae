"""What is sent again after an error, and when."""

from __future__ import annotations

import math
from dataclasses import replace

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
from airflow_bifrost.gateway.retry import (
    MAX_BROKEN_UPLOADS,
    NO_RETRY,
    RETRY_AFTER_CAP,
    Repeat,
    RetryPolicy,
    backoff,
    parse_retry_after,
)

NOW = 1_775_400_000.0  # Sun, 05 Apr 2026 14:40:00 GMT
POLICY = RetryPolicy(budget=60, base=0.5, cap=20)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def delay(error, *, repeat=Repeat.ALWAYS, worked=False, policy=POLICY):
    """Seconds after the first attempt of a call."""
    return replace(policy, clock=Clock(), random=lambda: 0.5).attempts(repeat).delay(error, worked=worked)


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


@settings(deadline=None)
@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_has_full_jitter_below_a_bound_that_doubles_up_to_the_cap(attempt, chance):
    bound = min(20, 0.5 * 2.0 ** min(attempt - 1, 100))
    assert math.isclose(backoff(attempt, base=0.5, cap=20, random=lambda: chance), chance * bound)


TRANSIENT = [
    BifrostUnavailable("x"),
    BifrostRateLimited("x"),
    BifrostUnavailable("x", status_code=504),
    BifrostProtocolError("x", transient=True),
]
UNTIL_IT_WORKED = [BifrostProtocolError("x"), BifrostUnavailable("x", transient=False)]
PERMANENT = [BifrostAuthError("x"), BifrostBudgetExceeded("x"), BatchNotFound("x"), BifrostRequestError("x")]


@pytest.mark.parametrize("worked", [False, True])
@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_a_transient_error_is_retried(error, worked):
    assert delay(error, worked=worked) == 0.25


@pytest.mark.parametrize("worked", [False, True])
@pytest.mark.parametrize("error", PERMANENT, ids=repr)
def test_a_permanent_error_is_not_retried(error, worked):
    assert delay(error, worked=worked) is None


@pytest.mark.parametrize("error", UNTIL_IT_WORKED, ids=repr)
def test_what_looks_like_a_wrong_address_is_retried_only_where_it_has_worked_before(error):
    assert delay(error) is None
    assert delay(error, worked=True) == 0.25


@pytest.mark.parametrize("worked", [False, True])
@pytest.mark.parametrize("error", TRANSIENT + UNTIL_IT_WORKED + PERMANENT, ids=repr)
def test_a_create_that_may_have_reached_the_provider_is_never_retried(error, worked):
    assert delay(error, repeat=Repeat.IF_NOT_SENT, worked=worked) is None


@pytest.mark.parametrize(
    "error", [BifrostUnavailable("x", sent=False), BifrostRateLimited("x", sent=False, status_code=429)]
)
def test_a_create_that_certainly_did_not_reach_the_provider_is_retried(error):
    assert delay(error, repeat=Repeat.IF_NOT_SENT) == 0.25


def test_an_upload_whose_connection_breaks_is_retried_a_few_times_only():
    """A file over the gateway's limit breaks the connection each time, and may have a hundred megabytes."""
    attempts = replace(POLICY, clock=Clock(), random=lambda: 0.0).attempts(Repeat.UPLOAD)
    broken = BifrostUnavailable("x")
    assert [attempts.delay(broken) for _ in range(MAX_BROKEN_UPLOADS)] == [0.0] * (MAX_BROKEN_UPLOADS - 1) + [None]


def test_an_upload_is_retried_as_long_as_the_gateway_refuses_connections_or_answers_an_error():
    attempts = replace(POLICY, clock=Clock(), random=lambda: 0.0).attempts(Repeat.UPLOAD)
    for _ in range(20):
        assert attempts.delay(BifrostUnavailable("x", sent=False)) == 0.0
        assert attempts.delay(BifrostUnavailable("x", status_code=503)) == 0.0


def test_retry_after_is_waited_for_in_addition_to_the_jitter():
    assert delay(BifrostRateLimited("x", retry_after=5)) == 5.25


def test_the_last_retry_begins_within_the_budget():
    clock = Clock()
    attempts = replace(POLICY, clock=clock, random=lambda: 0.0).attempts()
    error = BifrostUnavailable("x")
    clock.now = 60.0
    assert attempts.delay(error) == 0.0
    clock.now = 60.1
    assert attempts.delay(error) is None
    assert delay(BifrostRateLimited("x", retry_after=61)) is None


@settings(deadline=None)
@given(st.lists(st.floats(0, 120), max_size=50), st.floats(0, 600), st.floats(0, 1, exclude_max=True))
def test_no_retry_ever_begins_after_the_budget(took, budget, chance):
    clock = Clock()
    attempts = RetryPolicy(budget=budget, clock=clock, random=lambda: chance).attempts()
    for seconds in took:
        clock.now += seconds
        pause = attempts.delay(BifrostUnavailable("x"))
        if pause is None:
            return
        clock.now += pause
        assert clock.now <= budget + 1e-6


def test_without_a_budget_nothing_is_retried():
    assert delay(BifrostUnavailable("x"), policy=NO_RETRY) is None


def test_the_default_budget_outlives_a_restart_of_the_gateway():
    assert RetryPolicy().budget == 300
