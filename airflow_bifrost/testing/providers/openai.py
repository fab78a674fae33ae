"""OpenAI as it looks through the gateway, and what the other providers share with it: IDs, statuses, the batch on the wire."""

from __future__ import annotations

import random
import string
import uuid
from collections import Counter
from dataclasses import dataclass
from urllib.parse import unquote

from airflow_bifrost.testing.clock import Batch, Phase, Progress
from airflow_bifrost.testing.model import Fate, JsonObject
from airflow_bifrost.testing.provider_answers import ProviderAnswer, ProviderAnswered
from airflow_bifrost.testing.store import Yield
from airflow_bifrost.testing.versions import V1_4, Version

DAY = 86_400  # seconds
_random = random.SystemRandom()


def letters(length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(_random.choices(alphabet, k=length))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A batch at one moment, with the counts of its rows and the IDs of the files that it has produced."""

    batch: Batch
    progress: Progress
    tally: Counter[Fate]
    yielded: dict[str, str]
    version: Version = V1_4


class OpenAI:
    """OpenAI, and what the others share with it."""

    name = "openai"
    since = V1_4
    label = "OpenAI"
    phases: dict[str, Phase] = {"canceled": Phase.CANCELLED, "canceling": Phase.CANCELLING}
    validates_input = True
    cursors_advance = True
    list_request_type: str | None = "batch_retrieve"
    needs_endpoint = True

    # ids. "own" is the provider's id, which the state knows; "public" is what the gateway makes of it.

    def new_batch_id(self) -> str:
        return f"batch_{uuid.uuid4().hex}"

    def new_file_id(self, filename: str, form: dict[str, str]) -> str:
        return f"file-{letters(22)}"

    def public_batch_id(self, own: str, *, native: bool) -> str:
        return own

    def own_batch_id(self, segment: str, *, native: bool) -> str:
        """The id that the provider is asked for, from the raw path segment."""
        return unquote(segment.partition("#")[0])

    def public_file_id(self, own: str, *, native: bool) -> str:
        return own

    def own_file_id(self, segment: str) -> str:
        return unquote(segment.partition("#")[0])

    def yields(self, batch_id: str, input_file_id: str | None, options: JsonObject) -> list[Yield]:
        """The files that a new batch will yield."""
        return [Yield(kind, self.new_file_id("", {}), f"{batch_id}_{kind}.jsonl") for kind in ("output", "error")]

    def yielded(self, progress: Progress, batch: Batch, tally: Counter[Fate]) -> set[str]:
        """Which kinds of files exist now."""
        if not progress.terminal or batch.errors:
            return set()
        kinds = set()
        if tally[Fate.OK] or tally[Fate.GARBLE]:
            kinds.add("output")
        if (
            tally[Fate.FAIL]
            or tally[Fate.EXPIRE]
            or (progress.phase is Phase.EXPIRED and progress.finished < batch.rows)
        ):
            kinds.add("error")
        return kinds

    # the wire

    def batch(self, snapshot: Snapshot, *, native: bool, listed: bool = False) -> JsonObject:
        """The batch as retrieve and list show it."""
        b, p = snapshot.batch, snapshot.progress
        body: JsonObject = {"id": self.public_batch_id(b.id, native=native), "object": "batch", "endpoint": b.endpoint}
        if b.input_file_id:
            body["input_file_id"] = b.input_file_id
        body |= {"completion_window": b.completion_window, "status": p.status, "request_counts": self.counts(snapshot)}
        if b.metadata:
            body["metadata"] = b.metadata
        body |= {"created_at": int(b.created_at), "expires_at": int(b.created_at) + DAY, **p.times}
        body |= {f"{kind}_file_id": file_id for kind, file_id in snapshot.yielded.items()}
        if b.errors and p.phase is Phase.FAILED:
            body["errors"] = {"object": "list", "data": b.errors}
        return body

    def created(self, snapshot: Snapshot, *, native: bool) -> JsonObject:
        """The batch as its creation shows it."""
        return self.batch(snapshot, native=native)

    def cancelled(self, snapshot: Snapshot, *, native: bool) -> JsonObject:
        """The batch as its cancelling shows it."""
        counts = self.counts(snapshot)
        body: JsonObject = {
            "id": self.public_batch_id(snapshot.batch.id, native=native),
            "object": "batch",
            "status": snapshot.progress.status,
            "request_counts": {name: counts[name] for name in ("total", "completed", "failed")},
        }
        times = snapshot.progress.times
        return body | {name: times[name] for name in ("cancelling_at", "cancelled_at") if name in times}

    def counts(self, snapshot: Snapshot) -> JsonObject:
        """``request_counts``."""
        progress, tally, rows = snapshot.progress, snapshot.tally, snapshot.batch.rows
        if progress.phase in (Phase.VALIDATING, Phase.FAILED, None):
            return {"total": 0, "completed": 0, "failed": 0}
        failed = tally[Fate.FAIL] + (tally[Fate.EXPIRE] if progress.terminal else 0)
        if progress.phase is Phase.EXPIRED:
            failed += rows - progress.finished
        completed = tally[Fate.OK] + tally[Fate.GARBLE] + tally[Fate.MISSING]
        return {"total": rows, "completed": completed, "failed": failed}

    def file(
        self,
        own: str,
        *,
        size: int,
        created_at: int,
        filename: str,
        purpose: str,
        status: str,
        listed: bool,
        native: bool,
    ) -> JsonObject:
        """A file object."""
        body: JsonObject = {
            "id": self.public_file_id(own, native=native),
            "object": "file",
            "bytes": size,
            "created_at": created_at,
            "filename": filename,
            "purpose": purpose,
            "status": status,
        }
        return body if listed else {**body, **self.storage(own, created_at)}

    def retrieved(self, body: JsonObject) -> JsonObject:
        """A file object as retrieve and list show it, after the upload."""
        return body

    upload_status = "processed"

    def storage(self, own: str, created_at: int) -> JsonObject:
        """Where a file lies."""
        return {"storage_backend": "api"}

    # refusals

    def no_batch(self, own: str) -> ProviderAnswered:
        return self.refusal(404, f"No batch found with id '{own}'.")

    def no_file(self, own: str) -> ProviderAnswered:
        return self.refusal(404, f"No such File object: {own}")

    def no_input(self, own: str) -> ProviderAnswered:
        return self.refusal(400, f"No such File object: {own}", param="input_file_id")

    def input_not_ready(self, own: str, status: str) -> ProviderAnswered:
        return self.refusal(400, f"The input file {own} is not ready: its status is '{status}'.", param="input_file_id")

    def not_cancellable(self, snapshot: Snapshot) -> ProviderAnswered:
        return self.refusal(409, f"Cannot cancel a batch with status '{snapshot.progress.status}'.")

    def refusal(self, status: int, message: str, **detail: str) -> ProviderAnswered:
        """The provider's own error, in the words and the shape that it has for errors."""
        known = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        return answered(status, {"error": {**known, **detail}})


def answered(status: int, body: JsonObject) -> ProviderAnswered:
    return ProviderAnswered(ProviderAnswer(status, body=body))


def present(**counts: int) -> dict[str, int]:
    """The counts that are not zero: the gateway leaves out the others."""
    return {name: count for name, count in counts.items() if count}
