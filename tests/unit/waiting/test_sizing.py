"""The rule of docs/sizing.md for ``max_in_flight``, in virtual time."""

from __future__ import annotations

import pytest
from support.simulation import NOW, Simulation

from airflow_bifrost.waiting.policy import WaitPolicy

WAITS, INTERVAL, LATENCY = 240, 60.0, 2.0
NEEDED = WAITS * LATENCY / INTERVAL  # requests in flight, if each batch is polled by its ID


@pytest.mark.parametrize(("max_in_flight", "on_time"), [(round(1.5 * NEEDED), True), (round(NEEDED / 2), False)])
def test_waits_are_polled_on_time_if_the_rule_holds_and_late_if_it_does_not(max_in_flight: int, on_time: bool) -> None:
    simulation = Simulation(
        [f"batch_{n}" for n in range(WAITS)], latency=LATENCY, coalesce=False, max_in_flight=max_in_flight
    )
    simulation.wait_for_all(WaitPolicy(INTERVAL, NOW + 86_400, 300.0))
    simulation.run(5 * INTERVAL)
    simulation.asked.clear()
    simulation.run(10 * INTERVAL)
    polls = len(simulation.asked) / (WAITS * 10)  # of each batch in each interval
    assert (polls > 0.95) == on_time
    assert len(simulation.waiting) == WAITS
