"""The batch summary: what a task tells other tasks about a batch. Small, JSON types only, and always with all keys."""

from __future__ import annotations

import json
from typing import Any

import pendulum
from pydantic import BaseModel, ConfigDict

from airflow_bifrost import providers
from airflow_bifrost.gateway.models import Batch, RequestCounts
from airflow_bifrost.gateway.redact import masked
from airflow_bifrost.providers.statuses import Outcome

MAX_ERRORS = 20
MAX_METADATA = 16  # this, and the lengths of keys and values, are the providers' own limits
MAX_METADATA_KEY = 64
MAX_METADATA_VALUE = 512

COUNTS = tuple(RequestCounts.model_fields)


class BatchSummary(BaseModel):
    """The XCom of one batch. Times are ISO 8601 in UTC. Null means that the gateway sent nothing.

    :param duration_seconds: from ``created_at`` to the end; null while the batch runs, or if the gateway sends no end.
    :param errors: the provider's own, ``{"code", "message", "param", "line"}``; at most 20, each message at most 500
        characters, with anything like a key masked.
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
    metadata: dict[str, str] | None

    @classmethod
    def of(cls, batch: Batch, *, batch_id: str, provider: str) -> BatchSummary:
        """Summarize ``batch``.

        :param batch_id: the requested ID. The gateway may spell it in another way (Gemini).
        """
        outcome = providers.get(provider).outcome(batch.status, batch.request_counts)
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
                {"code": error.code, "message": error.message, "param": error.param, "line": error.line}
                for error in batch.errors[:MAX_ERRORS]
            ],
            created_at=_iso(batch.created_at),
            completed_at=_iso(batch.completed_at),
            duration_seconds=_seconds(batch.created_at, ended),
            metadata=_metadata(batch.metadata) if batch.metadata else None,
        )

    @classmethod
    def unknown(cls, batch_id: str, provider: str) -> BatchSummary:
        """The summary of a batch that the gateway does not find."""
        return cls.of(Batch.model_validate({"id": batch_id, "status": "unknown"}), batch_id=batch_id, provider=provider)

    def to_xcom(self) -> dict[str, Any]:
        """The summary as JSON types."""
        return self.model_dump(mode="json")


def _iso(time: pendulum.DateTime | None) -> str | None:
    return time.in_timezone("UTC").isoformat() if time else None


def _seconds(start: pendulum.DateTime | None, end: pendulum.DateTime | None) -> float | None:
    return (end - start).total_seconds() if start and end and end >= start else None


def _metadata(metadata: dict[str, Any]) -> dict[str, str]:
    """Strings, as the gateway sends them. Anything else becomes a string."""
    shown = {}
    for key, value in list(metadata.items())[:MAX_METADATA]:
        text = value if isinstance(value, str) else json.dumps(value)
        shown[_plain(key, MAX_METADATA_KEY)] = _plain(text, MAX_METADATA_VALUE)
    return shown


def _plain(text: str, limit: int) -> str:
    return masked(text[:limit])
