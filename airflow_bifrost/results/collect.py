"""Reads all results of a terminal batch, or raises an error: rows that are paid for are never dropped silently."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from airflow_bifrost import providers
from airflow_bifrost.exceptions import (
    BatchNotFound,
    BifrostError,
    BifrostGatewayError,
    BifrostProtocolError,
    ResultsUnavailable,
)
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.providers.base import Provider, ResultLocation
from airflow_bifrost.providers.statuses import FINISHED, BatchStatus
from airflow_bifrost.results.completeness import Promise, RowsOfBatch, Taken
from airflow_bifrost.results.source import Sink, Source, error_sources_of, sources_of

log = logging.getLogger("airflow.task")


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """How often and how long to try to read results.

    :param attempts: maximum number of times to read a source that breaks off, cannot be read, or is incomplete. The gateway cannot resume
        a download.
    :param pause: seconds before the second attempt. The pause doubles for each later attempt.
    :param grace: seconds to wait for a terminal batch to name its files.
    :param poll_interval: seconds between two polls of such a batch.
    :param allow_incomplete: after the last attempt, accept incomplete results with a warning instead of raising.
    """

    attempts: int = 4
    pause: float = 5.0
    grace: float = 600.0
    poll_interval: float = 15.0
    allow_incomplete: bool = False
    sleep: Callable[[float], object] = time.sleep
    clock: Callable[[], float] = time.monotonic


class Collection(NamedTuple):
    """What :func:`collect` has read.

    :param batch: the batch, as retrieved just before its results were read.
    :param complete: False if results are missing or could not be read, and ``allow_incomplete`` accepts that.
    """

    batch: Batch
    complete: bool


POLICY = ReadPolicy()  # the default
ALLOWED = "Because allow_incomplete is set, the task continues without the missing results. They may be paid for."


def collect(
    client: GatewayClient,
    batch_id: str,
    provider: str,
    sink: Sink,
    *,
    rows: int | None = None,
    ids: Iterable[str] | None = None,
    storage_conn_id: str | None = None,
    folder: str | None = None,
    policy: ReadPolicy | None = None,
) -> Collection:
    """Read all results of a terminal batch into ``sink``.

    :param client: see :func:`airflow_bifrost.results.source.sources_of`, as for ``storage_conn_id`` and ``folder``.
    :param sink: for example a :class:`airflow_bifrost.results.writer.ResultsWriter`. Do not use it after an error.
    :param rows: number of rows of the batch, if known. If each has a result, the results are complete, even if the batch counts more.
    :param ids: custom IDs of these rows, if known. A result of another row is then no result of the batch.
    :raises BifrostProtocolError: the batch does not name its files, or its results cannot be read or are incomplete. The rows are already
        paid for, and a retry reads their results again.
    :raises BifrostUnavailable: the download broke off in every attempt.
    :raises ResultsUnavailable: there are no results, or this gateway cannot return them.
    """
    policy, known = policy or POLICY, providers.get(provider)
    reading = _Reading(sink, policy, known, RowsOfBatch(rows, ids))
    batch, late = _poll(client, batch_id, provider, policy, "output file", partial(_lacks_output, known))
    unnamed = _unnamed(batch, batch_id, known, policy) if late else None
    if unnamed is not None and batch.error_file_id is None:
        reading.give_up(unnamed)
    reading.read(batch, sources_of(client, batch, batch_id, provider, storage_conn_id=storage_conn_id, folder=folder))
    if unnamed is not None and batch.error_file_id is not None and reading.rows.left != 0:
        reading.give_up(unnamed)
    if not late and _lacks_errors(known, reading.rows.found, batch):
        batch, late = _poll(
            client, batch_id, provider, policy, "error file", partial(_lacks_errors, known, reading.rows.found)
        )
        if late:
            log.warning(
                "Batch %s counts failed rows, but has not named its error file. These rows have no result.", batch_id
            )
        reading.read(batch, error_sources_of(client, batch, batch_id, provider))
    return Collection(batch, reading.complete)


def _lacks_output(provider: Provider, batch: Batch) -> bool:
    return provider.results_late(
        batch.status, batch.request_counts, output_file_id=batch.output_file_id, error_file_id=batch.error_file_id
    )


def _lacks_errors(provider: Provider, found: int, batch: Batch) -> bool:
    """Whether a batch that counts failed rows names no file with their errors. Some providers write them into the output file.

    :param found: number of rows that have a result in the output file.
    """
    if provider.results is not ResultLocation.FILES or batch.output_file_id is None or batch.error_file_id is not None:
        return False
    finished = BatchStatus.of(batch.status) in FINISHED
    return (
        finished and bool(batch.request_counts.failed) and found < (provider.processed_rows(batch.request_counts) or 0)
    )


def _unnamed(batch: Batch, batch_id: str, provider: Provider, policy: ReadPolicy) -> BifrostProtocolError | None:
    """The error for a batch that has not named its output file in time; None if it may have no such file."""
    if BatchStatus.of(batch.status) not in FINISHED and not provider.succeeded_rows(batch.request_counts):
        return None
    problem = f"Batch {batch_id} of {provider.name} is {batch.status}, but has not named its output file within {policy.grace:g} s."
    return BifrostProtocolError(
        f"{problem} Its rows are paid for, and nothing was written. Retry or clear the task to poll the batch again. If the file never"
        " appears, contact the provider, or set allow_incomplete=True to write the results that can be read.",
        problem=problem,
        transient=True,
    )


def _poll(
    client: GatewayClient,
    batch_id: str,
    provider: str,
    policy: ReadPolicy,
    what: str,
    is_late: Callable[[Batch], bool],
) -> tuple[Batch, bool]:
    """Poll the batch until it names a file, or the time for it is over. Return the batch, and whether the file is still late."""
    deadline = None
    while True:
        batch = client.get_batch(batch_id, provider=provider)
        if not is_late(batch):
            return batch, False
        now = policy.clock()
        if deadline is None:
            deadline = now + policy.grace
            log.warning(
                "Batch %s of %s is %s, but does not name its %s yet. Polling it for up to %g s.",
                batch_id,
                provider,
                batch.status,
                what,
                policy.grace,
            )
        if now >= deadline:
            return batch, True
        policy.sleep(min(policy.poll_interval, deadline - now))


@dataclass(slots=True)
class _Reading:
    """Reads the sources of a batch, one after the other."""

    sink: Sink
    policy: ReadPolicy
    provider: Provider
    rows: RowsOfBatch
    complete: bool = True

    def read(self, batch: Batch, sources: Sequence[Source]) -> None:
        total = batch.request_counts.total
        partly_counted = total is not None and self.rows.number is not None and total < self.rows.number
        for source in sources:
            promise = source.promise(self.rows.found)
            check = _Check(
                source,
                replace(promise, is_all=False) if partly_counted else promise,
                self.rows,
                self.doubt,
                is_last_source=source is sources[-1],
                allow=self.allow if self.policy.allow_incomplete else None,
            )
            try:
                self.rows.keep(_read(source, self.sink, check, self.policy))
            except (BatchNotFound, BifrostProtocolError, ResultsUnavailable) as error:
                nothing_paid = self.provider.succeeded_rows(batch.request_counts) == 0
                gone = isinstance(error, BatchNotFound)
                if gone and source.errors and (batch.output_file_id or nothing_paid):
                    log.warning("%s The failed rows therefore have no result. They were not billed.", error)
                else:
                    self.give_up(error)

    def give_up(self, error: BifrostError) -> None:
        """Raise the error, unless incomplete results are allowed."""
        if not self.policy.allow_incomplete:
            raise error
        self.allow(error.problem)

    def doubt(self, problem: str) -> None:
        self.complete = False
        log.warning(
            "%s Each reading was the same, so the others are written as missing. A clear of the task reads again.",
            problem,
        )

    def allow(self, problem: str) -> None:
        self.complete = False
        log.warning("%s %s", problem, ALLOWED)


@dataclass(slots=True)
class _Check:
    """Raises if the results that were read from a source are not complete.

    :param rows: the rows of the batch, with what the earlier sources returned for them.
    :param is_last_attempt: whether this is the last time that the source is read.
    :param doubt: accepts results of which each reading had the same, although the counts do not say whether these are all.
    :param allow: accepts incomplete results; None: they are not allowed.
    """

    source: Source
    promise: Promise
    rows: RowsOfBatch
    doubt: Callable[[str], None]
    is_last_source: bool = False
    is_last_attempt: bool = False
    allow: Callable[[str], None] | None = None

    def __call__(self, taken: Taken) -> None:
        taken, left = self.rows.of(taken), self.rows.left
        if left is not None and taken.results >= left:
            return  # every row has a result, even if the batch counts more
        problem = self.promise.problem(taken)
        possible_problem = None
        if left is not None and self.is_last_source:
            possible_problem = self.promise.possible_problem(taken, left)
        if problem is None and possible_problem is None:
            return
        name = self.source.name
        what = f"{name[0].upper()}{name[1:]} is incomplete or cannot be read: {problem or possible_problem}"
        if self.is_last_attempt and problem is None:
            self.doubt(what)
            return
        if self.is_last_attempt and self.allow is not None:
            self.allow(what)
            return
        raise BifrostProtocolError(
            f"{what} The rows are paid for, and nothing was written. Retry or clear the task to read the results again, or set"
            " allow_incomplete=True to write those that can be read.",
            problem=what,
            transient=True,
        )


def _read(source: Source, sink: Sink, check: _Check, policy: ReadPolicy) -> Taken:
    """Read a source until its results are complete."""
    for attempt in range(1, policy.attempts + 1):
        check.is_last_attempt = attempt == policy.attempts
        try:
            return source.read(sink, check)
        except BifrostGatewayError as error:
            again = error.transient or (source.errors and isinstance(error, BatchNotFound))
            if check.is_last_attempt or not again:
                raise
            pause = policy.pause * 2 ** (attempt - 1)
            log.warning(
                "%s Reading again in %g s (attempt %d of %d).", error.problem, pause, attempt + 1, policy.attempts
            )
            policy.sleep(pause)
    raise AssertionError("a policy has at least one attempt")
