"""Vertex AI as it looks through the gateway."""

from __future__ import annotations

import base64
import binascii
import random
import time
import uuid
from collections import Counter
from datetime import UTC, datetime

from airflow_bifrost.testing.clock import TERMINAL, Batch, Phase, Progress
from airflow_bifrost.testing.model import Fate, JsonObject
from airflow_bifrost.testing.provider_answers import ProviderAnswered
from airflow_bifrost.testing.providers.openai import OpenAI, Snapshot, answered
from airflow_bifrost.testing.store import Yield
from airflow_bifrost.testing.versions import V1_5

_FOLDER = "gs://example-bucket/out"
_WORDS = {phase: phase.value for phase in Phase if phase is not Phase.FINALIZING} | {Phase.FINALIZING: "in_progress"}
_random = random.SystemRandom()


class Vertex(OpenAI):
    """Vertex AI: IDs are base64url of a resource name, files are objects in Google Cloud Storage, results are below a folder."""

    name = "vertex"
    label = "Vertex"
    since = V1_5
    phases = {
        "JOB_STATE_QUEUED": Phase.VALIDATING,
        "JOB_STATE_PENDING": Phase.VALIDATING,
        "JOB_STATE_RUNNING": Phase.IN_PROGRESS,
        "JOB_STATE_UPDATING": Phase.IN_PROGRESS,
        "JOB_STATE_SUCCEEDED": Phase.COMPLETED,
        "JOB_STATE_PARTIALLY_SUCCEEDED": Phase.COMPLETED,
        "JOB_STATE_FAILED": Phase.FAILED,
        "JOB_STATE_CANCELLING": Phase.CANCELLING,
        "JOB_STATE_CANCELLED": Phase.CANCELLED,
        "JOB_STATE_EXPIRED": Phase.EXPIRED,
    }
    validates_input = False
    needs_endpoint = False

    JOBS = "projects/1234567890/locations/us-central1/batchPredictionJobs/"

    def new_batch_id(self) -> str:
        return f"{self.JOBS}{_random.randrange(10**18, 10**19)}"

    def new_file_id(self, filename: str, form: dict[str, str]) -> str:
        bucket = form.get("storage_config[gcs][bucket]", "example-bucket")
        prefix = form.get("storage_config[gcs][prefix]", "").strip("/")
        return f"gs://{bucket}/{prefix + '/' if prefix else ''}vertex-files/{uuid.uuid4()}/{filename}"

    def public_batch_id(self, own: str, *, native: bool) -> str:
        return own if native else _base64(own)

    def own_batch_id(self, segment: str, *, native: bool) -> str:
        """Native routes take the job's number as it is. The others decode base64, whatever the result."""
        if native:
            return self.JOBS + segment
        decoded = segment if segment.startswith("projects/") else _unbase64(segment)
        return decoded if decoded.startswith("projects/") else self.JOBS + decoded

    def public_file_id(self, own: str, *, native: bool) -> str:
        return _base64(own)

    def own_file_id(self, segment: str) -> str:
        return segment if segment.startswith("gs:") else _unbase64(segment)

    def yields(self, batch_id: str, input_file_id: str | None, options: JsonObject) -> list[Yield]:
        folder = str(options.get("output_folder", {}).get("url", _FOLDER)).rstrip("/")
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return [Yield("output", f"{folder}/prediction-model-{moment}/predictions.jsonl", "predictions.jsonl")]

    def yielded(self, progress: Progress, batch: Batch, tally: Counter[Fate]) -> set[str]:
        """Completed rows are exported even if the job ends early."""
        return {"output"} if progress.terminal and progress.phase is not Phase.FAILED and progress.finished else set()

    def batch(self, snapshot: Snapshot, *, native: bool, listed: bool = False) -> JsonObject:
        b, p = snapshot.batch, snapshot.progress
        body = self._begun(snapshot, native=native)
        if b.input_file_id:
            body["input_file_id"] = b.input_file_id if native else _base64(b.input_file_id)
        body |= {"status": p.status if p.phase is None else _WORDS[p.phase], "request_counts": self.counts(snapshot)}
        body["created_at"] = int(b.created_at)
        if p.phase is not Phase.VALIDATING:
            body["in_progress_at"] = p.times.get("in_progress_at", int(b.created_at))
        if p.phase in TERMINAL:
            body[f"{p.phase}_at"] = p.times[f"{p.phase}_at"]
        if "output" in snapshot.yielded:
            body["output_file_id"] = snapshot.yielded["output"].rpartition("/")[0]
        if p.phase is Phase.FAILED:
            message = "Failed to import data. Cause: the input file has no valid row."
            body["errors"] = {"data": [{"code": "3", "message": message}]}
        return body

    def _begun(self, snapshot: Snapshot, *, native: bool) -> JsonObject:
        b = snapshot.batch
        name = b.options.get("display_name") or b.metadata.get("job_name") or f"bifrost-batch-{int(b.created_at)}"
        return {"id": self.public_batch_id(b.id, native=native), "object": "batch", "display_name": name}

    def created(self, snapshot: Snapshot, *, native: bool) -> JsonObject:
        b = snapshot.batch
        body = self._begun(snapshot, native=native)
        if b.input_file_id:
            body["input_file_id"] = _base64(b.input_file_id)
        body |= {"status": "validating", "request_counts": {"total": 0, "completed": 0, "failed": 0}}
        if b.metadata:
            body["metadata"] = b.metadata
        return body | {"created_at": int(b.created_at)}

    def cancelled(self, snapshot: Snapshot, *, native: bool) -> JsonObject:
        return {
            "id": self.public_batch_id(snapshot.batch.id, native=native),
            "object": "batch",
            "status": "cancelling",
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
            "cancelling_at": int(time.time()),
        }

    def counts(self, snapshot: Snapshot) -> JsonObject:
        """Google counts a job's rows when it ends."""
        if not snapshot.progress.terminal or snapshot.progress.phase is Phase.FAILED:
            return {"total": 0, "completed": 0, "failed": 0}
        failed = snapshot.tally[Fate.FAIL] + snapshot.tally[Fate.EXPIRE]
        return {"total": snapshot.batch.rows, "completed": snapshot.progress.finished - failed, "failed": failed}

    def storage(self, own: str, created_at: int) -> JsonObject:
        return {"storage_backend": "gcs", "storage_uri": own}

    def retrieved(self, body: JsonObject) -> JsonObject:
        return body | {"updated_at": body["created_at"]}

    def no_batch(self, own: str) -> ProviderAnswered:
        return self.refusal(404, "The BatchPredictionJob does not exist.", word="NOT_FOUND")

    def no_file(self, own: str) -> ProviderAnswered:
        return self.refusal(404, f"No such object: {own.removeprefix('gs://')}", word="NOT_FOUND")

    def no_input(self, own: str) -> ProviderAnswered:
        return self.refusal(400, f"The input {own} does not exist.")

    def not_cancellable(self, snapshot: Snapshot) -> ProviderAnswered:
        return self.refusal(400, "The job is already in a terminal state.", word="FAILED_PRECONDITION")

    def refusal(self, status: int, message: str, **detail: str) -> ProviderAnswered:
        word = detail.get("word", "INVALID_ARGUMENT")
        return answered(status, {"error": {"code": status, "message": message, "status": word}})


def _base64(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _unbase64(text: str) -> str:
    """Text from any kind of base64; the text itself if it is not base64."""
    bare = text.rstrip("=").replace("+", "-").replace("/", "_")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True).decode(errors="replace")
    except (binascii.Error, ValueError):
        return text
