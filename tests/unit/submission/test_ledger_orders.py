"""A ledger under crashes, lost answers, repeated creates, lists that lie, lost records, clocks and a second worker: no input is paid twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ledger_world import LedgerWorld, LedgerWorldWithoutMetadata
from support.walks import is_nightly, play, stories, walk

WORLDS = pytest.mark.parametrize("world", [LedgerWorld, LedgerWorldWithoutMetadata])


@WORLDS
@given(data=st.data())
@settings(deadline=None, max_examples=1_000 if is_nightly() else 30)
def test_no_input_is_paid_twice_and_no_paid_batch_is_lost(world: type[LedgerWorld], data: st.DataObject) -> None:
    play(world, data.draw(stories(world)))


@WORLDS
def test_no_input_is_paid_twice_and_no_paid_batch_is_lost_in_long_walks(world: type[LedgerWorld]) -> None:
    """The same with many more orders, for which Hypothesis would take hours."""
    assert walk(world, steps=1_000_000 if is_nightly() else 8_000)
