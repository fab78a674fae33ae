"""What the hook's calls share: limits of lists, and files that appear only when they are complete."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from airflow_bifrost.gateway.pages import AsyncListing, Listing

T = TypeVar("T")

MAX_PAGE_SIZE = 100

log = logging.getLogger("airflow.task")


def page_size(limit: int | None) -> int:
    """How many entries of a list to ask for at a time."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be 1 or more, or None for all, not {limit}")
    return min(limit or MAX_PAGE_SIZE, MAX_PAGE_SIZE)


def first_of(limit: int | None, listing: Listing[T]) -> list[T]:
    """The first entries of a list; None: all."""
    taken: list[T] = []
    for item in listing:
        taken.append(item)
        if len(taken) == limit:
            return taken
    _warn_if_incomplete(listing.why_incomplete, len(taken))
    return taken


async def afirst_of(limit: int | None, listing: AsyncListing[T]) -> list[T]:
    """See :func:`first_of`."""
    taken: list[T] = []
    async for item in listing:
        taken.append(item)
        if len(taken) == limit:
            return taken
    _warn_if_incomplete(listing.why_incomplete, len(taken))
    return taken


def _warn_if_incomplete(why: str | None, number: int) -> None:
    if why:
        log.warning("The list ends after %d entries, but there may be more: %s", number, why)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name only when it is written completely."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with open(part, "wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
