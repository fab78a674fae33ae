"""Anthropic as it looks through the gateway."""

from __future__ import annotations

from airflow_bifrost.testing.clock import Phase
from airflow_bifrost.testing.model import Fate, JsonObject
from airflow_bifrost.testing.provider_answers import ProviderAnswered
from airflow_bifrost.testing.providers.openai import DAY, OpenAI, Snapshot, answered, letters, present
from airflow_bifrost.testing.store import Yield


class Anthropic(OpenAI):
    """Anthropic's Message Batches: one terminal status, ``ended``, whatever the outcome of the requests."""

    name = "anthropic"
    phases = {"canceling": Phase.CANCELLING, "ended": Phase.COMPLETED}
    validates_input = False
    cursors_advance = False
    needs_endpoint = False

    def new_batch_id(self) -> str:
        return f"msgbatch_01{letters(22)}"

    def new_file_id(self, filename: str, form: dict[str, str]) -> str:
        return f"file_011{letters(21)}"

    def own_batch_id(self, segment: str, *, native: bool) -> str:
        return segment

    def yields(self, batch_id: str, input_file_id: str | None, options: JsonObject) -> list[Yield]:
        return []

    def batch(self, snapshot: Snapshot, *, native: bool, listed: bool = False) -> JsonObject:
        b, p = snapshot.batch, snapshot.progress
        if p.terminal:
            status = processing = "ended"
        elif p.phase is Phase.CANCELLING:
            status, processing = "cancelling", "canceling"
        else:
            status = processing = "in_progress" if p.phase else p.status
        body: JsonObject = {
            "id": self.public_batch_id(b.id, native=native),
            "object": "batch",
            "status": status,
            "request_counts": self.counts(snapshot),
            "created_at": int(b.created_at),
            "expires_at": int(b.created_at) + DAY,
        }
        if p.terminal:
            body["completed_at"] = max(p.times.values())
        if "cancelling_at" in p.times:
            body["cancelling_at"] = p.times["cancelling_at"]
        body["processing_status"] = processing
        if p.terminal:
            body["results_url"] = f"https://api.anthropic.com/v1/messages/batches/{b.id}/results"
        return body

    def cancelled(self, snapshot: Snapshot, *, native: bool) -> JsonObject:
        body = super().cancelled(snapshot, native=native)
        return {**body, "object": "message_batch", "status": "cancelling"}

    def counts(self, snapshot: Snapshot) -> JsonObject:
        progress, tally, rows = snapshot.progress, snapshot.tally, snapshot.batch.rows
        if not progress.terminal:
            return {"total": rows, "completed": 0, "failed": 0} | present(pending=rows)
        left = rows - progress.finished
        phase = progress.phase
        succeeded = tally[Fate.OK] + tally[Fate.GARBLE] + tally[Fate.MISSING]
        failed = tally[Fate.FAIL] + (left if phase is Phase.FAILED else 0)
        expired = tally[Fate.EXPIRE] + (left if phase is Phase.EXPIRED else 0)
        return {"total": rows, "completed": succeeded, "failed": failed} | present(
            succeeded=succeeded, expired=expired, canceled=left if phase is Phase.CANCELLED else 0
        )

    def no_batch(self, own: str) -> ProviderAnswered:
        return self.refusal(404, f"Batch {own} not found", type="not_found_error")

    def no_file(self, own: str) -> ProviderAnswered:
        return self.refusal(404, f"File {own} not found", type="not_found_error")

    def not_cancellable(self, snapshot: Snapshot) -> ProviderAnswered:
        return self.refusal(400, f"Batch {snapshot.batch.id} has ended and cannot be canceled.")

    def refusal(self, status: int, message: str, **detail: str) -> ProviderAnswered:
        error = {"type": "invalid_request_error", "message": message, **detail}
        return answered(status, {"type": "error", "error": error, "request_id": f"req_011{letters(21)}"})
