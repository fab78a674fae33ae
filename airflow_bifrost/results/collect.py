"""Reads all results of a terminal batch, or raises an error: rows that are paid for are never dropped silently."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from airflow_bifrost import providers
from airflow_bifrost.exceptions import BatchNotFound, BifrostGatewayError, BifrostProtocolError
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.results.completeness import Promise, Taken
from airflow_bifrost.results.source import Sink, Source, sources_of

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


POLICY = ReadPolicy()  # the default


def collect(
    client: GatewayClient,
    batch_id: str,
    provider: str,
    sink: Sink,
    *,
    rows: int | None = None,
    storage_conn_id: str | None = None,
    policy: ReadPolicy | None = None,
) -> Batch:
    """Read all results of a terminal batch into ``sink``.

    :param client: see :func:`airflow_bifrost.results.source.sources_of`, as for ``storage_conn_id``.
    :param sink: for example a :class:`airflow_bifrost.results.writer.ResultsWriter`. Do not use it after an error.
    :param rows: number of rows of the batch, if known. If each has a result, the results are complete, even if the batch counts more.
    :return: the batch, as retrieved just before its results were read.
    :raises BifrostProtocolError: the batch does not name its files, or its results cannot be read or are incomplete. The rows are already
        paid for, and a retry reads their results again.
    :raises BifrostUnavailable: the download broke off in every attempt.
    :raises ResultsUnavailable: there are no results, or this gateway cannot return them.
    """
    policy = policy or POLICY
    batch = _with_files(client, batch_id, provider, policy)
    sources = sources_of(client, batch, batch_id, provider, storage_conn_id=storage_conn_id)
    taken = 0
    for source in sources:
        check = _Check(
            source,
            source.promise(taken),
            rows=None if rows is None else max(0, rows - taken),
            is_last_source=source is sources[-1],
            allow_incomplete=policy.allow_incomplete,
        )
        try:
            taken += _read(source, sink, check, policy).results
        except BatchNotFound as error:
            nothing_paid = providers.get(provider).succeeded_rows(batch.request_counts) == 0
            if not source.errors or not (batch.output_file_id or nothing_paid):
                raise
            log.warning("%s The failed rows therefore have no result. They were not billed.", error)
    return batch


def _with_files(client: GatewayClient, batch_id: str, provider: str, policy: ReadPolicy) -> Batch:
    """Poll the batch until it names its files."""
    deadline = None
    while True:
        batch = client.get_batch(batch_id, provider=provider)
        late = providers.get(provider).results_late(
            batch.status, batch.request_counts, output_file_id=batch.output_file_id, error_file_id=batch.error_file_id
        )
        if not late:
            return batch
        now = policy.clock()
        if deadline is None:
            deadline = now + policy.grace
            log.warning(
                "Batch %s of %s is %s, but does not name its output file yet. Polling it for up to %g s.",
                batch_id,
                provider,
                batch.status,
                policy.grace,
            )
        if now >= deadline:
            raise BifrostProtocolError(
                f"Batch {batch_id} of {provider} is {batch.status}, but has not named its output file within {policy.grace:g} s."
                " Its rows are paid for, and nothing was written. Retry or clear the task to poll the batch again. If the file never"
                " appears, contact the provider.",
                transient=True,
            )
        policy.sleep(min(policy.poll_interval, deadline - now))


@dataclass(slots=True)
class _Check:
    """Raises if the results that were read from a source are not complete.

    :param rows: number of rows of the batch without a result in the earlier sources; None if unknown.
    :param is_last_attempt: whether this is the last time that the source is read.
    """

    source: Source
    promise: Promise
    rows: int | None
    is_last_source: bool = False
    is_last_attempt: bool = False
    allow_incomplete: bool = False

    def __call__(self, taken: Taken) -> None:
        if self.rows is not None and taken.results >= self.rows:
            return  # every row has a result, even if the batch counts more
        flaw = self.promise.flaw(taken)
        doubt = None
        if self.rows is not None and self.is_last_source:
            doubt = self.promise.doubt(taken, self.rows)
        if flaw is None and (doubt is None or self.is_last_attempt):
            return
        name = self.source.name
        what = f"{name[0].upper()}{name[1:]} is incomplete or cannot be read: {flaw or doubt}"
        if self.is_last_attempt and self.allow_incomplete:
            log.warning("%s Because allow_incomplete is set, the task continues without the missing results.", what)
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
