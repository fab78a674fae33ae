"""The plan of the chaos follows from its seed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from endurance.chaos import RATE, faults, kinds, plan

COMPONENTS = ["api-server", "dag-processor", "scheduler-1", "scheduler-2", "triggerer-1", "triggerer-2"]
KINDS = kinds(COMPONENTS, COMPONENTS[2:4], api_away=20, small_disk="scheduler-2", clocked="triggerer-1")


@settings(deadline=None, max_examples=30)
@given(st.integers(), st.floats(120, 3600))
def test_a_seed_always_gives_the_same_plan_within_the_time_and_without_overlaps(seed: int, seconds: float) -> None:
    events = plan(seed, seconds, KINDS)
    assert events == plan(seed, seconds, KINDS)
    assert all(event.at >= 0 and event.end <= seconds for event in events)
    for number, event in enumerate(events):
        assert not any(event.target == later.target and later.at < event.end for later in events[number + 1 :])


def test_a_long_run_has_every_kind_of_event() -> None:
    assert {kind.what for kind in KINDS} == {event.what for event in plan(1, 1200, KINDS)}


def test_the_faults_of_a_window_let_three_calls_of_ten_fail() -> None:
    passes = 1.0
    for fault in faults():
        passes *= 1 - fault["rate"]
    assert abs(1 - passes - RATE) < 1e-9
