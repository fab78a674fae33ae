"""The statuses of a batch and its outcome, in one vocabulary for all providers."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Protocol


class BatchStatus(StrEnum):
    """The statuses that this package understands, in OpenAI's spelling. Anything else is ``UNKNOWN``, which is not terminal."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    PARTIALLY_COMPLETED = "partially_completed"
    ENDED = "ended"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, status: str) -> BatchStatus:
        """Read a status as the gateway sent it.

        This normalizes case, ``canceled``, Google's prefixes ``JOB_STATE_`` and ``BATCH_STATE_``, and AWS's words.
        """
        word = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", status.strip()).lower().replace("-", "_").replace(" ", "_")
        word = re.sub(r"^(job_state|batch_state)_", "", word)
        return _WORDS.get(word, cls.UNKNOWN)


TERMINAL = frozenset(
    {
        BatchStatus.COMPLETED,
        BatchStatus.PARTIALLY_COMPLETED,
        BatchStatus.ENDED,
        BatchStatus.FAILED,
        BatchStatus.EXPIRED,
        BatchStatus.CANCELLED,
    }
)

# The provider has processed every row, or all rows that it will process.
FINISHED = frozenset({BatchStatus.COMPLETED, BatchStatus.PARTIALLY_COMPLETED, BatchStatus.ENDED})

_WORDS = {
    **{str(status): status for status in BatchStatus if status != "unknown"},
    "canceled": BatchStatus.CANCELLED,  # the gateway's published API spells it with one l; recorded answers have two
    "canceling": BatchStatus.CANCELLING,
    # Google
    "pending": BatchStatus.VALIDATING,
    "queued": BatchStatus.VALIDATING,
    "running": BatchStatus.IN_PROGRESS,
    "updating": BatchStatus.IN_PROGRESS,
    "succeeded": BatchStatus.COMPLETED,
    "partially_succeeded": BatchStatus.PARTIALLY_COMPLETED,
    # AWS
    "submitted": BatchStatus.VALIDATING,
    "scheduled": BatchStatus.VALIDATING,
    "stopping": BatchStatus.CANCELLING,
    "stopped": BatchStatus.CANCELLED,
    "inprogress": BatchStatus.IN_PROGRESS,
    "partiallycompleted": BatchStatus.PARTIALLY_COMPLETED,
}


class Outcome(StrEnum):
    """This package's verdict on a terminal batch."""

    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


WITH_RESULTS = frozenset({Outcome.SUCCEEDED, Outcome.PARTIAL})  # batches of other outcomes may have some results


class Counts(Protocol):
    """The row counts of a batch. A count is None if the gateway did not send it."""

    @property
    def total(self) -> int | None: ...
    @property
    def completed(self) -> int | None: ...
    @property
    def failed(self) -> int | None: ...
    @property
    def succeeded(self) -> int | None: ...
    @property
    def expired(self) -> int | None: ...
    @property
    def canceled(self) -> int | None: ...
