"""(provider, status, counts) -> what became of the batch.

The gateway hands on each provider's own words: ``ended`` and ``completed`` say nothing about the rows, Bedrock's
``PartiallyCompleted`` arrives as ``failed``, and some statuses arrive untranslated. This module alone interprets them.
"""

from __future__ import annotations

import re
from enum import StrEnum

from airflow_bifrost.gateway import versions
from airflow_bifrost.gateway.models import Batch, RequestCounts


class BatchStatus(StrEnum):
    """The statuses that this package understands, in OpenAI's spelling. Anything else is ``UNKNOWN``: not terminal."""

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
        """Fold case, ``canceled``, Google's ``JOB_STATE_`` and ``BATCH_STATE_`` prefixes and AWS's words."""
        word = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", status.strip()).lower().replace("-", "_").replace(" ", "_")
        word = re.sub(r"^(job_state|batch_state)_", "", word)
        return _WORDS.get(word, cls.UNKNOWN)


ENDS = frozenset(
    {
        BatchStatus.COMPLETED,
        BatchStatus.PARTIALLY_COMPLETED,
        BatchStatus.ENDED,
        BatchStatus.FAILED,
        BatchStatus.EXPIRED,
        BatchStatus.CANCELLED,
    }
)

_WORDS = {
    **{str(status): status for status in BatchStatus if status != "unknown"},
    **{said: BatchStatus(means) for said, means in versions.WORDS.items()},
    "pending": BatchStatus.VALIDATING,  # Google
    "queued": BatchStatus.VALIDATING,
    "running": BatchStatus.IN_PROGRESS,
    "succeeded": BatchStatus.COMPLETED,
    "partially_succeeded": BatchStatus.PARTIALLY_COMPLETED,
    "submitted": BatchStatus.VALIDATING,  # AWS
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


WITH_RESULTS = frozenset({Outcome.SUCCEEDED, Outcome.PARTIAL})  # other batches may have some


def outcome_of(provider: str, status: str, counts: RequestCounts) -> Outcome | None:
    """The outcome of a batch; None while it is not terminal, or its status is unknown.

    :param provider: the provider's name, as the gateway knows it.
    :param status: as the gateway sent it.
    :param counts: None for every number that was not given.
    """
    match BatchStatus.of(status):
        case BatchStatus.COMPLETED:
            return _of_completed(provider, counts)
        case BatchStatus.PARTIALLY_COMPLETED:
            return Outcome.PARTIAL
        case BatchStatus.ENDED:
            return _of_ended(counts)
        case BatchStatus.FAILED:
            # Bedrock's PartiallyCompleted arrives as failed; only there do completed rows mean usable output.
            return Outcome.PARTIAL if provider == "bedrock" and counts.completed else Outcome.FAILED
        case BatchStatus.EXPIRED:
            return Outcome.EXPIRED
        case BatchStatus.CANCELLED:
            return Outcome.CANCELLED
    return None


def outcome_of_batch(batch: Batch, provider: str) -> Outcome | None:
    """:func:`outcome_of` for a batch of ``provider``."""
    return outcome_of(provider, batch.status, batch.request_counts)


def processed_rows(provider: str, counts: RequestCounts) -> int | None:
    """How many rows the provider is done with, whatever came of them; None where the counts do not say."""
    if provider == "gemini":  # completed includes failures here
        return counts.completed
    given = [counts.completed, counts.failed, counts.expired, counts.canceled]
    return sum(number for number in given if number) if counts.completed is not None else None


def _of_completed(provider: str, counts: RequestCounts) -> Outcome:
    if not counts.failed:
        return Outcome.PARTIAL if _short(counts) or counts.expired or counts.canceled else Outcome.SUCCEEDED
    if provider == "gemini":  # completed includes failures here, and succeeded is absent when it is 0
        return Outcome.PARTIAL if counts.succeeded else Outcome.FAILED
    if counts.total is not None:
        return Outcome.FAILED if counts.failed >= counts.total else Outcome.PARTIAL
    return Outcome.PARTIAL if counts.completed or counts.succeeded else Outcome.FAILED


def _of_ended(counts: RequestCounts) -> Outcome:
    """Anthropic says ``ended`` whatever happened to the rows: only the counts tell."""
    succeeded = (counts.succeeded if counts.succeeded is not None else counts.completed) or 0
    others = {
        Outcome.FAILED: counts.failed or 0,
        Outcome.EXPIRED: counts.expired or 0,
        Outcome.CANCELLED: counts.canceled or 0,
    }
    if succeeded:
        return Outcome.PARTIAL if _short(counts) or any(others.values()) else Outcome.SUCCEEDED
    if any(others.values()):
        return max(others, key=lambda outcome: others[outcome])
    return Outcome.PARTIAL  # no counts: results may exist, and nothing shows that all rows have one


def _short(counts: RequestCounts) -> bool:
    """Whether a row is missing among those that are counted as done."""
    done = (counts.completed, counts.succeeded)
    return counts.total is not None and any(number is not None and number < counts.total for number in done)
