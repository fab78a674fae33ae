"""Which batches can be seen on which page of a provider's list, and when looking there pays. Pure.

A page of the list tells of a hundred batches for the price of three or four single looks. A page is known by the cursor that leads to it.
Behind a cursor always stand the same batches, because new ones come at the head of the list; so every page can be asked for by itself, and only
the head changes. A batch that a page no longer shows is asked for by its own id: no list is ever taken for a proof that a batch is gone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

PAGE = 100  # entries of a page; no provider gives more
ENOUGH = 4  # batches waited for that make a page worth its price
SWEEP_EVERY = 30.0  # seconds between two sweeps where a sweep saves little; less where it saves much
POOR_PAGES = 2  # in a row without enough that a sweep goes over, and
STAKE = 25  # one more for every so many batches that it looks for
SWEEP_AGAIN = 0.5  # seconds; the shortest pause between two sweeps
SWEEP_CAP = 900.0  # seconds; the longest pause after sweeps that found nothing, or a list that is refused


class Counts(Enum):
    """Where a provider gives how many rows are done."""

    LISTED = "in the list"
    RETRIEVED = "when the batch is retrieved"
    NOWHERE = "as a rule nowhere"


@dataclass(frozen=True, slots=True)
class Lists:
    """What a provider's list is good for. ``pages``: whether there are more than the first."""

    pages: bool
    counts: Counts


# Anthropic, Gemini and Bedrock give page 1 for ever, whatever the cursor (gateway 1.4.19).
LISTS = {
    "openai": Lists(pages=True, counts=Counts.LISTED),
    "azure": Lists(pages=True, counts=Counts.LISTED),
    "anthropic": Lists(pages=False, counts=Counts.LISTED),
    "gemini": Lists(pages=False, counts=Counts.RETRIEVED),
    "bedrock": Lists(pages=False, counts=Counts.NOWHERE),
}


def listed_as(provider: str, batch_id: str) -> str:
    """The id under which a list shows a batch: Gemini's are ``batches-xyz`` everywhere else."""
    return batch_id.removeprefix("batches-").removeprefix("batches/") if provider == "gemini" else batch_id


@dataclass(slots=True, eq=False)
class Page:
    """A page, and those of its batches that are waited for. ``cursor`` None: the head of the list."""

    cursor: str | None
    shown: frozenset[str] = frozenset()
    waited: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class PageSeen:
    """What a page has told.

    :param found: those of its batches that are waited for.
    :param lost: those that stood there before, and do not any more.
    :param then: the cursor of the page where a sweep goes on; None: it ends.
    """

    found: frozenset[str]
    lost: set[str]
    then: str | None


class PageIndex:
    """What is known of one provider's list. Ids are those of the list, see :func:`listed_as`; times are unix seconds.

    :param lists: None for a provider without a list: no page is ever worth a look.
    """

    def __init__(self, lists: Lists | None) -> None:
        self.lists = lists
        self._pages: dict[str | None, Page] = {}
        self._place: dict[str, Page | None] = {}  # of every batch that is waited for
        self._created: dict[str, float] = {}  # of those whose page is not known, as far as their age is
        self._unplaced = 0
        self._swept_at = -math.inf
        self._in_vain = 0  # sweeps that found nothing, and refusals, in a row
        self._looked_for = 0  # how many batches the last sweep was after
        self._poor_pages = 0  # in a row, in the sweep that is on

    def wait_for(self, batch_id: str) -> None:
        """A batch is waited for; a page that was seen already may have it."""
        if batch_id not in self._place:
            self._place[batch_id] = None
            self._unplaced += 1
            page = next((page for page in self._pages.values() if batch_id in page.shown), None)
            if page is not None:
                self._put(batch_id, page)

    def leave(self, batch_id: str) -> None:
        """A batch is not waited for any more."""
        self._take_away(batch_id)
        del self._place[batch_id]
        self._created.pop(batch_id, None)
        self._unplaced -= 1

    def learn_age(self, batch_id: str, created_at: float | None) -> None:
        """When a batch was created, as a look of its own has told: a sweep need not go further back."""
        if created_at is not None and self._place[batch_id] is None:
            self._created[batch_id] = created_at

    def page_of(self, batch_id: str) -> Page | None:
        """The page to ask for a batch; None: ask for it by its id."""
        page = self._place[batch_id]
        return page if page is not None and len(page.waited) >= ENOUGH else None

    def wants_sweep(self, now: float) -> bool:
        """Whether it is time to look through the list for batches whose page is not known."""
        if self.lists is None or self._unplaced < ENOUGH:
            return False
        if self._in_vain and self._unplaced < 2 * self._looked_for:
            pause = min(SWEEP_CAP, SWEEP_EVERY * 2.0 ** min(self._in_vain, 10))
        else:
            pages = 1 + len(self._place) / PAGE
            price = ENOUGH * pages / self._unplaced  # of what it may save in one interval
            pause = min(SWEEP_EVERY, max(SWEEP_AGAIN, SWEEP_EVERY * price**2))
        return now >= self._swept_at + pause

    def begin_sweep(self, now: float) -> None:
        """A sweep begins. It is in vain until it finds a page for something."""
        self._poor_pages = 0
        self._looked_for = self._unplaced
        self._in_vain += 1
        self._swept_at = now

    def on_refusal(self, now: float) -> None:
        """The list is refused or cannot be read: for a while every batch is asked for by its id."""
        for batch_id in self._place:
            self._take_away(batch_id)
        self._looked_for = self._unplaced
        self._in_vain += 1
        self._swept_at = now

    def on_page(
        self, cursor: str | None, shown: Iterable[str], next_cursor: str | None, *, oldest: float | None
    ) -> PageSeen:
        """A page has come.

        :param oldest: when the last of its batches was created.
        """
        page = self._pages.get(cursor) or Page(cursor)
        page.shown = frozenset(shown)
        lost = page.waited - page.shown
        for batch_id in lost:
            self._take_away(batch_id)
        found = page.shown & self._place.keys()
        if any(self._place[batch_id] is None for batch_id in found):
            self._in_vain = 0
        for batch_id in found:
            self._put(batch_id, page)
        self._poor_pages = 0 if len(found) >= ENOUGH else self._poor_pages + 1
        return PageSeen(found, lost, next_cursor if self._goes_on(oldest) else None)

    def _goes_on(self, oldest: float | None) -> bool:
        if self.lists is None or not self.lists.pages or not self._unplaced:
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
        page.waited.add(batch_id)
        self._pages[page.cursor] = page

    def _take_away(self, batch_id: str) -> None:
        page = self._place[batch_id]
        if page is None:
            return
        self._place[batch_id] = None
        self._unplaced += 1
        page.waited.discard(batch_id)
        if not page.waited:
            self._pages.pop(page.cursor, None)
