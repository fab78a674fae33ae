"""How many requests a gateway gets at a time: a 429 slows the connection, one request probes an outage, recovery is no stampede."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_bifrost.exceptions import BifrostRateLimited, BifrostUnavailable
from airflow_bifrost.waiting.clock import SET_BACK
from airflow_bifrost.waiting.limits import RATE_LIMIT_CAP, ConcurrencyLimit
from airflow_bifrost.waiting.outage import OUTAGE, PROBE_CAP, CircuitBreaker

NOW = 1_775_400_000.0


def rate_limited(
    limit: ConcurrencyLimit, retry_after: float | None = None, *, now: float = NOW, sent_at: float = NOW, chance=0.5
) -> None:
    error = BifrostRateLimited("429", retry_after=retry_after)
    limit.on_rate_limit(error, sent_at=max(sent_at, now), now=now, random=lambda: chance)


def unavailable(breaker: CircuitBreaker, times: int = 1, *, now: float = NOW, chance: float = 0.5) -> None:
    for _ in range(times):
        breaker.on_fault(BifrostUnavailable("503"), sent_at=now, now=now, random=lambda: chance)


def test_a_limit_allows_what_it_was_given_when_all_is_well() -> None:
    assert ConcurrencyLimit(8).slots(NOW) == 8


@pytest.mark.parametrize("chance", [0.0, 0.99])
def test_a_retry_after_pauses_the_connection_for_as_long(chance: float) -> None:
    limit = ConcurrencyLimit(8)
    rate_limited(limit, 40.0, chance=chance)
    assert limit.slots(NOW + 39.9) == 0
    assert limit.slots(NOW + 44.1) == 1


def test_without_a_retry_after_each_429_doubles_the_pause() -> None:
    limit, now, pauses = ConcurrencyLimit(8), NOW, []
    for _ in range(10):
        rate_limited(limit, now=now, chance=0.0)
        pauses.append(limit.paused_until - now)
        now = limit.paused_until
    assert pauses[:3] == [1.0, 2.0, 4.0]
    assert pauses[-1] == RATE_LIMIT_CAP


def test_a_later_429_never_cuts_an_earlier_pause_short() -> None:
    limit = ConcurrencyLimit(8)
    rate_limited(limit, 300.0)
    rate_limited(limit, 1.0)
    assert limit.slots(NOW + 299) == 0


def test_after_a_429_the_number_of_requests_doubles_with_each_answer() -> None:
    limit, slots = ConcurrencyLimit(8), []
    rate_limited(limit, 1.0)
    for _ in range(5):
        slots.append(limit.slots(NOW + 60))
        limit.on_answer()
    assert slots == [1, 2, 4, 8, 8]


def test_requests_in_flight_when_a_429_came_do_not_lengthen_the_pause() -> None:
    limit = ConcurrencyLimit(8)
    for _ in range(8):
        limit.on_rate_limit(BifrostRateLimited("429"), sent_at=NOW - 1, now=NOW, random=lambda: 0.0)
    assert limit.paused_until == NOW + 1.0


def test_a_closed_breaker_sets_no_limit() -> None:
    breaker = CircuitBreaker()
    unavailable(breaker, OUTAGE - 1)
    assert breaker.slots(NOW) is None


def test_an_answer_between_faults_keeps_the_breaker_closed() -> None:
    breaker = CircuitBreaker()
    for _ in range(10):
        unavailable(breaker, OUTAGE - 1)
        assert breaker.on_answer() is False
    assert breaker.fault is None


def test_one_request_probes_an_outage_after_pauses_that_grow_to_a_cap() -> None:
    breaker, now, pauses = CircuitBreaker(), NOW, []
    unavailable(breaker, OUTAGE - 1)
    for _ in range(12):
        unavailable(breaker, now=now)
        assert breaker.slots(now) == 0
        pauses.append(breaker.paused_until - now)
        now = breaker.paused_until
        assert breaker.slots(now) == 1
    assert pauses == sorted(pauses)
    assert pauses[0] < 2
    assert pauses[-1] == PROBE_CAP


def test_an_answer_ends_an_outage() -> None:
    breaker = CircuitBreaker()
    unavailable(breaker, OUTAGE)
    assert breaker.on_answer() is True
    assert breaker.slots(NOW) is None


def test_requests_in_flight_when_the_breaker_opened_are_no_further_faults() -> None:
    breaker = CircuitBreaker()
    for _ in range(8):
        breaker.on_fault(BifrostUnavailable("503"), sent_at=NOW - 1, now=NOW, random=lambda: 0.0)
    assert NOW < breaker.paused_until <= NOW + 1.0


@given(
    jumps=st.lists(st.tuples(st.floats(-1e6, 1e6), st.none() | st.floats(0, 3600)), max_size=20),
    chance=st.floats(0, 0.999),
)
@example(jumps=[(0.0, 59.0), (-2.0, None)], chance=0.875)  # a small correction of the clock
@settings(deadline=None)
def test_no_pause_lasts_longer_than_its_own_length_and_a_correction_of_the_clock(
    jumps: list[tuple[float, float | None]], chance: float
) -> None:
    limit, breaker, now = ConcurrencyLimit(8), CircuitBreaker(), NOW
    longest = RATE_LIMIT_CAP
    for jump, retry_after in jumps:
        now += jump
        longest = max(longest, retry_after or 0.0)
        rate_limited(limit, retry_after, now=now, chance=chance)
        error = BifrostUnavailable("503", retry_after=retry_after)
        breaker.on_fault(error, sent_at=now, now=now, random=lambda: chance)
        for moment in (now, now - 1e5):  # set back right after the pause began
            assert limit.slots(moment) or limit.paused_until - moment <= 1.1 * longest + SET_BACK + 0.01
            assert breaker.slots(moment) != 0 or breaker.paused_until - moment <= 1.25 * longest + SET_BACK + 0.01
