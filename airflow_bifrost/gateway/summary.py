"""The batch summary: what a task tells other tasks about a batch. JSON types only, always all keys, small."""

from __future__ import annotations

from typing import Any

import pendulum
from pydantic import BaseModel, ConfigDict

from airflow_bifrost.gateway.models import Batch, RequestCounts
from airflow_bifrost.gateway.outcome import Outcome, outcome_of_batch

MAX_ERRORS = 20
MAX_ERROR_LENGTH = 500
MAX_METADATA = 16  # the upstreams' own limit

COUNTS = tuple(RequestCounts.model_fields)


class BatchSummary(BaseModel):
    """The contract's XCom of one batch. Times are ISO 8601 in UTC; null where the gateway gave nothing.

    :param duration_seconds: from ``created_at`` to the end; null while it runs, or where the gateway gives no end.
    :param errors: the upstream's own, ``{"code", "message", "param", "line"}``; at most 20, each message at most 500 characters.
    """

    model_config = ConfigDict(frozen=True)

    batch_id: str
    provider: str
    status: str
    outcome: Outcome | None
    output_file_id: str | None
    error_file_id: str | None
    results_url: str | None
    request_counts: dict[str, int | None]
    errors: list[dict[str, Any]]
    created_at: str | None
    completed_at: str | None
    duration_seconds: float | None
    metadata: dict[str, Any] | None

    @classmethod
    def of(cls, batch: Batch, *, batch_id: str, provider: str) -> BatchSummary:
        """Summarise ``batch``.

        :param batch_id: the id that was asked for; the gateway may spell it otherwise (Gemini).
        """
        outcome = outcome_of_batch(batch, provider)
        ended = batch.ended_at if outcome else None
        return cls(
            batch_id=batch_id,
            provider=provider,
            status=batch.status,
            outcome=outcome,
            output_file_id=batch.output_file_id,
            error_file_id=batch.error_file_id,
            results_url=batch.results_url,
            request_counts={name: getattr(batch.request_counts, name) for name in COUNTS},
            errors=[
                {
                    "code": error.code,
                    "message": error.message and error.message[:MAX_ERROR_LENGTH],
                    "param": error.param,
                    "line": error.line,
                }
                for error in batch.errors[:MAX_ERRORS]
            ],
            created_at=_iso(batch.created_at),
            completed_at=_iso(batch.completed_at),
            duration_seconds=(ended - batch.created_at).total_seconds() if ended and batch.created_at else None,
            metadata=dict(list(batch.metadata.items())[:MAX_METADATA]) if batch.metadata else None,
        )

    def to_xcom(self) -> dict[str, Any]:
        """The summary as JSON types."""
        return self.model_dump(mode="json")


def _iso(time: pendulum.DateTime | None) -> str | None:
    return time.in_timezone("UTC").isoformat() if time else None
