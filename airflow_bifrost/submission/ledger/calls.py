"""The ledger's requests to the gateway that cost nothing, and its pauses."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from airflow_bifrost.exceptions import BatchNotFound, BifrostGatewayError
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.retry import RetryPolicy
from airflow_bifrost.submission.ledger.files import READY_WITHIN
from airflow_bifrost.submission.ledger.listed import ListedBatch, ListRead
from airflow_bifrost.submission.ledger.record import LATE, SETTLE
from airflow_bifrost.submission.ledger.situation import Gone

MAX_LISTED = 20_000  # batches; a longer list is not read to its end
NEWEST = 100  # batches of a first page
SLICE = 1.0  # seconds; how soon a stop ends a pause

log = logging.getLogger("airflow.task")


@dataclass(frozen=True, slots=True)
class LedgerTiming:
    """The clocks, pauses and limits of a ledger. Tests replace them.

    :param settle: seconds for which a create that got no answer may still make a batch.
    """

    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.time
    clock: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    settle: float = SETTLE
    late: float = LATE
    ready_within: float = READY_WITHIN
    retry: RetryPolicy = RetryPolicy()  # noqa: RUF009 - frozen
    max_listed: int = MAX_LISTED


@dataclass(frozen=True, slots=True)
class Calls:
    """
    :param check_stop: raises if the task has been stopped.
    """

    client: GatewayClient
    check_stop: Callable[[], None]
    timing: LedgerTiming

    def now(self) -> float:
        """Unix seconds by the gateway's clock, which is the same for all workers; by this worker's clock, if the gateway does not say."""
        return self.timing.now() + (self.client.clock_offset or 0.0)

    def pause(self, seconds: float) -> None:
        """Sleep until the time is over or the task is stopped."""
        while seconds > 0.0:
            self.check_stop()
            self.timing.sleep(min(SLICE, seconds))
            seconds -= SLICE
        self.check_stop()

    def read_list(self, provider: str, since: float | None) -> ListRead:
        """Read the list as far as needed.

        :param since: unix seconds; stop at the first batch that is older. None: read to the end.
        :raises BifrostGatewayError: a page cannot be read, because of a transient error.
        """
        at = self.now()
        found: list[ListedBatch] = []

        def read(problem: str | None) -> ListRead:
            return ListRead(tuple(found), problem is None, at, problem or "", self.client.key_id)

        try:
            listing = self.client.list_batches(provider=provider)
            for batch in listing:
                found.append(ListedBatch.of(batch, provider))
                created_at = found[-1].created_at
                if since is not None and created_at is not None and created_at < since:
                    return read("the list was read only back to the time of the create")
                if len(found) > self.timing.max_listed:
                    return read(f"the list of {provider} is longer than {self.timing.max_listed:,} batches")
        except BifrostGatewayError as error:
            if error.transient:
                raise
            return read(f"the list of {provider} cannot be read: {error}")
        why = listing.why_incomplete
        return read(f"the list of {provider} was cut short: {why}" if why else None)

    def read_newest(self, provider: str) -> ListRead:
        """The first page of the list."""
        page = self.client.list_page(provider=provider, limit=NEWEST)
        found = tuple(ListedBatch.of(batch, provider) for batch in page.data)
        return ListRead(found, not page.has_more and not page.next_cursor, self.now(), key=self.client.key_id)

    def retrieve(self, batch_id: str, provider: str) -> ListedBatch | Gone:
        try:
            return ListedBatch.of(self.client.get_batch(batch_id, provider=provider), provider)
        except BatchNotFound as error:
            return Gone(str(error))

    def cancel(self, batch_id: str, provider: str) -> None:
        """Cancel a batch unless it has ended or is gone.

        :raises BifrostGatewayError: the batch may still be running.
        """
        try:
            batch = self.client.get_batch(batch_id, provider=provider)
            if ListedBatch.of(batch, provider).outcome is None:
                batch = self.client.cancel_batch(batch_id, provider=provider)
        except BatchNotFound as error:
            log.warning("%s", error)
        else:
            log.info("Batch %s is %s", batch_id, batch.status)
