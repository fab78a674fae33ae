"""Gemini as it looks through the gateway."""

from __future__ import annotations

import string
import time
from urllib.parse import unquote

from airflow_bifrost.testing.clock import Phase
from airflow_bifrost.testing.model import Fate, JsonObject
from airflow_bifrost.testing.provider_answers import ProviderAnswered
from airflow_bifrost.testing.providers.openai import DAY, OpenAI, Snapshot, answered, letters, present
from airflow_bifrost.testing.store import Yield
from airflow_bifrost.testing.versions import V1_5, V2

_GEMINI_WORDS: dict[Phase, str] = {
    phase: phase.value for phase in Phase if phase not in (Phase.VALIDATING, Phase.FINALIZING)
}


class Gemini(OpenAI):
    """Gemini: ``completed`` includes failures, and there is no file to download."""

    name = "gemini"
    phases = {
        "BATCH_STATE_PENDING": Phase.VALIDATING,
        "BATCH_STATE_RUNNING": Phase.IN_PROGRESS,
        "BATCH_STATE_SUCCEEDED": Phase.COMPLETED,
        "BATCH_STATE_FAILED": Phase.FAILED,
        "BATCH_STATE_CANCELLING": Phase.CANCELLING,
        "BATCH_STATE_CANCELLED": Phase.CANCELLED,
        "BATCH_STATE_EXPIRED": Phase.EXPIRED,
    }
    validates_input = False
    cursors_advance = False
    needs_endpoint = False
    list_request_type = "batch_list"

    def new_batch_id(self) -> str:
        return letters(36, string.ascii_lowercase + string.digits)

    def new_file_id(self, filename: str, form: dict[str, str]) -> str:
        return letters(12, string.ascii_lowercase + string.digits)

    def public_batch_id(self, own: str, *, native: bool) -> str:
        return f"batches/{own}" if native else f"batches-{own}"

    def own_batch_id(self, segment: str, *, native: bool) -> str:
        plain = unquote(segment.partition("#")[0])
        return plain if native else plain.removeprefix("batches-")

    def public_file_id(self, own: str, *, native: bool) -> str:
        return f"files/{own}" if native else f"files-{own}"

    def own_file_id(self, segment: str) -> str:
        return unquote(segment).removeprefix("files-").removeprefix("files/")

    def yields(self, batch_id: str, input_file_id: str | None, options: JsonObject) -> list[Yield]:
        return []

    def batch(self, snapshot: Snapshot, *, native: bool, listed: bool = False) -> JsonObject:
        b, p = snapshot.batch, snapshot.progress
        status = p.status if p.phase is None else _GEMINI_WORDS.get(p.phase, "in_progress")
        bare = listed and snapshot.version < V1_5
        body: JsonObject = {
            "id": b.id if bare else self.public_batch_id(b.id, native=native),
            "object": "batch",
            "status": status,
            "request_counts": {"total": 0, "completed": 0, "failed": 0} if listed else self.counts(snapshot),
            "created_at": int(b.created_at),
            "operation_name": f"batches/{b.id}",
        }
        if snapshot.version >= V2 and p.phase is Phase.COMPLETED:
            body["output_file_id"] = f"files/batch-{b.id}"  # content is refused, also under this name
        return body if listed else {**body, "done": p.terminal}

    def created(self, snapshot: Snapshot, *, native: bool) -> JsonObject:
        body = self.batch(snapshot, native=native)
        del body["done"]
        body["request_counts"] = {"total": snapshot.batch.rows, "completed": 0, "failed": 0}
        if not snapshot.batch.input_file_id:
            return body
        return {**body, "endpoint": snapshot.batch.endpoint, "input_file_id": snapshot.batch.input_file_id}

    def cancelled(self, snapshot: Snapshot, *, native: bool) -> JsonObject:
        body = super().cancelled(snapshot, native=native)
        counts = {"total": 0, "completed": 0, "failed": 0}
        return {**body, "status": "cancelling", "request_counts": counts, "cancelling_at": int(time.time())}

    def counts(self, snapshot: Snapshot) -> JsonObject:
        rows, finished = snapshot.batch.rows, snapshot.progress.finished
        failed = snapshot.tally[Fate.FAIL] + snapshot.tally[Fate.EXPIRE]
        return {"total": rows, "completed": finished, "failed": failed} | present(
            succeeded=finished - failed, pending=rows - finished
        )

    def storage(self, own: str, created_at: int) -> JsonObject:
        uri = f"https://generativelanguage.googleapis.com/v1beta/files/{own}"
        return {"expires_at": created_at + 2 * DAY, "storage_backend": "api", "storage_uri": uri}

    def no_batch(self, own: str) -> ProviderAnswered:
        return self.refusal(404, "Requested entity was not found.", word="NOT_FOUND")

    def no_file(self, own: str) -> ProviderAnswered:
        return self.no_batch(own)

    def no_input(self, own: str) -> ProviderAnswered:
        return self.refusal(400, f"File files/{own} does not exist.")

    def not_cancellable(self, snapshot: Snapshot) -> ProviderAnswered:
        return self.refusal(400, "The batch is not running.", word="FAILED_PRECONDITION")

    def refusal(self, status: int, message: str, **detail: str) -> ProviderAnswered:
        word = detail.get("word", "INVALID_ARGUMENT")
        return answered(status, {"error": {"code": status, "message": message, "status": word}})
