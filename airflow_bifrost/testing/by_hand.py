"""Batches that tests put into the state, change and read, past the gateway's API."""

from __future__ import annotations

import time
from typing import Any

from airflow_bifrost.testing.batches import Batches
from airflow_bifrost.testing.clock import Batch
from airflow_bifrost.testing.files import Files
from airflow_bifrost.testing.model import JsonObject, echo_lines, to_line
from airflow_bifrost.testing.providers import COUNTS, PROVIDERS, Provider, check_names, provider_of
from airflow_bifrost.testing.store import Store
from airflow_bifrost.testing.versions import Version

_TIMES = (
    "created",
    "in_progress",
    "expires",
    "finalizing",
    "completed",
    "failed",
    "expired",
    "cancelling",
    "cancelled",
)
MEMBERS = (
    *("id", "object", "endpoint", "input_file_id", "completion_window", "status", "request_counts", "metadata"),
    *(f"{time}_at" for time in (*_TIMES, "archived")),
    *("output_file_id", "error_file_id", "errors", "processing_status", "results_url", "operation_name", "done"),
    *("model", "usage", "progress", "display_name", "input_blob", "output_blob", "error_blob"),
)
"""What may stand in a batch on the wire of gateways 1.4 and 1.5, of all providers together."""
_OPTIONS = ("dest", "job_name", "output_s3_uri", "output_folder")


class ByHand:
    """Puts batches into the state, overrides what they show, and describes all of them."""

    def __init__(self, store: Store, files: Files, batches: Batches, version: Version) -> None:
        self._store = store
        self._version = version
        self._files = files
        self._batches = batches

    def add_batch(
        self,
        provider: str = "openai",
        status: str | None = None,
        batch_id: str | None = None,
        rows: int | list[JsonObject] = 1,
        counts: dict[str, int] | None = None,
        **fields: Any,
    ) -> str:
        """Put a batch into the state; see ``LocalGateway.add_batch``."""
        api = provider_of(provider)
        if self._version < api.since:
            raise ValueError(f"gateways of this version have no batches on {provider}: use LocalGateway(version='1.5')")
        check_names("a member of a batch", fields, (*MEMBERS, *_OPTIONS))
        if counts is not None:
            fields["request_counts"] = counts
        overrides = _with_full_counts(fields)
        given = echo_lines(provider, rows) if isinstance(rows, int) else rows
        file = self._files.add(api, map(to_line, given), filename="input.jsonl")
        batch = self._batches.add(
            api,
            file,
            id=api.new_batch_id() if batch_id is None else _own_id(api, batch_id),
            input_file_id=file.id,
            endpoint=str(overrides.pop("endpoint", "/v1/chat/completions")),
            completion_window="24h",
            model=overrides.pop("model", None),
            metadata=overrides.pop("metadata", {}),
            options={name: overrides.pop(name) for name in _OPTIONS if name in overrides},
            held=status,
            held_at=None if status is None else time.time(),
            overrides=overrides,
            idempotency_key=None,
        )
        return api.public_batch_id(batch.id, native=False)

    def set_batch(self, batch_id: str, **fields: Any) -> None:
        """Override what a batch shows; see ``LocalGateway.set_batch``."""
        batch = self._by_public_id(batch_id)
        check_names("a member of a batch", fields, MEMBERS)
        columns: dict[str, Any] = {}
        if "status" in fields:
            status = fields.pop("status")
            columns = {"held": status, "held_at": None if status is None else time.time(), "cancel_at": None}
        self._store.update_batch(batch, overrides={**batch.overrides, **_with_full_counts(fields)}, **columns)

    def describe(self) -> list[JsonObject]:
        """Every batch, oldest first, with what the wire does not tell."""
        return [
            {
                **self._batches.wire(batch, native=False),
                "provider": batch.provider,
                "rows": batch.rows,
                "idempotency_key": batch.idempotency_key,
            }
            for batch in self._store.all_batches()
        ]

    def _by_public_id(self, batch_id: str) -> Batch:
        found = [
            batch
            for api in PROVIDERS.values()
            if (batch := self._store.batch(api.name, _own_id(api, batch_id))) is not None
        ]
        if len(found) != 1:
            raise LookupError(f"{len(found)} batches have the id {batch_id}")
        return found[0]


def _own_id(api: Provider, batch_id: str) -> str:
    own = api.own_batch_id(batch_id, native=False)
    return api.own_batch_id(batch_id, native=True) if api.name == "bedrock" and not own.startswith("arn:") else own


def _with_full_counts(fields: dict[str, Any]) -> dict[str, Any]:
    counts = fields.get("request_counts")
    if counts is None:
        return dict(fields)
    check_names("a count", counts, COUNTS)
    return {**fields, "request_counts": {"total": 0, "completed": 0, "failed": 0, **counts}}
