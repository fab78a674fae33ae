"""Which batch is polled when, and how: in virtual time, without HTTP and without an event loop."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from support.schedule_world import ScheduleWorld
from support.simulation import NOW, Simulation
from support.walks import Story, is_nightly, play, stories, walk

from airflow_bifrost.exceptions import (
    BifrostAuthError,
    BifrostConfigurationError,
    BifrostError,
    BifrostProtocolError,
    BifrostRateLimited,
    BifrostRequestError,
    BifrostUnavailable,
)
from airflow_bifrost.waiting.decision import Finished, GiveUp, TimedOut
from airflow_bifrost.waiting.group import SWEEP_PATIENCE
from airflow_bifrost.waiting.policy import WaitPolicy
from airflow_bifrost.waiting.schedule import LAST_POLL_WITHIN
from airflow_bifrost.waiting.waits import PollPage, Request

INTERVAL = 60.0
POLICY = WaitPolicy(INTERVAL, NOW + 86_400, 300.0)


def names(number: int, prefix: str = "batch") -> list[str]:
    return [f"{prefix}_{n:05d}" for n in range(number)]


def running(number: int, policy: WaitPolicy = POLICY, **options: object) -> Simulation:
    """A simulation in which all is well, after two intervals."""
    simulation = Simulation(names(number), **options)  # type: ignore[arg-type]
    simulation.wait_for_all(policy)
    simulation.run(2 * INTERVAL)
    simulation.asked.clear()
    return simulation


def lists_fail(error: BifrostError):
    return lambda request: error if isinstance(request, PollPage) else None


# How a batch is polled


def test_a_few_batches_are_polled_by_their_ids() -> None:
    simulation = running(3)
    simulation.run(10 * INTERVAL)
    assert simulation.count["list"] == 0
    assert 3 * 9 <= simulation.count["get"] <= 3 * 12


def test_a_thousand_batches_are_polled_by_pages_and_hardly_by_their_ids() -> None:
    simulation = running(1000)
    simulation.run(10 * INTERVAL)
    assert 100 <= simulation.count["list"] <= 125  # ten pages in each of ten intervals, and sweeps
    assert simulation.count["get"] <= 10


def test_a_batch_that_a_list_shows_as_ended_is_confirmed_by_one_poll_of_its_own() -> None:
    simulation = running(300)
    ended = simulation.ids[::3]
    simulation.status.update(dict.fromkeys(ended, "completed"))
    simulation.run(2 * INTERVAL)
    assert {wait.batch_id for wait in simulation.waits if isinstance(wait.end, Finished)} == set(ended)
    polled = Counter(what for kind, what, _ in simulation.asked if kind == "get")
    assert {polled[batch_id] for batch_id in ended} == {1}


def test_a_batch_that_no_list_shows_is_polled_by_its_id() -> None:
    simulation = Simulation(names(200))
    simulation.hidden = set(simulation.ids[:3])
    simulation.wait_for_all(POLICY)
    simulation.run(3 * INTERVAL)
    polled = Counter(what for kind, what, _ in simulation.asked if kind == "get")
    assert all(polled[batch_id] >= 2 for batch_id in simulation.hidden)


def test_batches_that_no_list_shows_are_polled_however_many_sweeps_there_are() -> None:
    simulation = Simulation(names(300))
    simulation.hidden = set(simulation.ids[:30])
    simulation.wait_for_all(POLICY)
    for _ in range(30):  # ever more batches make every sweep worthwhile
        for number in range(10):
            simulation.wait(f"batch_{90_000 + number}", POLICY)
        simulation.run(10)
    polled = {what for kind, what, _ in simulation.asked if kind == "get"}
    assert polled >= simulation.hidden


def test_a_page_that_loses_a_batch_leaves_it_to_a_poll_by_its_id() -> None:
    simulation = running(100)
    simulation.hidden = {simulation.ids[50]}
    simulation.status[simulation.ids[50]] = "completed"
    simulation.run(2 * INTERVAL)
    assert isinstance(simulation.waits[50].end, Finished)


def test_batches_that_new_ones_push_off_the_first_page_are_still_polled() -> None:
    simulation = running(120)
    simulation.ids += [f"batch_{number}" for number in range(50_000, 50_150)]
    simulation.run(INTERVAL)
    simulation.status.update(dict.fromkeys(simulation.ids, "completed"))
    simulation.run(2 * INTERVAL)
    assert all(isinstance(wait.end, Finished) for wait in simulation.waits)


@pytest.mark.parametrize("provider", ["anthropic", "bedrock", "gemini"])
def test_a_provider_whose_list_has_one_page_is_polled_there_and_for_the_rest_by_id(provider: str) -> None:
    prefix = "batches-" if provider == "gemini" else "batch_"
    simulation = Simulation([f"{prefix}{number}" for number in range(1000, 1150)], provider=provider)
    simulation.wait_for_all(POLICY)
    simulation.run(3 * INTERVAL)
    simulation.status.update(dict.fromkeys(simulation.ids, "ended" if provider == "anthropic" else "completed"))
    simulation.run(2 * INTERVAL)
    assert all(isinstance(wait.end, Finished) for wait in simulation.waits)
    assert {what for kind, what, _ in simulation.asked if kind == "list"} == {None}


def test_without_coalescing_no_list_is_polled() -> None:
    simulation = running(100, coalesce=False)
    simulation.run(2 * INTERVAL)
    assert simulation.count["list"] == 0


def test_several_waits_for_one_batch_share_its_polls() -> None:
    simulation = Simulation(names(1))
    for _ in range(20):
        simulation.wait(simulation.ids[0], POLICY)
    simulation.run(1)
    simulation.asked.clear()
    simulation.run(10 * INTERVAL)
    assert simulation.count["get"] <= 12
    simulation.status[simulation.ids[0]] = "completed"
    simulation.run(2 * INTERVAL)
    assert all(isinstance(wait.end, Finished) for wait in simulation.waits)


def test_a_cursor_that_leads_back_ends_the_sweep() -> None:
    simulation = Simulation(names(300))
    page, _ = simulation._page(None)
    simulation._page = lambda cursor: (page, "back")  # type: ignore[method-assign]
    simulation.wait_for_all(POLICY)
    simulation.run(5 * INTERVAL)
    assert simulation.count["list"] <= 50
    simulation.status.update(dict.fromkeys(simulation.ids[:200], "completed"))
    simulation.run(2 * INTERVAL)
    assert all(isinstance(wait.end, Finished) for wait in simulation.waits[:200])


def test_a_batch_that_the_sweep_did_not_find_is_polled_as_soon_as_the_sweep_ends() -> None:
    simulation = Simulation(names(100), latency=0.1, max_in_flight=4)
    simulation.hidden = set(simulation.ids[:1])
    for batch_id in simulation.ids:
        simulation.wait(batch_id, POLICY)
    simulation.run(SWEEP_PATIENCE / 2)
    assert [what for kind, what, _ in simulation.asked if kind == "get"] == [simulation.ids[0]]


# Lists that fail


@pytest.mark.parametrize(
    "error",
    [
        BifrostRequestError("400"),
        BifrostAuthError("403"),
        BifrostProtocolError("not a list"),
        BifrostUnavailable("500"),
    ],
    ids=str,
)
def test_where_the_list_fails_every_batch_is_polled_by_its_id(error: BifrostError) -> None:
    simulation = running(300)
    simulation.fault = lists_fail(error)
    simulation.status.update(dict.fromkeys(simulation.ids, "completed"))
    simulation.run(12 * INTERVAL)
    assert all(isinstance(wait.end, Finished) for wait in simulation.waits)
    assert simulation.count["list"] <= 12


def test_an_entry_that_cannot_be_read_affects_only_its_own_wait() -> None:
    simulation = Simulation([*names(50), "an ID that no model accepts" * 1000])
    simulation.wait_for_all(POLICY)
    simulation.run(3 * INTERVAL)
    *others, own = simulation.waits
    assert simulation.count["list"]
    assert not own.over
    assert own.state.faults
    assert all(wait.state.worked and not wait.state.faults for wait in others)


def test_a_list_that_works_again_is_used_again() -> None:
    simulation = running(300)
    simulation.fault = lists_fail(BifrostRequestError("400"))
    simulation.run(5 * INTERVAL)
    simulation.fault = lambda request: None
    simulation.run(1800)
    simulation.asked.clear()
    simulation.run(5 * INTERVAL)
    assert simulation.count["get"] <= 30


def test_a_wait_whose_page_shrank_while_it_was_polled_survives_the_fault_of_that_poll() -> None:
    simulation = running(4)
    simulation.run(INTERVAL, until=lambda: any(isinstance(request, PollPage) for request in simulation.in_flight))
    simulation.schedule.remove(simulation.waits[0])
    simulation.waits[0].end = TimedOut(simulation.waits[0].state)
    simulation.fault = lists_fail(BifrostUnavailable("503"))
    simulation.run(1)
    simulation.check()
    simulation.fault = lambda request: None
    simulation.status.update(dict.fromkeys(simulation.ids, "completed"))
    simulation.run(10 * INTERVAL)
    assert all(isinstance(wait.end, Finished) for wait in simulation.waits[1:])


# Outages, limits, tokens


def test_in_an_outage_one_request_probes_for_all() -> None:
    simulation = running(500)
    simulation.fault = lambda request: BifrostUnavailable("503")
    simulation.run(3600)
    assert simulation.schedule.is_outage
    assert simulation.count.total() <= 3600 / 20 + 20  # a probe about every 30 s
    assert len(simulation.waiting) == 500
    simulation.fault = lambda request: None
    simulation.status.update(dict.fromkeys(simulation.ids, "completed"))
    simulation.run(3 * INTERVAL)
    assert not simulation.schedule.is_outage
    assert all(isinstance(wait.end, Finished) for wait in simulation.waits)


def test_after_an_outage_the_requests_come_back_one_by_one_and_not_at_once() -> None:
    simulation = running(500, coalesce=False)
    simulation.fault = lambda request: BifrostUnavailable("503")
    simulation.run(600)
    simulation.fault = lambda request: None
    simulation.most_in_flight = 0
    simulation.run(60, until=lambda: not simulation.schedule.is_outage)
    assert simulation.most_in_flight == 1


def test_an_outage_of_one_provider_does_not_delay_the_others() -> None:
    simulation = Simulation(names(40), coalesce=False)
    for number, batch_id in enumerate(simulation.ids):
        simulation.wait(batch_id, POLICY, provider="openai" if number < 30 else "azure")
    simulation.fault = lambda request: BifrostUnavailable("503") if request.group.name == "openai" else None
    simulation.run(3600)
    simulation.status.update(dict.fromkeys(simulation.ids, "completed"))
    simulation.run(1.2 * INTERVAL)
    assert [isinstance(wait.end, Finished) for wait in simulation.waits] == [False] * 30 + [True] * 10


def test_a_429_pauses_the_whole_connection() -> None:
    simulation = running(50, coalesce=False)
    limited = [BifrostRateLimited("429", retry_after=50.0)]
    simulation.fault = lambda request: limited.pop() if limited else None
    simulation.run(INTERVAL, until=lambda: not limited)
    simulation.run(1)  # those in flight
    simulation.asked.clear()
    simulation.run(45)
    assert not simulation.asked
    simulation.run(20)
    assert simulation.asked


def test_a_refused_token_polls_once_more_after_the_lookup_and_not_before() -> None:
    simulation = running(1)
    simulation.fault = lambda request: BifrostAuthError("401")
    simulation.run(2 * INTERVAL)
    assert simulation.count["get"] == 2
    assert isinstance(simulation.waits[0].end, GiveUp)


def test_a_connection_that_is_missing_ends_the_waits_that_are_due_and_no_others() -> None:
    simulation = Simulation(names(2))
    simulation.wait(simulation.ids[0], POLICY)
    simulation.wait(simulation.ids[1], POLICY, after=100)
    simulation.follow(simulation.schedule.tick(NOW))
    simulation.follow(simulation.schedule.on_lookup_fault(BifrostConfigurationError("undefined"), NOW))
    assert isinstance(simulation.waits[0].end, GiveUp)
    assert simulation.waits[1].end is None


# Fairness


def test_a_provider_that_hangs_leaves_slots_for_the_others() -> None:
    simulation = Simulation(names(40), coalesce=False, max_in_flight=4)
    for batch_id in simulation.ids:
        simulation.wait(batch_id, POLICY, provider="openai")
    quick = simulation.wait("azure_1", POLICY, provider="azure")
    requests: list[Request] = []
    simulation.schedule.tick(NOW)
    while (request := simulation.schedule.next_request(NOW)) is not None:
        requests.append(request)  # and none is ever answered
    assert quick.request in requests
    assert sum(request.group.name == "openai" for request in requests) == 2


def test_with_one_slot_providers_take_turns() -> None:
    simulation = Simulation(names(400), coalesce=False, max_in_flight=1, latency=1.0)
    for number, batch_id in enumerate(simulation.ids):
        simulation.wait(batch_id, POLICY, provider="openai" if number < 390 else "azure")
    simulation.run(30)
    polled = Counter("azure" if what and what >= "batch_00390" else "openai" for _, what, _ in simulation.asked)
    assert polled["azure"] >= 10


def test_within_a_provider_the_longest_due_is_polled_first() -> None:
    simulation = Simulation(names(100), coalesce=False, max_in_flight=1, latency=2.0)
    simulation.wait_for_all(POLICY)
    simulation.run(205)
    assert [what for _, what, _ in simulation.asked[:100]] == simulation.ids


def test_no_more_requests_are_in_flight_than_the_connection_allows() -> None:
    simulation = Simulation(names(500), coalesce=False, max_in_flight=5, latency=5.0)
    simulation.wait_for_all(POLICY)
    simulation.run(10 * INTERVAL)
    assert simulation.most_in_flight <= 5


# Deadlines and clocks


def test_a_wait_is_polled_at_its_deadline_and_then_times_out() -> None:
    simulation = running(10, WaitPolicy(INTERVAL, NOW + 200, 300.0))
    simulation.run(200)
    assert all(isinstance(wait.end, TimedOut) for wait in simulation.waits)
    for wait in simulation.waits:
        assert max(at for _, what, at in simulation.asked if what == wait.batch_id) >= NOW + 200


def test_at_the_deadline_a_list_does_not_have_the_last_word() -> None:
    simulation = running(100, WaitPolicy(INTERVAL, NOW + 300, 300.0))
    stale, cursor = simulation._page(None)
    simulation._page = lambda _: (stale, cursor)  # type: ignore[method-assign]
    simulation.status.update(dict.fromkeys(simulation.ids, "completed"))
    simulation.run(300)
    assert all(isinstance(wait.end, Finished) for wait in simulation.waits)


def test_a_wait_without_any_answer_times_out_soon_after_its_deadline() -> None:
    simulation = Simulation(names(20), coalesce=False, latency=1e6)
    simulation.wait_for_all(WaitPolicy(INTERVAL, NOW + 200, 300.0))
    simulation.run(200 + 2 * LAST_POLL_WITHIN + 1)
    assert all(isinstance(wait.end, TimedOut) for wait in simulation.waits)


def test_a_process_that_slept_through_the_deadline_polls_once_more_before_it_gives_up() -> None:
    simulation = running(20, WaitPolicy(INTERVAL, NOW + 3600, 300.0))
    simulation.now += 86_400  # the machine was suspended
    simulation.status.update(dict.fromkeys(simulation.ids[:10], "completed"))
    simulation.run(LAST_POLL_WITHIN)
    assert all(isinstance(wait.end, Finished) for wait in simulation.waits[:10])
    assert all(isinstance(wait.end, TimedOut) for wait in simulation.waits[10:])


def test_a_wait_that_begins_after_its_deadline_is_still_polled() -> None:
    simulation = Simulation(names(1))
    simulation.status[simulation.ids[0]] = "completed"
    wait = simulation.wait(simulation.ids[0], WaitPolicy(INTERVAL, NOW - 3600, 300.0))
    simulation.run(5)
    assert isinstance(wait.end, Finished)


@pytest.mark.parametrize("coalesce", [True, False])
def test_a_clock_that_is_set_back_puts_no_poll_off_for_longer_than_an_interval(coalesce: bool) -> None:
    simulation = running(50, coalesce=coalesce)
    simulation.now -= 10 * 86_400
    simulation.status.update(dict.fromkeys(simulation.ids, "completed"))
    simulation.run(3 * INTERVAL)
    assert all(isinstance(wait.end, Finished) for wait in simulation.waits)


# A default provider that changes


def test_another_default_provider_keeps_every_wait() -> None:
    simulation = running(50)
    from airflow_bifrost.gateway.config import GatewayConfig

    simulation.schedule.connect(GatewayConfig("http://gw.example", provider="anthropic", max_in_flight=3))
    simulation.check()
    simulation.status.update(dict.fromkeys(simulation.ids, "ended"))
    simulation.run(2 * INTERVAL)
    assert all(isinstance(wait.end, Finished) for wait in simulation.waits)


@given(stories(ScheduleWorld))
@settings(deadline=None, max_examples=1_000 if is_nightly() else 30)
def test_no_wait_is_forgotten_whatever_the_order_of_events(story: Story) -> None:
    play(ScheduleWorld, story)


def test_no_wait_is_forgotten_in_long_walks() -> None:
    """The same with many more orders, for which Hypothesis would take hours."""
    assert walk(ScheduleWorld, steps=1_000_000 if is_nightly() else 8_000)


def test_the_timetable_does_not_grow_with_the_number_of_polls_or_of_ended_waits() -> None:
    simulation = Simulation(names(250), coalesce=False, latency=0.001)
    simulation.wait(simulation.ids[-1], WaitPolicy(1.0, NOW + 1e6, 300.0))
    for batch_id in simulation.ids[:-1]:
        simulation.wait(batch_id, WaitPolicy(1e5, NOW + 1e6, 300.0))
    simulation.run(3000)
    assert len(simulation.schedule._timetable) <= 250 + 4 * 250 + 100 + 1
    for wait in simulation.waits[1:]:
        simulation.schedule.remove(wait)
    assert len(simulation.schedule._timetable) <= 2 * 205
    assert not simulation.waits[0].over
