"""The waits for the batches of one provider, and the request that their polls need next: one batch, a page of the list, or a sweep. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from airflow_bifrost import providers
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.providers.base import ListedCounts
from airflow_bifrost.waiting.clock import has_passed
from airflow_bifrost.waiting.limits import ConcurrencyLimit
from airflow_bifrost.waiting.outage import CircuitBreaker
from airflow_bifrost.waiting.page_index import PageIndex
from airflow_bifrost.waiting.timetable import Timetable
from airflow_bifrost.waiting.waits import PollBatch, PollPage, Request, ScheduledWait

COUNTS_EVERY = 300.0  # seconds between two polls for the counts, if the list does not have them
SWEEP_PATIENCE = 10.0  # seconds for which due waits leave their poll to a sweep


@dataclass(slots=True, eq=False)
class ProviderGroup:
    """The waits for the batches of one provider.

    :param provider: as the triggers name it; None: the connection's.
    :param timetable: of all providers.
    :ivar name: the provider's name, known as soon as the connection is.
    :ivar waits: by the ID that a list shows.
    :ivar due: the waits whose next poll is due, in that order.
    :ivar pages: the requests in flight for a page, by cursor.
    :ivar sweep: the one in flight.
    :ivar list_faults: in a row.
    :ivar served: sequence number of the group's last request, among all requests of the schedule.
    """

    provider: str | None
    timetable: Timetable
    name: str = ""
    index: PageIndex = field(default_factory=lambda: PageIndex(None))
    waits: dict[str, list[ScheduledWait]] = field(default_factory=dict)
    due: dict[ScheduledWait, None] = field(default_factory=dict)
    pages: dict[str | None, PollPage] = field(default_factory=dict)
    sweep: PollPage | None = None
    list_faults: int = 0
    in_flight: int = 0
    served: int = 0
    limit: ConcurrencyLimit = field(default_factory=lambda: ConcurrencyLimit(1))
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)

    @property
    def facts(self) -> providers.Provider:
        return providers.get(self.name or self.provider or "")

    def enter(self, wait: ScheduledWait) -> None:
        wait.listed_id = self.facts.listed_id(wait.batch_id)
        self.waits.setdefault(wait.listed_id, []).append(wait)
        self.index.add(wait.listed_id)

    def leave(self, wait: ScheduledWait) -> None:
        self.due.pop(wait, None)
        others = self.waits[wait.listed_id]
        others.remove(wait)
        if not others:
            del self.waits[wait.listed_id]
            self.index.remove(wait.listed_id)

    def slots(self, now: float) -> int:
        """How many requests for this provider may be in flight."""
        slots = self.breaker.slots(now)
        return self.limit.slots(now) if slots is None else slots

    def resolve(self, config: GatewayConfig) -> None:
        """Set the provider's name, which the connection tells, and so whether its list is usable."""
        name_before, self.name = self.name, config.provider_for(self.provider)
        if self.limit.max_in_flight != config.max_in_flight:
            self.limit = ConcurrencyLimit(config.max_in_flight)
        listing = self.facts.listing if config.coalesce else None
        if self.name == name_before and self.index.listing == listing:
            return
        self.index = PageIndex(listing)
        waits = [wait for waits in self.waits.values() for wait in waits]
        self.waits = {}
        for wait in waits:
            self.enter(wait)

    def poll_at(self, wait: ScheduledWait, when: float) -> None:
        """Poll at ``when``, and no longer at the time that was set before. No request in flight answers for the wait any more."""
        wait.request = None
        self.due.pop(wait, None)
        self.timetable.poll_at(wait, when)

    def next_request(self, now: float) -> Request | None:
        """The request for the wait that has been due the longest."""
        index = self.index
        while self.due:
            wait = next(iter(self.due))
            page = None if _is_polled_alone(wait, now) else index.page_of(wait.listed_id)
            if page is not None and page.cursor in self.pages:
                _attach(self.pages[page.cursor], (wait,))
            elif page is not None:
                request = PollPage(self, now, [], page.cursor)
                self.pages[page.cursor] = request
                _attach(request, (w for i in page.awaited for w in self.waits[i] if not w.confirm))
                return request
            elif wait.may_be_left_to_sweep and self.sweep is None and index.wants_sweep(now):
                index.begin_sweep(now)
                self.sweep = self.pages[None] = PollPage(self, now, [], None, walked={None})
                return self.sweep
            elif wait.may_be_left_to_sweep and self.sweep and not has_passed(SWEEP_PATIENCE, self.sweep.sent_at, now):
                self.poll_at(wait, self.sweep.sent_at + SWEEP_PATIENCE)  # perhaps the sweep comes to it before
                wait.left_to_sweep = True
            else:
                batch_request = PollBatch(self, now, [])
                _attach(batch_request, [w for w in self.waits[wait.listed_id] if w in self.due])
                return batch_request
        return None

    def continue_sweep(self, request: PollPage, now: float) -> bool:
        """Whether a sweep continues with a further page, which ``request`` then asks for. A cursor that leads back ends it."""
        cursor, walked = request.next_cursor, request.walked
        if walked is None or cursor is None or cursor in walked or not self.slots(now):
            return False
        walked.add(cursor)
        if self.pages.get(request.cursor) is request:
            del self.pages[request.cursor]
        request.cursor, request.next_cursor = cursor, None
        self.pages.setdefault(cursor, request)
        return True

    def finished(self, request: Request, now: float) -> None:
        """A request has ended. What it left without an answer is due at once."""
        if isinstance(request, PollPage):
            self._forget_page(request, now)
        for wait in request.waits:
            if wait.request is request and not wait.over:
                self.poll_at(wait, now)

    def _forget_page(self, request: PollPage, now: float) -> None:
        self.pages = {cursor: page for cursor, page in self.pages.items() if page is not request}
        if self.sweep is not request:
            return
        self.sweep = None
        left_until = request.sent_at + SWEEP_PATIENCE
        for waits in self.waits.values():
            for wait in waits:
                if wait.left_to_sweep and wait.next_poll_at == left_until:
                    self.poll_at(wait, now)


def _is_polled_alone(wait: ScheduledWait, now: float) -> bool:
    if wait.confirm:
        return True
    listing = wait.group.index.listing
    in_retrieve = listing is not None and listing.counts is ListedCounts.IN_RETRIEVE
    return in_retrieve and has_passed(COUNTS_EVERY, wait.counted_at, now)


def _attach(request: Request, waits: Iterable[ScheduledWait]) -> None:
    for wait in waits:
        wait.group.due.pop(wait, None)
        wait.request = request
        wait.sent_at = request.sent_at
        request.waits.append(wait)
