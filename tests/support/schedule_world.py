"""Waits come and go, answers and errors come in any order, lists lie and break, the clock jumps: no wait is forgotten, and once all is well
again every batch that has ended is found to have ended."""

from __future__ import annotations

from airflow_bifrost.exceptions import (
    BifrostAuthError,
    BifrostError,
    BifrostProtocolError,
    BifrostRateLimited,
    BifrostRequestError,
    BifrostUnavailable,
)
from airflow_bifrost.waiting.decision import Finished, GiveUp
from airflow_bifrost.waiting.group import SWEEP_PATIENCE
from airflow_bifrost.waiting.policy import WaitPolicy
from support.simulation import NOW, Simulation
from support.walks import World, event

INTERVAL = 60.0
BATCHES = range(30)
NUMBERS = range(100)
ERRORS = [
    BifrostUnavailable("503"),
    BifrostUnavailable("503", retry_after=100.0),
    BifrostRateLimited("429", retry_after=30.0),
    BifrostRateLimited("429"),
    BifrostProtocolError("garbage"),
    BifrostAuthError("401"),
    BifrostRequestError("400"),
]
SURVIVABLE = (BifrostUnavailable, BifrostRateLimited, BifrostProtocolError)


class ScheduleWorld(World):
    """A schedule, the gateway that it polls, and the triggers that wait."""

    def __init__(self) -> None:
        self.simulation = Simulation([f"batch_{number:05d}" for number in BATCHES], latency=0.5, max_in_flight=4)
        self.simulation.page_cap = 10
        self.policy = WaitPolicy(INTERVAL, NOW + 1e9, 300.0)

    @property
    def steps(self) -> int:
        return len(self.simulation.asked)

    @event(3, batch=BATCHES, after=[0.0, 1.0, 20.0, 100.0], provider=[None, None, "azure", "anthropic"])
    def a_wait_begins(self, batch: int, after: float, provider: str | None) -> None:
        self.simulation.wait(self.simulation.ids[batch], self.policy, provider, after)

    @event(batches=[2, 10, 30])
    def many_waits_begin(self, batches: int) -> None:
        for number in range(batches):
            self.simulation.wait(self.simulation.ids[number], self.policy, after=float(number))

    @event(number=NUMBERS)
    def a_wait_is_left(self, number: int) -> None:
        if waiting := self.simulation.waiting:
            wait = waiting[number % len(waiting)]
            self.simulation.schedule.remove(wait)
            self.simulation.schedule.remove(wait)  # leaving twice does no harm

    @event(3, seconds=[0.0, 0.3, 5.0, 60.0, 200.0])
    def time_passes(self, seconds: float) -> None:
        self.simulation.run(seconds)

    @event(seconds=[-1e7, -3600.0, -60.0, -3.0, 3.0, 60.0, 3600.0, 1e6])
    def the_clock_is_set(self, seconds: float) -> None:
        self.simulation.now += seconds
        self.simulation.tick()

    @event(number=NUMBERS)
    def an_answer_comes(self, number: int) -> None:
        self.simulation.answer_one(number)

    @event(3, number=NUMBERS, error=ERRORS)
    def a_fault_comes(self, number: int, error: BifrostError) -> None:
        self.simulation.fault = lambda request: error
        self.simulation.answer_one(number)
        self.simulation.fault = lambda request: None

    @event(seconds=[60.0, 600.0, 3600.0], error=ERRORS[:5])
    def there_is_an_outage(self, seconds: float, error: BifrostError) -> None:
        self.simulation.fault = lambda request: error
        self.simulation.run(seconds)
        self.simulation.fault = lambda request: None

    @event(number=NUMBERS)
    def a_request_is_cancelled(self, number: int) -> None:
        self.simulation.cancel_one(number)

    @event(first=BATCHES, last=BATCHES)
    def the_list_hides_batches(self, first: int, last: int) -> None:
        self.simulation.hidden = set(self.simulation.ids[first:last])

    @event(batches=range(5))
    def new_batches_push_the_others_down(self, batches: int) -> None:
        self.simulation.ids += [f"new_{len(self.simulation.ids)}_{number}" for number in range(batches)]

    @event(first=BATCHES, status=["completed", "in_progress"])
    def some_batches_end(self, first: int, status: str) -> None:
        self.simulation.status.update(dict.fromkeys(self.simulation.ids[first : first + 5], status))

    def check(self) -> None:
        self.simulation.tick()
        self.simulation.check()
        assert len(self.simulation.in_flight) <= 4
        for wait in self.simulation.waiting:
            if wait.request is None and wait not in wait.group.due:
                assert wait.next_poll_at <= self.simulation.now + 600 + SWEEP_PATIENCE, (
                    "a poll is further away than a pause"
                )

    def finish(self) -> None:
        """Every batch ends, and every wait for it finishes within a few pauses."""
        self.simulation.status.update(dict.fromkeys(self.simulation.ids, "completed"))
        self.simulation.run(1800, until=lambda: not self.simulation.waiting)
        for wait in self.simulation.waits:
            assert wait.over
            assert wait.end is None or isinstance(wait.end, Finished | GiveUp)
            if isinstance(wait.end, GiveUp):
                assert not isinstance(wait.end.error, SURVIVABLE) or not wait.state.worked
        assert not self.simulation.waiting
        assert all(not group.due and not group.waits for group in self.simulation.schedule._groups.values())
