"""The state machine of a run, with many orders of events. There is no HTTP: a simulated provider answers each step."""

from __future__ import annotations

from hypothesis import given, settings
from support.run_world import RunWorld
from support.walks import Story, is_nightly, play, stories, walk


@given(stories(RunWorld))
@settings(deadline=None, max_examples=2_000 if is_nightly() else 100)
def test_no_row_is_paid_twice_and_each_paid_result_is_written(story: Story) -> None:
    play(RunWorld, story)


def test_no_row_is_paid_twice_and_each_paid_result_is_written_in_long_walks() -> None:
    """The same with many more orders, for which Hypothesis would take hours."""
    assert walk(RunWorld, steps=1_000_000 if is_nightly() else 10_000)
