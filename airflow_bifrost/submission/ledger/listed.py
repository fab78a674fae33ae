"""A provider's list of batches, as far as a decision needs it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from airflow_bifrost import providers
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.providers.statuses import BatchStatus, Outcome
from airflow_bifrost.submission.ledger.record import Tag


@dataclass(frozen=True, slots=True)
class ListedBatch:
    """What a decision needs to know about a batch. ``rows`` and ``created_at`` are None if the provider does not say."""

    id: str
    status: BatchStatus
    outcome: Outcome | None
    created_at: float | None = None
    rows: int | None = None
    tag: Tag | None = None
    input_file_id: str | None = None

    @classmethod
    def of(cls, batch: Batch, provider: str) -> Self:
        facts = providers.get(provider)
        counts = batch.request_counts
        return cls(
            batch.id,
            BatchStatus.of(batch.status),
            facts.outcome(batch.status, counts),
            batch.created_at.timestamp() if batch.created_at is not None else None,
            counts.total,
            Tag.of(batch.metadata),
            batch.input_file_id,
        )

    @property
    def cancelled(self) -> bool:
        return self.status in (BatchStatus.CANCELLING, BatchStatus.CANCELLED)

    def __str__(self) -> str:
        when = (
            "at an unknown time"
            if self.created_at is None
            else f"at {datetime.fromtimestamp(self.created_at, UTC):%H:%M:%S} UTC"
        )
        rows = "an unknown number of rows" if self.rows is None else f"{self.rows:,} rows"
        return f"{self.id} ({self.status}, created {when}, {rows})"


@dataclass(frozen=True, slots=True)
class ListRead:
    """A list of batches as it was read, newest first.

    :param complete: the list was read to its end.
    :param problem: why it was not, or why it could not be read at all.
    :param at: unix seconds at which the reading began.
    :param key: fingerprint of the token that it was read with.
    """

    batches: tuple[ListedBatch, ...]
    complete: bool
    at: float
    problem: str = ""
    key: str = ""

    def reaches(self, moment: float) -> bool:
        """Whether the list shows every batch that was created since ``moment``."""
        return self.complete or any(
            batch.created_at is not None and batch.created_at < moment for batch in self.batches
        )
