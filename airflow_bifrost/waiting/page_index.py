"""Which batches the pages of a provider's list show, and when polling the list saves requests. Pure.

One page of the list shows a hundred batches at the cost of three or four single polls. The cursor that leads to a page identifies it.
A cursor always leads to the same batches, because new ones are added at the head of the list. So each page can be polled separately, and
only the head changes. A batch that a page no longer shows is polled by its ID, because a list never proves that a batch is gone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from airflow_bifrost.providers.base import ListBehavior
from airflow_bifrost.waiting.clock import has_passed

PAGE = 100  # entries of a page; no provider returns more
ENOUGH = 4  # awaited batches from which on a page is polled
SWEEP_EVERY = 30.0  # seconds between two sweeps if a sweep saves little; less if it saves much
POOR_PAGES = 2  # a sweep stops after this many pages in a row that show too few awaited batches,
STAKE = 25  # plus one page for each of this many batches that it searches for
SWEEP_AGAIN = 0.5  # seconds; the shortest pause between two sweeps
SWEEP_CAP = 900.0  # seconds; the longest pause after sweeps that found nothing, or after a refusal


@dataclass(slots=True, eq=False)
class Page:
    """One page and the awaited batches on it. ``cursor`` None: the head of the list.

    :param shown: IDs of all batches that the page showed.
    :param awaited: those that some trigger waits for.
    """

    cursor: str | None
    shown: frozenset[str] = frozenset()
    awaited: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class PageResult:
    """What a page has shown.

    :param found: IDs of the awaited batches on it.
    :param lost: IDs of awaited batches that it showed before and no longer shows.
    :param next_cursor: of the page with which a sweep continues; None: the sweep ends.
    """

    found: frozenset[str]
    lost: set[str]
    next_cursor: str | None


class PageIndex:
    """Where one provider's list shows the awaited batches. IDs are those of the list (``Provider.listed_id``); times are Unix seconds.

    :param listing: None for a provider without a usable list: its batches are polled one by one.
    """

    def __init__(self, listing: ListBehavior | None) -> None:
        self.listing = listing
        self._pages: dict[str | None, Page] = {}
        self._place: dict[str, Page | None] = {}  # of each awaited batch
        self._created: dict[str, float] = {}  # of those whose page is unknown, if their age is known
        self._unplaced = 0
        self._swept_at = -math.inf
        self._futile = 0  # sweeps that found nothing, and refusals, in a row
        self._searched_for = 0  # how many batches the last sweep searched for
        self._poor_pages = 0  # in a row, in the current sweep
        self._seen_in_sweep: set[str] = set()  # awaited batches that the current sweep has shown

    def add(self, batch_id: str) -> None:
        """A trigger begins to wait for a batch. A page that was polled before may have shown it."""
        if batch_id not in self._place:
            self._place[batch_id] = None
            self._unplaced += 1
            page = next((page for page in self._pages.values() if batch_id in page.shown), None)
            if page is not None:
                self._put(batch_id, page)

    def remove(self, batch_id: str) -> None:
        """No trigger waits for a batch anymore."""
        self._take_away(batch_id)
        del self._place[batch_id]
        self._created.pop(batch_id, None)
        self._unplaced -= 1

    def learn_age(self, batch_id: str, created_at: float | None) -> None:
        """Note when a batch was created, as a single poll has shown. A sweep need not go further back."""
        if created_at is not None and self._place[batch_id] is None:
            self._created[batch_id] = created_at

    def page_of(self, batch_id: str) -> Page | None:
        """The page to poll for a batch; None: poll it by its ID."""
        page = self._place[batch_id]
        return page if page is not None and len(page.awaited) >= ENOUGH else None

    def wants_sweep(self, now: float) -> bool:
        """Whether it is time to walk through the list for the batches whose page is unknown."""
        if self.listing is None or self._unplaced < ENOUGH:
            return False
        if self._futile and self._unplaced < 2 * self._searched_for:
            pause = min(SWEEP_CAP, SWEEP_EVERY * 2.0 ** min(self._futile, 10))
        else:
            pages = 1 + len(self._place) / PAGE
            price = ENOUGH * pages / self._unplaced  # as a share of what it may save in one interval
            pause = min(SWEEP_EVERY, max(SWEEP_AGAIN, SWEEP_EVERY * price**2))
        return has_passed(pause, self._swept_at, now)

    def begin_sweep(self, now: float) -> None:
        """A sweep begins. It counts as futile until it finds a page for some batch."""
        self._poor_pages = 0
        self._seen_in_sweep.clear()
        self._searched_for = self._unplaced
        self._futile += 1
        self._swept_at = now

    def on_refusal(self, now: float) -> None:
        """The list is refused or unreadable: for a while, every batch is polled by its ID."""
        for batch_id in self._place:
            self._take_away(batch_id)
        self._searched_for = self._unplaced
        self._futile += 1
        self._swept_at = now

    def on_page(
        self,
        cursor: str | None,
        shown: Iterable[str],
        next_cursor: str | None,
        *,
        oldest: float | None,
        in_sweep: bool = True,
    ) -> PageResult:
        """Take the answer for a page.

        :param oldest: when the oldest of its batches was created.
        :param in_sweep: whether it belongs to the current sweep. A page that was polled alone does not.
        """
        page = self._pages.get(cursor) or Page(cursor)
        page.shown = frozenset(shown)
        lost = page.awaited - page.shown
        for batch_id in lost:
            self._take_away(batch_id)
        found = page.shown & self._place.keys()
        if any(self._place[batch_id] is None for batch_id in found):
            self._futile = 0
        for batch_id in found:
            self._put(batch_id, page)
        more = in_sweep and self._sweep_continues(found, oldest)
        return PageResult(found, lost, next_cursor if more else None)

    def _sweep_continues(self, found: frozenset[str], oldest: float | None) -> bool:
        # Only what the sweep has not shown before counts: a server may show the same batches under ever new cursors.
        is_rich = len(found - self._seen_in_sweep) >= ENOUGH
        self._seen_in_sweep |= found
        self._poor_pages = 0 if is_rich else self._poor_pages + 1
        if self.listing is None or not self.listing.pages or not self._unplaced:
            return False
        if self._poor_pages > POOR_PAGES + self._unplaced // STAKE:
            return False
        ages_known = len(self._created) == self._unplaced
        return not (ages_known and oldest is not None and oldest < min(self._created.values()))

    def _put(self, batch_id: str, page: Page) -> None:
        self._take_away(batch_id)
        self._place[batch_id] = page
        self._created.pop(batch_id, None)
        self._unplaced -= 1
        page.awaited.add(batch_id)
        self._pages[page.cursor] = page

    def _take_away(self, batch_id: str) -> None:
        page = self._place[batch_id]
        if page is None:
            return
        self._place[batch_id] = None
        self._unplaced += 1
        page.awaited.discard(batch_id)
        if not page.awaited:
            self._pages.pop(page.cursor, None)
