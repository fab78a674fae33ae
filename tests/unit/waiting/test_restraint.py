"""How much a gateway may be asked: limits slow the connection, an outage is probed by one, recovery is no stampede."""

from __future__ import annotations

import pytest

from airflow_bifrost.exceptions import (
    BatchNotFound,
    BifrostAuthError,
    BifrostBudgetExceeded,
    BifrostProtocolError,
    BifrostRateLimited,
    BifrostRequestError,
    BifrostUnavailable,
)
from airflow_bifrost.waiting.restraint import LIMIT_CAP, OUTAGE, PROBE_CAP, Restraint

NOW = 1_775_400_000.0


def failed(restraint: Restraint, error, times=1, now=NOW, random=0.5):
    for _ in range(times):
        restraint.on_fault(error, now=now, random=lambda: random)


def test_when_all_is_well_it_lets_through_what_it_is_told():
    assert Restraint(8).slots(NOW) == 8


def test_a_single_fault_changes_nothing():
    restraint = Restraint(8)
    failed(restraint, BifrostUnavailable("x"), OUTAGE - 1)
    assert restraint.slots(NOW) == 8
    assert restraint.fault is None


def test_an_answer_between_them_keeps_faults_from_being_an_outage():
    restraint = Restraint(8)
    for _ in range(10):
        failed(restraint, BifrostUnavailable("x"), OUTAGE - 1)
        assert restraint.on_answer() is False
    assert restraint.fault is None


def test_an_outage_is_probed_by_one_request_after_a_pause_that_grows_to_a_cap():
    restraint, pauses = Restraint(8), []
    failed(restraint, BifrostUnavailable("x"), OUTAGE - 1)
    now = NOW
    for _ in range(12):
        failed(restraint, BifrostUnavailable("x"), now=now)
        assert restraint.slots(now) == 0
        pauses.append(restraint.paused_until - now)
        now = restraint.paused_until
        assert restraint.slots(now) == 1
    assert pauses == sorted(pauses)
    assert pauses[0] < 2
    assert pauses[-1] == PROBE_CAP


def test_after_an_outage_the_requests_come_back_step_by_step():
    restraint = Restraint(8)
    failed(restraint, BifrostUnavailable("x"), OUTAGE)
    assert restraint.on_answer() is True
    later, slots = NOW + PROBE_CAP, []
    for _ in range(5):
        slots.append(restraint.slots(later))
        assert restraint.on_answer() is False
    assert slots == [1, 2, 4, 8, 8]


@pytest.mark.parametrize("random", [0.0, 0.99])
def test_a_retry_after_holds_the_whole_connection_for_as_long(random):
    restraint = Restraint(8)
    failed(restraint, BifrostRateLimited("x", retry_after=40.0), random=random)
    assert restraint.slots(NOW + 39.9) == 0
    assert restraint.slots(NOW + 44.1) == 1


def test_a_limit_that_does_not_say_how_long_holds_it_the_longer_the_more_often():
    restraint, now, pauses = Restraint(8), NOW, []
    for _ in range(10):
        failed(restraint, BifrostRateLimited("x"), now=now, random=0.0)
        pauses.append(restraint.paused_until - now)
        now = restraint.paused_until
    assert pauses[:3] == [1.0, 2.0, 4.0]
    assert pauses[-1] == LIMIT_CAP


def test_an_earlier_pause_is_never_cut_short_by_a_later_fault():
    restraint = Restraint(8)
    failed(restraint, BifrostRateLimited("x", retry_after=300.0))
    failed(restraint, BifrostRateLimited("x", retry_after=1.0))
    assert restraint.slots(NOW + 299) == 0


@pytest.mark.parametrize(
    "error", [BifrostAuthError, BatchNotFound, BifrostRequestError, BifrostProtocolError, BifrostBudgetExceeded]
)
def test_what_is_about_one_batch_or_the_token_says_nothing_about_the_gateway(error):
    restraint = Restraint(8)
    failed(restraint, error("x"), 20)
    assert restraint.slots(NOW) == 8


@pytest.mark.parametrize("kind", [BifrostUnavailable, BifrostRateLimited])
def test_requests_that_fail_at_one_moment_are_one_fault_once_a_pause_has_begun(kind):
    restraint = Restraint(8)
    for _ in range(8):
        restraint.on_fault(kind("m"), sent_at=99.0, now=100.0, random=lambda: 0.0)
    assert 100.0 < restraint.paused_until <= 101.0
    restraint.on_fault(kind("m"), sent_at=101.0, now=102.0, random=lambda: 0.0)
    assert restraint.paused_until > 103.0
