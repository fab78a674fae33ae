"""What each provider looks like through the gateway: ids, words for a status, and the batch on the wire."""

from __future__ import annotations

import base64
import binascii
import random
import string
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from airflow_bifrost.testing.clock import Batch, Phase, Progress
from airflow_bifrost.testing.model import Fate, JsonObject
from airflow_bifrost.testing.provider_answers import ProviderAnswer, ProviderAnswered
from airflow_bifrost.testing.store import Yield

_DAY = 86_400  # seconds
_random = random.SystemRandom()


def _letters(length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(_random.choices(alphabet, k=length))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A batch at one moment, with what its rows have come to and the ids of the files that it has yielded."""

    batch: Batch
    progress: Progress
    tally: Counter[Fate]
    yielded: dict[str, str]


class Provider:
    """OpenAI, and what the others share with it."""

    name = "openai"
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
        return f"file-{_letters(22)}"

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
        body |= {"created_at": int(b.created_at), "expires_at": int(b.created_at) + _DAY, **p.times}
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
        self, own: str, *, size: int, created_at: int, filename: str, purpose: str, listed: bool, native: bool
    ) -> JsonObject:
        """A file object."""
        body: JsonObject = {
            "id": self.public_file_id(own, native=native),
            "object": "file",
            "bytes": size,
            "created_at": created_at,
            "filename": filename,
            "purpose": purpose,
            "status": self.file_status,
        }
        return body if listed else {**body, **self.storage(own, created_at)}

    file_status = "processed"

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

    def not_cancellable(self, snapshot: Snapshot) -> ProviderAnswered:
        return self.refusal(409, f"Cannot cancel a batch with status '{snapshot.progress.status}'.")

    def refusal(self, status: int, message: str, **detail: str) -> ProviderAnswered:
        """The provider's own error, in the words and the shape that it has for errors."""
        known = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        return _answered(status, {"error": {**known, **detail}})


class Azure(Provider):
    """Azure OpenAI."""

    name = "azure"
    label = "Azure"
    file_status = "pending"

    def new_batch_id(self) -> str:
        return f"batch_{uuid.uuid4()}"

    def new_file_id(self, filename: str, form: dict[str, str]) -> str:
        return f"file-{uuid.uuid4().hex}"

    def own_batch_id(self, segment: str, *, native: bool) -> str:
        return segment

    def no_batch(self, own: str) -> ProviderAnswered:
        return _answered(404, {"error": {"code": "NotFound", "message": f"The batch {own} was not found."}})


class Anthropic(Provider):
    """Anthropic's Message Batches: one terminal status, ``ended``, whatever became of the requests."""

    name = "anthropic"
    phases = {"canceling": Phase.CANCELLING, "ended": Phase.COMPLETED}
    validates_input = False
    cursors_advance = False
    needs_endpoint = False

    def new_batch_id(self) -> str:
        return f"msgbatch_01{_letters(22)}"

    def new_file_id(self, filename: str, form: dict[str, str]) -> str:
        return f"file_011{_letters(21)}"

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
            "expires_at": int(b.created_at) + _DAY,
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
            return {"total": rows, "completed": 0, "failed": 0} | _present(pending=rows)
        left = rows - progress.finished
        phase = progress.phase
        succeeded = tally[Fate.OK] + tally[Fate.GARBLE] + tally[Fate.MISSING]
        failed = tally[Fate.FAIL] + (left if phase is Phase.FAILED else 0)
        expired = tally[Fate.EXPIRE] + (left if phase is Phase.EXPIRED else 0)
        return {"total": rows, "completed": succeeded, "failed": failed} | _present(
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
        return _answered(status, {"type": "error", "error": error, "request_id": f"req_011{_letters(21)}"})


class Gemini(Provider):
    """Gemini: ``completed`` counts failures too, and there is no file to download."""

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
        return _letters(36, string.ascii_lowercase + string.digits)

    def new_file_id(self, filename: str, form: dict[str, str]) -> str:
        return _letters(12, string.ascii_lowercase + string.digits)

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
        body: JsonObject = {
            "id": b.id if listed else self.public_batch_id(b.id, native=native),
            "object": "batch",
            "status": status,
            "request_counts": {"total": 0, "completed": 0, "failed": 0} if listed else self.counts(snapshot),
            "created_at": int(b.created_at),
            "operation_name": f"batches/{b.id}",
        }
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
        return {"total": rows, "completed": finished, "failed": failed} | _present(
            succeeded=finished - failed, pending=rows - finished
        )

    def storage(self, own: str, created_at: int) -> JsonObject:
        uri = f"https://generativelanguage.googleapis.com/v1beta/files/{own}"
        return {"expires_at": created_at + 2 * _DAY, "storage_backend": "api", "storage_uri": uri}

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
        return _answered(status, {"error": {"code": status, "message": message, "status": word}})


_GEMINI_WORDS: dict[Phase, str] = {
    phase: phase.value for phase in Phase if phase not in (Phase.VALIDATING, Phase.FINALIZING)
}


class Bedrock(Provider):
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
        return self.ARN + _letters(12, string.ascii_lowercase + string.digits)

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
        body["metadata"] = {"job_name": str(b.options.get("job_name", "job")), "model_id": b.model or "echo-1"}
        body["created_at"] = int(b.created_at)
        if listed:
            return body
        body["expires_at"] = int(b.created_at) + 7 * _DAY
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
        return _answered(status, {"message": message})


def _answered(status: int, body: JsonObject) -> ProviderAnswered:
    return ProviderAnswered(ProviderAnswer(status, body=body))


def _present(**counts: int) -> dict[str, int]:
    """The counts that are not zero: the gateway leaves out the others."""
    return {name: count for name, count in counts.items() if count}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _unbase64(text: str) -> str | None:
    """Text from standard base64 with its padding; None if it is not that."""
    try:
        return base64.b64decode(text, validate=True).decode(errors="replace")
    except (binascii.Error, ValueError):
        return None


PROVIDERS: dict[str, Provider] = {u.name: u for u in (Provider(), Azure(), Anthropic(), Gemini(), Bedrock())}
WITHOUT_BATCHES = frozenset({"groq", "mistral", "cohere"})  # configured, but they have no batch API
CONFIGURED = (*PROVIDERS, *sorted(WITHOUT_BATCHES))
COUNTS = ("total", "completed", "failed", "succeeded", "expired", "canceled", "pending")  # of all providers together


def check_names(what: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise if a name is unknown: a misspelt one would do nothing, and nobody would see it.

    :param what: what they are names of.
    """
    for name in given:
        if name not in known:
            msg = f"{what} is one of {', '.join(known)}, not {name!r}"
            raise ValueError(msg)


def provider_of(name: str) -> Provider:
    """The provider of that name."""
    check_names("a provider with batches", [name], PROVIDERS)
    return PROVIDERS[name]
