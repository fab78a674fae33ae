"""Bedrock as it looks through the gateway."""

from __future__ import annotations

import base64
import binascii
import string
from collections import Counter

from airflow_bifrost.testing.clock import Batch, Phase, Progress
from airflow_bifrost.testing.model import Fate, JsonObject
from airflow_bifrost.testing.provider_answers import ProviderAnswered
from airflow_bifrost.testing.providers.openai import DAY, OpenAI, Snapshot, answered, letters
from airflow_bifrost.testing.store import Yield
from airflow_bifrost.testing.versions import V1_5

_REASONS = {  # AWS's own, which gateways pass on since 1.5
    "Failed": "Validation of the input failed.",
    "Expired": "The job timed out.",
    "PartiallyCompleted": "Some of the records could not be processed.",
}


class Bedrock(OpenAI):
    """Bedrock: ids are base64 of a resource name, files are objects in S3, counts are not known."""

    name = "bedrock"
    phases = {
        "Submitted": Phase.VALIDATING,
        "Validating": Phase.VALIDATING,
        "Scheduled": Phase.VALIDATING,
        "InProgress": Phase.IN_PROGRESS,
        "Completed": Phase.COMPLETED,
        "Failed": Phase.FAILED,
        "PartiallyCompleted": Phase.FAILED,
        "Stopping": Phase.CANCELLING,
        "Stopped": Phase.CANCELLED,
        "Expired": Phase.EXPIRED,
    }
    validates_input = False
    cursors_advance = False
    needs_endpoint = False
    list_request_type = ""

    # This region's length makes the ids end in base64's padding, which clients tend to quote wrongly.
    ARN = "arn:aws:bedrock:eu-north-1:123456789012:model-invocation-job/"

    def new_batch_id(self) -> str:
        return self.ARN + letters(12, string.ascii_lowercase + string.digits)

    def new_file_id(self, filename: str, form: dict[str, str]) -> str:
        bucket = form.get("storage_config[s3][bucket]", "example-bucket")
        prefix = form.get("storage_config[s3][prefix]", "").strip("/")
        return f"s3://{bucket}/{prefix + '/' if prefix else ''}{filename}"

    def public_batch_id(self, own: str, *, native: bool) -> str:
        return own if native else _base64(own)

    def own_batch_id(self, segment: str, *, native: bool) -> str:
        """Native routes pass the segment on: AWS takes a bare job id. The others decode base64, and take the rest as it is."""
        if native:
            return self.ARN + segment
        decoded = _unbase64(segment)
        return segment if decoded is None else decoded

    def public_file_id(self, own: str, *, native: bool) -> str:
        return own if native else _base64(own)

    def own_file_id(self, segment: str) -> str:
        decoded = _unbase64(segment)
        return segment if decoded is None else decoded

    def yields(self, batch_id: str, input_file_id: str | None, options: JsonObject) -> list[Yield]:
        job, name = batch_id.rpartition("/")[2], (input_file_id or "input.jsonl").rpartition("/")[2]
        folder = f"{self._output(options).rstrip('/')}/{job}/"
        names = {"output": f"{name}.out", "manifest": "manifest.json.out"}
        return [Yield(kind, folder + filename, filename) for kind, filename in names.items()]

    def yielded(self, progress: Progress, batch: Batch, tally: Counter[Fate]) -> set[str]:
        return {"output", "manifest"} if progress.terminal and progress.finished else set()

    @staticmethod
    def _output(options: JsonObject) -> str:
        return str(options.get("output_s3_uri", "s3://example-bucket/out/"))

    def batch(self, snapshot: Snapshot, *, native: bool, listed: bool = False) -> JsonObject:
        b, p = snapshot.batch, snapshot.progress
        body: JsonObject = {"id": self.public_batch_id(b.id, native=native), "object": "batch"}
        if not listed and b.input_file_id:
            body["input_file_id"] = self.public_file_id(b.input_file_id, native=native)
        body["status"] = self._status(snapshot)
        body["request_counts"] = self.counts(snapshot)
        word = "PartiallyCompleted" if b.held is None and p.phase is Phase.EXPIRED else p.status
        if snapshot.version >= V1_5 and not listed and word in _REASONS:
            body["errors"] = {"object": "list", "data": [{"message": _REASONS[word]}]}
        body["metadata"] = {"job_name": str(b.options.get("job_name", "job")), "model_id": b.model or "echo-1"}
        body["created_at"] = int(b.created_at)
        if listed:
            return body
        body["expires_at"] = int(b.created_at) + 7 * DAY
        if p.terminal:
            body["completed_at"] = max(p.times.values())
        body["output_file_id"] = self._output(b.options)
        return body

    @staticmethod
    def _status(snapshot: Snapshot) -> str:
        phase = snapshot.progress.phase
        if phase is None:
            return snapshot.progress.status
        if phase is Phase.EXPIRED and snapshot.batch.held is None:
            return Phase.FAILED  # some rows ran out of time: PartiallyCompleted, which the gateway calls failed
        return Phase.IN_PROGRESS if phase is Phase.FINALIZING else phase

    def created(self, snapshot: Snapshot, *, native: bool) -> JsonObject:
        body = self.batch(snapshot, native=native)
        return {name: value for name, value in body.items() if name not in ("metadata", "output_file_id")}

    def cancelled(self, snapshot: Snapshot, *, native: bool) -> JsonObject:
        body = super().cancelled(snapshot, native=native)
        body.pop("cancelling_at", None)
        body.pop("cancelled_at", None)
        return {**body, "status": "cancelling"}

    def counts(self, snapshot: Snapshot) -> JsonObject:
        return {"total": 0, "completed": 0, "failed": 0}

    def storage(self, own: str, created_at: int) -> JsonObject:
        return {"storage_backend": "s3", "storage_uri": own}

    def no_batch(self, own: str) -> ProviderAnswered:
        if not own.startswith("arn:aws:bedrock:") or "%" in own:
            return self.refusal(400, "The provided model invocation job identifier is invalid.")
        return self.refusal(404, "Could not find model invocation job")

    def no_file(self, own: str) -> ProviderAnswered:
        return self.refusal(404, "The specified key does not exist.")

    def no_input(self, own: str) -> ProviderAnswered:
        return self.refusal(400, f"The input {own} does not exist.")

    def not_cancellable(self, snapshot: Snapshot) -> ProviderAnswered:
        return self.refusal(409, "The job is not in a state in which it can be stopped.")

    def refusal(self, status: int, message: str, **detail: str) -> ProviderAnswered:
        return answered(status, {"message": message})


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _unbase64(text: str) -> str | None:
    """Text from standard base64 with its padding; None if it is not that."""
    try:
        return base64.b64decode(text, validate=True).decode(errors="replace")
    except (binascii.Error, ValueError):
        return None
