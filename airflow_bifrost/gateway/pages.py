"""Lists that come in pages, and whether a list was read to its end.

A list that is cut short proves nothing about what it does not show, so a listing says whether it is complete.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Generic, TypeVar

from airflow_bifrost.gateway.models import Page

T = TypeVar("T")

MAX_STALE_PAGES = 20  # in a row, without a new entry; after these, a listing ends
MAX_PAGES = 10_000  # of a list, each with a new cursor and new entries; a provider keeps fewer batches
MAX_ENTRIES = 1_000_000  # of a list


class PageCursor:
    """The position in a listing. Pure: takes pages, and returns the next cursor.

    It ends when a cursor repeats, because for some providers the gateway returns page 1 again and again. A page without new entries need
    not be the last: the gateway goes through one provider key after the other, and two keys may show the same account.

    :param pages: False: the gateway is known to return page 1 again for this provider, so no second page is requested.
    """

    def __init__(self, *, pages: bool = True) -> None:
        self.after: str | None = None
        self.done = False
        self.why_incomplete: str | None = None
        self._pages = pages
        self._cursors: set[str] = set()
        self._ids: set[str] = set()
        self._stale_pages = 0

    def take(self, page: Page[Any]) -> list[Any]:
        """Take a page and move to the next one.

        :return: the entries of the page that no earlier page had.
        """
        fresh = list({item.id: item for item in page.data if item.id not in self._ids}.values())
        self._ids.update(item.id for item in fresh)
        self._stale_pages = 0 if fresh else self._stale_pages + 1
        self.after = page.next_cursor
        if page.without_data:
            self._end("a page has no data")
        elif not page.has_more and not self.after:
            self._end(None)
        elif not self.after:
            self._end("a page says that there are more, but gives no cursor")
        elif not self._pages:
            self._end("the gateway shows only the first page of this provider's list")
        elif self.after in self._cursors:
            self._end("a cursor came twice")
        elif self._stale_pages >= MAX_STALE_PAGES:
            self._end(f"{MAX_STALE_PAGES} pages in a row brought nothing new")
        elif len(self._cursors) + 1 >= MAX_PAGES or len(self._ids) > MAX_ENTRIES:
            self._end(f"the list has more than {MAX_PAGES:,} pages or {MAX_ENTRIES:,} entries")
        if self.after:
            self._cursors.add(self.after)
        return fresh

    def _end(self, why_incomplete: str | None) -> None:
        self.done = True
        self.why_incomplete = why_incomplete


class _Listed:
    def __init__(self, *, pages: bool) -> None:
        self._cursor = PageCursor(pages=pages)
        self._finished = False

    @property
    def why_incomplete(self) -> str | None:
        """Why entries may be missing; None if the iteration reached the end that the gateway marked."""
        return self._cursor.why_incomplete if self._finished else "it was not read to its end"

    @property
    def complete(self) -> bool:
        """Whether the iteration reached the end that the gateway marked."""
        return self.why_incomplete is None


class Listing(_Listed, Generic[T]):
    """Iterates once over all entries of a list, page by page. Afterwards, :attr:`complete` says whether these were all entries.

    :param fetch: returns the page after a cursor; None: the first page.
    :param pages: see :class:`PageCursor`.
    """

    def __init__(self, fetch: Callable[[str | None], Page[Any]], *, pages: bool = True) -> None:
        super().__init__(pages=pages)
        self._entries = self._walk(fetch)

    def __iter__(self) -> Iterator[T]:
        return self._entries

    def _walk(self, fetch: Callable[[str | None], Page[Any]]) -> Iterator[T]:
        while not self._cursor.done:
            yield from self._cursor.take(fetch(self._cursor.after))
        self._finished = True


class AsyncListing(_Listed, Generic[T]):
    """:class:`Listing` for ``async for``."""

    def __init__(self, fetch: Callable[[str | None], Awaitable[Page[Any]]], *, pages: bool = True) -> None:
        super().__init__(pages=pages)
        self._entries = self._walk(fetch)

    def __aiter__(self) -> AsyncIterator[T]:
        return self._entries

    async def _walk(self, fetch: Callable[[str | None], Awaitable[Page[Any]]]) -> AsyncIterator[T]:
        while not self._cursor.done:
            for item in self._cursor.take(await fetch(self._cursor.after)):
                yield item
        self._finished = True
