"""Decides whether the results that were read are complete, by the batch's own counts. Pure.

A gateway may answer 200 with something other than the file: nothing, a web page, an error, or half of the file. The rows are paid for, so
fewer results than the batch counts are never accepted as complete. A result counts once, and only if its row belongs to the batch.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.providers.base import Provider
from airflow_bifrost.providers.statuses import FINISHED, BatchStatus


@dataclass(frozen=True, slots=True)
class Taken:
    """What one reading of a source returned.

    :param results: number of results.
    :param unreadable: number of lines that are not JSON, or hold no row's result.
    :param rows: hash of the custom ID of each result; None if the sink does not know the IDs.
    :param foreign: number of results whose row does not belong to the batch.
    """

    results: int = 0
    unreadable: int = 0
    rows: array[int] | None = field(default=None, compare=False)
    foreign: int = 0


class RowsOfBatch:
    """The rows of a batch: how many there are, and which of them have a result."""

    def __init__(self, number: int | None = None, ids: Iterable[str] | None = None) -> None:
        """
        :param number: number of rows; None: unknown.
        :param ids: their custom IDs; None: unknown.
        """
        self.number = number
        self.found = 0
        self._ids = None if ids is None else set(map(hash, ids))
        self._found: set[int] = set()

    @property
    def left(self) -> int | None:
        """Number of rows without a result; None if it is unknown."""
        return None if self.number is None else max(0, self.number - self.found)

    def of(self, taken: Taken) -> Taken:
        """What a source returned for rows that have no result yet."""
        if taken.rows is None:
            return taken
        rows = set(taken.rows)
        own = rows if self._ids is None else rows & self._ids
        return Taken(len(own - self._found), taken.unreadable, taken.rows, foreign=len(rows) - len(own))

    def keep(self, taken: Taken) -> None:
        """Note the results of a source that was read to its end."""
        self.found += self.of(taken).results
        self._found.update(taken.rows or ())


@dataclass(frozen=True, slots=True)
class Promise:
    """What a source must hold according to the batch.

    :param results: minimum number of results.
    :param is_all: whether that number is also the total. If not, the counts leave room for more.
    :param may_be_empty: whether the source may be empty.
    """

    results: int = 0
    is_all: bool = False
    may_be_empty: bool = False

    def problem(self, taken: Taken) -> str | None:
        """Why the results that were read are, or may be, incomplete; None if they are complete."""
        lines = f" {taken.unreadable:,} lines cannot be read." if taken.unreadable else ""
        if taken.foreign:
            return f"{taken.foreign:,} results belong to rows that are not in the batch, so it may be the file of another batch.{lines}"
        if taken.results < self.results:
            return f"{taken.results:,} results can be read, but the batch counts {self.results:,}.{lines}"
        if self.is_all:
            return None
        if not taken.results and not self.may_be_empty:
            return f"No result can be read.{lines}"
        return lines.strip() or None

    def possible_problem(self, taken: Taken, rows: int) -> str | None:
        """Why results may be missing, although the counts do not prove it; None if there is no such reason. Another reading may tell.

        :param rows: number of rows of the batch without a result in any other source.
        """
        if self.is_all or self.may_be_empty or taken.results >= rows:
            return None
        return f"{rows - taken.results:,} of the batch's rows have no result, and its counts do not say whether they should."


def promise_of_all(batch: Batch, provider: Provider) -> Promise:
    """The promise of a source that holds the results of all rows, with any outcome."""
    if BatchStatus.of(batch.status) not in FINISHED:
        return promise_of_output(batch, provider)
    processed = provider.processed_rows(batch.request_counts)
    succeeded = provider.succeeded_rows(batch.request_counts)
    return Promise(max(processed or 0, succeeded or 0), is_all=provider.counts_all_rows(batch.request_counts))


def promise_of_output(batch: Batch, provider: Provider) -> Promise:
    """The promise of the output file, which holds the rows that succeeded. It may hold others, too."""
    finished = BatchStatus.of(batch.status) in FINISHED
    succeeded = provider.succeeded_rows(batch.request_counts)
    is_all = provider.counts_all_rows(batch.request_counts) if finished else succeeded is not None
    return Promise(succeeded or 0, is_all=is_all, may_be_empty=not finished)


def promise_of_errors(batch: Batch, provider: Provider, in_output: int) -> Promise:
    """The promise of the error file. If the batch ended early, its counts and its error file need not agree.

    :param in_output: number of results in the output file.
    """
    if BatchStatus.of(batch.status) not in FINISHED:
        return Promise(is_all=provider.succeeded_rows(batch.request_counts) is not None, may_be_empty=True)
    processed = provider.processed_rows(batch.request_counts)
    return Promise(max(0, (processed or 0) - in_output), is_all=provider.counts_all_rows(batch.request_counts))
