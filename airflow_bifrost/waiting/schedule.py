"""When to poll which batch, and what an answer or an error changes. Pure: no I/O and no clock.

Which request a poll needs (the batch by its ID, a page of the list, or a sweep through the list) is decided for each provider in ``group``.

Time comes in as ``now``, in Unix seconds. The hub reports what happened (a wait begins, an answer or an error came back, a request ended)
and sends what :meth:`Schedule.next_request` returns. Four rules hold whatever happens:

- Each wait has a scheduled poll, or is due, or belongs to a request in flight: no wait is ever forgotten.
- A batch that a page has lost, or that only a list has shown as ended, is polled by its ID.
- No provider takes the slots of the others, and within a provider the longest due comes first.
- No pause lasts longer than its own length, whatever the clock does; and no wait times out without a poll at its deadline.
"""

from __future__ import annotations

import logging
import random as random_module
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from airflow_bifrost.exceptions import (
    BifrostError,
    BifrostGatewayError,
    BifrostProtocolError,
    BifrostRateLimited,
    BifrostUnavailable,
)
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.gateway.responses import counts_of, read_entry
from airflow_bifrost.gateway.values import MAX_WORD
from airflow_bifrost.providers.base import ListedCounts
from airflow_bifrost.providers.statuses import TERMINAL, BatchStatus
from airflow_bifrost.waiting.clock import was_set_back
from airflow_bifrost.waiting.decision import (
    Decision,
    KeepWaiting,
    Line,
    LookUpConnection,
    TimedOut,
    WaitState,
    on_batch,
    on_fault,
)
from airflow_bifrost.waiting.group import ProviderGroup
from airflow_bifrost.waiting.limits import ConcurrencyLimit
from airflow_bifrost.waiting.policy import WaitPolicy
from airflow_bifrost.waiting.timetable import Timetable
from airflow_bifrost.waiting.waits import PollBatch, PollPage, Request, ScheduledWait

LAST_POLL_WITHIN = 30.0  # seconds that the poll at the deadline may take, including the wait for a slot
LIST_FAULTS = 3  # in a row, after which the list is not used for a while
SHARED_AT_ONCE = 100  # waits that take over the fault of an outage in one go


class Update(NamedTuple):
    """What an event means for one wait.

    :param decision: None: nothing changed.
    :param batch: the answer, if it is news for the wait's progress.
    """

    wait: ScheduledWait
    decision: Decision | None
    batch: Batch | None = None


class Schedule:
    """The polls of all waits of one connection.

    :param random: returns numbers uniform in [0, 1).
    """

    def __init__(self, random: Callable[[], float] = random_module.random) -> None:
        self._random = random
        self._config: GatewayConfig | None = None
        self._limit = ConcurrencyLimit(1)  # 429 is about the connection
        self._groups: dict[str | None, ProviderGroup] = {}
        self._timetable = Timetable()
        self._in_flight = 0
        self._served = 0
        self._latest = 0.0  # latest of all times that came in since the clock was last set back

    # Waits come and go

    def add(self, wait: ScheduledWait, state: WaitState, provider: str | None, policy: WaitPolicy, now: float) -> None:
        """Poll a batch from ``state.next_poll_at`` on, until its wait ends."""
        self._saw(now)
        wait.begin(state, policy, self._group(provider))
        wait.group.enter(wait)
        wait.group.poll_at(wait, state.next_poll_at)
        # Also where the deadline passed while no triggerer ran.
        self._timetable.end_at(wait, max(policy.ends_at, now) + LAST_POLL_WITHIN)

    def remove(self, wait: ScheduledWait) -> None:
        """The wait has ended, or its trigger has left."""
        if not wait.over:
            self._timetable.forget(wait)
            wait.group.leave(wait)

    def connect(self, config: GatewayConfig) -> None:
        """The connection was looked up: it says which provider is the default, and how many requests may be in flight."""
        self._config = config
        if self._limit.max_in_flight != config.max_in_flight:
            self._limit = ConcurrencyLimit(config.max_in_flight)
        for group in self._groups.values():
            group.resolve(config)

    def _group(self, provider: str | None) -> ProviderGroup:
        provider = provider.strip().lower() or None if provider else None
        group = self._groups.get(provider)
        if group is None:
            group = self._groups[provider] = ProviderGroup(provider, self._timetable)
            if self._config is not None:
                group.resolve(self._config)
        return group

    # Time

    def tick(self, now: float) -> list[Update]:
        """Collect what is due, and end the waits whose time is over."""
        if was_set_back(self._latest, now):
            self._spread((wait for wait in self._timetable.waits() if wait.request is None), now)
            self._latest = now
        self._saw(now)
        updates = []
        for wait in self._timetable.ended(now):
            if wait.sent_at < wait.policy.deadline and not wait.last_chance:  # the process slept through the deadline
                wait.last_chance = True
                wait.group.poll_at(wait, now)
                self._timetable.end_at(wait, now + LAST_POLL_WITHIN)
                continue
            text = f"No answer for batch {wait.batch_id} until the deadline"
            updates.append(self._follow(wait, TimedOut(wait.state, Line(logging.WARNING, text))))
        for wait in self._timetable.due(now):
            wait.group.due[wait] = None
        return updates

    def _saw(self, now: float) -> None:
        self._latest = max(self._latest, now)

    @property
    def has_due(self) -> bool:
        """Whether some wait is due, and no request has been sent for it."""
        return any(group.due for group in self._groups.values())

    def wake_at(self, now: float) -> float | None:
        """When to call :meth:`tick` next, if nothing happens before; None: nobody waits."""
        times = [] if self._timetable.next_at is None else [self._timetable.next_at]
        for group in self._groups.values():
            if group.due and group.breaker.fault is not None:
                times.append(now)  # more waits than share a fault in one go
            elif group.due and self._limit.paused_until > now:
                times.append(self._limit.paused_until)
        return min(times, default=None)

    def _spread(self, waits: Iterable[ScheduledWait], now: float) -> None:
        """Spread the polls over one interval."""
        for wait in waits:
            wait.group.poll_at(wait, now + wait.policy.interval(None) * self._random())

    # Requests

    def next_request(self, now: float) -> Request | None:
        """The next request to send, if one is due and a slot is free. Call :meth:`finished` when it has ended."""
        if self._config is None:
            return None
        slots = self._limit.slots(now)
        alone = sum(bool(group.waits) for group in self._groups.values()) == 1
        share = max(1, slots - 1 if alone else slots // 2)  # a provider that hangs leaves slots for the others
        candidates = [group for group in self._groups.values() if group.due]
        while candidates and self._in_flight < slots:
            group = min(candidates, key=lambda group: (group.in_flight, group.served))
            request = group.next_request(now) if group.in_flight < min(share, group.slots(now)) else None
            if request is None:
                candidates.remove(group)
                continue
            self._in_flight += 1
            group.in_flight += 1
            self._served += 1
            group.served = self._served
            return request
        return None

    def finished(self, request: Request, now: float) -> None:
        """A request has ended, however it did. What it left without an answer is due at once."""
        self._saw(now)
        self._in_flight -= 1
        request.group.in_flight -= 1
        request.group.finished(request, now)

    # Answers

    def on_batch(self, request: PollBatch, entry: dict[str, Any], now: float) -> list[Update]:
        """The gateway answered for one batch: news for each wait for it."""
        group = request.group
        self._answered(group, now)
        stretch = 0.9 + 0.2 * self._random()
        listed_id = request.waits[0].listed_id
        updates = []
        for wait in list(group.waits.get(listed_id, ())):  # several triggers may wait for the same batch
            wait.counted_at = now
            updates.append(self._on_entry(wait, entry, now, stretch, counted=True))
            if listed_id in group.waits:
                group.index.learn_age(listed_id, wait.created_at)
        return updates

    def on_page(
        self, request: PollPage, entries: Sequence[dict[str, Any]], next_cursor: str | None, now: float
    ) -> list[tuple[ScheduledWait, dict[str, Any]]]:
        """Take the answer for a page of the list.

        :return: for :meth:`on_entry`: the waits whose batches it shows, and what it shows.
        """
        group = request.group
        group.list_faults = 0
        self._answered(group, now)
        shown = {group.facts.listed_id(entry["id"]): entry for entry in entries}
        ages = [entry["created_at"] for entry in entries if isinstance(entry.get("created_at"), int)]
        in_sweep = request.walked is not None
        result = group.index.on_page(
            request.cursor, shown, next_cursor, oldest=min(ages, default=None), in_sweep=in_sweep
        )
        request.next_cursor = result.next_cursor
        # The batches of a page stay together, while the pages drift apart.
        request.stretch = 0.97 + 0.06 * self._random() if request.walked is None else self._random()
        for batch_id in result.lost & group.waits.keys():
            for wait in group.waits[batch_id]:
                if wait.request is None or wait.request is request:
                    wait.group.poll_at(wait, now)
        return [(wait, shown[batch_id]) for batch_id in result.found for wait in group.waits[batch_id]]

    def on_entry(self, request: PollPage, wait: ScheduledWait, entry: dict[str, Any], now: float) -> Update:
        """A page shows a batch. If it shows the batch as ended, or as running at the deadline, a poll by ID confirms this."""
        if wait.confirm or wait.over:
            return Update(wait, None)
        if BatchStatus.of(entry["status"]) in TERMINAL or now >= wait.policy.deadline:
            wait.confirm = True
            wait.group.poll_at(wait, now)
            return Update(wait, None)
        listing = wait.group.index.listing
        counted = listing is not None and listing.counts is ListedCounts.IN_LIST
        return self._on_entry(wait, entry, now, request.stretch, counted=counted)

    def continue_sweep(self, request: PollPage, now: float) -> bool:
        """Whether a sweep continues with a further page, which ``request`` then asks for."""
        return bool(self._limit.slots(now)) and request.group.continue_sweep(request, now)

    def _on_entry(
        self, wait: ScheduledWait, entry: dict[str, Any], now: float, stretch: float, *, counted: bool
    ) -> Update:
        """Usually the gateway answers what it answered before, and then there is nothing to decide."""
        wait.left_to_sweep = False
        wait.confirm = False
        state, policy = wait.state, wait.policy
        last_entry = (entry["status"][:MAX_WORD], counts_of(entry) if counted else None)
        update = Update(wait, None)
        undecided = state.faults or state.refreshed or state.results_late_since is not None
        if last_entry != wait.last_entry or undecided or now >= policy.deadline:
            try:
                batch = read_entry(wait.batch_id, entry)
            except BifrostProtocolError as error:
                return self._fail(wait, error, now)
            wait.last_entry = last_entry
            if batch.created_at is not None:
                wait.created_at = batch.created_at.timestamp()
            decision = on_batch(state, batch, wait.group.name, policy, now=now, random=self._random)
            update = self._follow(wait, decision, batch if counted else None)
        if wait.state.results_late_since is not None:
            wait.confirm = True  # the list does not say more
        elif not wait.over:
            age = None if wait.created_at is None else now - wait.created_at
            wait.group.poll_at(wait, now + policy.until(now, policy.interval(age) * stretch))
        return update

    def _answered(self, group: ProviderGroup, now: float) -> None:
        self._saw(now)
        self._limit.on_answer()
        if not group.breaker.on_answer():
            group.limit.on_answer()
            return
        group.limit.restart()
        far = [
            wait
            for waits in group.waits.values()
            for wait in waits
            if wait.state.faults and wait.request is None and wait.next_poll_at > now + wait.policy.interval(None)
        ]
        self._spread(far, now)

    # Faults

    @property
    def is_outage(self) -> bool:
        """Whether some provider, or the gateway, is in an outage."""
        return any(group.breaker.fault is not None for group in self._groups.values())

    def on_batch_fault(self, request: PollBatch, error: BifrostError, now: float) -> list[Update]:
        """A poll of one batch failed. After a :class:`LookUpConnection` the batch is due when the request has ended."""
        self._count_fault(request, error, now)
        return self._fail_all(request, error, now)

    def on_list_fault(self, request: PollPage, error: BifrostGatewayError, now: float) -> list[Update]:
        """A poll of a page failed. A transient error is a fault of every wait that relied on it. A list that is refused says nothing about
        the batches: they are polled one by one."""
        group = request.group
        self._count_fault(request, error, now)
        group.list_faults += 1
        if error.transient and group.list_faults < LIST_FAULTS:
            return self._fail_all(request, error, now)
        group.index.on_refusal(now)
        return []

    def on_lookup_fault(self, error: BifrostError, now: float) -> list[Update]:
        """There is no connection: the due waits get the reason."""
        return [self._fail(wait, error, now) for wait in self.due_waits()]

    def share_faults(self, now: float) -> list[Update]:
        """In an outage one request probes; the other waits take over its fault, some at a time."""
        updates = []
        for group in self._groups.values():
            if (fault := group.breaker.fault) is not None:
                updates += [self._fail(wait, fault, now) for wait in list(group.due)[:SHARED_AT_ONCE]]
        return updates

    def due_waits(self) -> list[ScheduledWait]:
        """The waits that are due and for which no request has been sent."""
        return [wait for group in self._groups.values() for wait in group.due]

    def waits_of(self, request: Request) -> list[ScheduledWait]:
        """The waits that fail with a request because of a bug in this package. For a sweep, these are all waits of its provider."""
        return request.waits or [wait for waits in request.group.waits.values() for wait in waits]

    def _count_fault(self, request: Request, error: BifrostError, now: float) -> None:
        if isinstance(error, BifrostRateLimited):
            self._limit.on_rate_limit(error, sent_at=request.sent_at, now=now, random=self._random)
        elif isinstance(error, BifrostUnavailable):
            request.group.breaker.on_fault(error, sent_at=request.sent_at, now=now, random=self._random)

    def _fail_all(self, request: Request, error: BifrostError, now: float) -> list[Update]:
        """Count a fault for every wait that relied on the request and got no answer since."""
        return [self._fail(wait, error, now) for wait in request.waits if wait.request is request]

    def _fail(self, wait: ScheduledWait, error: BifrostError, now: float) -> Update:
        if wait.over:
            return Update(wait, None)
        self._saw(now)
        return self._follow(wait, on_fault(wait.state, error, wait.policy, now=now, random=self._random))

    def _follow(self, wait: ScheduledWait, decision: Decision, batch: Batch | None = None) -> Update:
        wait.state = decision.state
        match decision:
            case KeepWaiting():
                wait.group.poll_at(wait, decision.state.next_poll_at)
            case LookUpConnection():
                pass  # due when the request has ended, and the lookup with it
            case _:
                self.remove(wait)
        return Update(wait, decision, batch)
