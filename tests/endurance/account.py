"""The account of a run: everything that should not have happened. Pure.

Each check takes the evidence and returns anomalies. A run without anomalies has passed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from statistics import median
from typing import Any

from endurance.evidence import Batch, Evidence, Job, LoggedError, SentRow

OURS = "airflow_bifrost/"
"""Part of the path of every source file of the package."""

NO_TAGS = ("anthropic", "gemini", "bedrock", "vertex")
"""Providers that store no metadata with a batch. After a kill during a create, the task may be unable to determine which task a batch belongs to."""

GROWTH_SECONDS = 600.0
"""Seconds that a component must have run before its memory is judged: until then, it still loads modules."""

GROWTH_BYTES_PER_MINUTE = 2 << 20


@dataclass(frozen=True)
class Anomaly:
    """Something that should not have happened.

    :param kind: what happened, in the same words for every anomaly of this kind.
    :param subject: the job, batch, file or component.
    :param at: when, in Unix seconds; None: unknown.
    """

    kind: str
    subject: str
    detail: str
    at: float | None = None


def account(evidence: Evidence) -> list[Anomaly]:
    """Return everything that should not have happened."""
    return [anomaly for check in CHECKS for anomaly in check(evidence)]


def unreadable_batches(evidence: Evidence) -> Iterator[Anomaly]:
    """Batches whose rows the harness does not know, so that no other check can judge them."""
    for batch in evidence.batches:
        if not batch.readable:
            yield Anomaly("the rows of a batch are not known", batch.id, "the harness has no copy of its input")


def rows_paid_twice(evidence: Evidence) -> Iterator[Anomaly]:
    """Rows that were sent again although an earlier batch answers them."""
    for job in _submitting(evidence):
        for prompt, sent in _sent(evidence, job).items():
            answered = [batch.id for batch, row in sent if row.fate == "ok" and not batch.cancelled]
            if len(answered) > 1:
                last = max(batch.created_at for batch, _ in sent)
                yield Anomaly("a row was paid twice", job.id, f"{prompt!r} is in {', '.join(answered)}", last)


def orphaned_batches(evidence: Evidence) -> Iterator[Anomaly]:
    """Batches that were created for a job that does not know them."""
    owners = {prompt: job for job in _submitting(evidence) for prompt in job.prompts}
    for batch in evidence.batches:
        job = next((owners[row.prompt] for row in batch.rows if row.prompt in owners), None)
        if job is None or batch.cancelled or job.id not in evidence.returned:
            continue
        known = _batches_of(evidence.returned[job.id])
        if batch.id not in known:
            yield Anomaly("a batch is orphaned", batch.id, f"made for {job.id}, which has {known}", batch.created_at)


def lost_batches(evidence: Evidence) -> Iterator[Anomaly]:
    """Batches that a job names and that the gateway does not have, and rows that no batch has although the job succeeded."""
    existing = {batch.id for batch in evidence.batches}
    for job in _submitting(evidence):
        if job.id not in evidence.returned:
            continue
        for batch_id in _batches_of(evidence.returned[job.id]):
            if batch_id not in existing:
                yield Anomaly("a batch is lost", batch_id, f"{job.id} names it, and the gateway does not have it")
        missing = [prompt for prompt, sent in _sent(evidence, job).items() if not sent]
        if missing:
            yield Anomaly("rows were never sent", job.id, f"{len(missing)} rows, the first is {missing[0]!r}")


def wrong_cancels(evidence: Evidence) -> Iterator[Anomaly]:
    """Batches that were cancelled: nobody stops a task in this run."""
    for batch in evidence.batches:
        if batch.cancelled:
            yield Anomaly("a batch was cancelled", batch.id, f"it is {batch.status}", batch.created_at)


def false_failures(evidence: Evidence) -> Iterator[Anomaly]:
    """Tasks that failed or were skipped: each of them can succeed."""
    stopped = undetermined(evidence)
    for task in evidence.tasks:
        if task.state in ("failed", "upstream_failed", "skipped", "removed") and task.job not in stopped:
            subject = f"{task.job}.{task.task_id}"
            yield Anomaly("a task failed", subject, f"{task.state} after {task.try_number} attempts")


def stuck_tasks(evidence: Evidence) -> Iterator[Anomaly]:
    """Tasks that have not ended, and jobs without any task."""
    for task in evidence.tasks:
        if task.state not in ("success", "failed", "upstream_failed", "skipped", "removed"):
            detail = f"map index {task.map_index} is {task.state} in attempt {task.try_number}"
            yield Anomaly("a task is stuck", f"{task.job}.{task.task_id}", detail)
    with_tasks = {task.job for task in evidence.tasks}
    for job in evidence.jobs:
        if job.id not in with_tasks:
            yield Anomaly("a task is stuck", job.id, "its DAG run has no task")


def wrong_outputs(evidence: Evidence) -> Iterator[Anomaly]:
    """Files of jobs that succeeded, but are incomplete, unordered or damaged."""
    for job in _submitting(evidence):
        if job.output is None or not _succeeded(evidence, job):
            continue
        output = evidence.outputs.get(job.id)
        if output is None or output.rows is None:
            problem = "it is not there" if output is None else output.problem
            yield Anomaly("a task succeeded without its file", job.id, f"{job.output}: {problem}")
            continue
        if len(output.rows) != len(job.prompts):
            detail = f"{len(output.rows)} rows instead of {len(job.prompts)}"
            yield Anomaly("a file is not complete", job.id, detail)
        yield from _wrong_rows(evidence, job, list(output.rows))


def _wrong_rows(evidence: Evidence, job: Job, rows: list[Mapping[str, Any]]) -> Iterator[Anomaly]:
    if job.kind == "chain":  # the provider orders the rows of a download
        places = {f"echo: {prompt}": place for place, prompt in enumerate(job.prompts)}
        rows.sort(key=lambda row: places.get(str(row.get("text")), len(places)))
    sent = _sent(evidence, job)
    for number, (row, prompt) in enumerate(zip(rows, job.prompts, strict=False), start=1):
        if row.get("outcome") == "missing" and any(row.fate == "ok" for _, row in sent[prompt]):
            yield Anomaly("a paid row is missing", job.id, f"row {number}: its batch counts it as done")
        elif row.get("outcome") != "succeeded":
            yield Anomaly("a row did not succeed", job.id, f"row {number}: {row.get('outcome')} {row.get('error')}")
        elif row.get("text") != f"echo: {prompt}":
            detail = f"row {number} answers {row.get('text')!r} to {prompt!r}"
            yield Anomaly("a file is not in the order of its input", job.id, detail)


def wrong_progress(evidence: Evidence) -> Iterator[Anomaly]:
    """Impossible progress."""
    for task, progress in evidence.progress.items():
        total, completed, failed = (progress.get(name) or 0 for name in ("total", "completed", "failed"))
        if completed + failed > total > 0 or not 0 <= (progress.get("percent") or 0) <= 100:
            yield Anomaly("a progress is impossible", task, str(dict(progress)))


def lost_attempts(evidence: Evidence) -> Iterator[Anomaly]:
    """Attempts that failed with an error of this package. The package must tolerate whatever it can."""
    for error in evidence.errors:
        if error.job and is_ours(error) and not _excused(error, evidence):
            yield Anomaly("an attempt was lost", error.job, f"{error.kind}: {error.message} ({error.source})", error.at)


def tracebacks(evidence: Evidence) -> Iterator[Anomaly]:
    """Exceptions of this package in the logs of components."""
    for error in evidence.errors:
        if not error.job and is_ours(error):
            yield Anomaly("a traceback is in a log", error.source, f"{error.kind}: {error.message}", error.at)


def tokens(evidence: Evidence) -> Iterator[Anomaly]:
    """Places that have the token."""
    for sighting in evidence.sightings:
        yield Anomaly("the token is in clear", sighting.where, sighting.form)


def leftovers(evidence: Evidence) -> Iterator[Anomaly]:
    """Temporary files that nobody removed."""
    stopped = undetermined(evidence)
    for path in evidence.leftovers:
        if any(job in path for job in stopped):
            continue  # the lines, for the attempt after the clear
        yield Anomaly("a temporary file was left", path, "nobody will remove it")


def growth(evidence: Evidence) -> Iterator[Anomaly]:
    """Components whose memory kept growing: the second half of their time compared with its first half."""
    ordered = sorted(evidence.samples, key=lambda sample: (sample.component, sample.incarnation, sample.at))
    for (component, _), group in groupby(ordered, key=lambda sample: (sample.component, sample.incarnation)):
        samples = list(group)
        begin, end = samples[0].at + GROWTH_SECONDS / 2, samples[-1].at
        settled = [sample for sample in samples if sample.at >= begin]
        if end - samples[0].at < GROWTH_SECONDS or len(settled) < 8:
            continue
        middle = (begin + end) / 2
        first = median(sample.bytes for sample in settled if sample.at < middle)
        second = median(sample.bytes for sample in settled if sample.at >= middle)
        by_minute = (second - first) / ((end - begin) / 2) * 60
        if by_minute > GROWTH_BYTES_PER_MINUTE:
            detail = f"{first / 2**20:.0f} MiB, later {second / 2**20:.0f} MiB: {by_minute / 2**20:.1f} MiB a minute"
            yield Anomaly("a component's memory grows", component, detail)


CHECKS: tuple[Callable[[Evidence], Iterator[Anomaly]], ...] = (
    unreadable_batches,
    rows_paid_twice,
    orphaned_batches,
    lost_batches,
    wrong_cancels,
    false_failures,
    stuck_tasks,
    wrong_outputs,
    wrong_progress,
    lost_attempts,
    tracebacks,
    tokens,
    leftovers,
    growth,
)


def is_ours(error: LoggedError) -> bool:
    """Whether this package itself raised an exception, instead of Airflow below or above it."""
    raised_here = bool(error.files) and OURS in error.files[-1]
    return raised_here or error.kind.startswith(("Bifrost", "Batch", "Submission", "ResultsUnavailable"))


IN_DOUBT = "SubmissionInDoubt"
_EXCUSES = {
    "delete_connection": ("BifrostConfigurationError", "AirflowNotFoundException"),
    "fill_disk": ("OSError",),
}
"""Errors with which a task rightly fails an attempt during an event that it cannot work through."""


def _excused(error: LoggedError, evidence: Evidence) -> bool:
    if error.kind == IN_DOUBT:
        return error.job in undetermined(evidence)
    return any(
        error.kind in _EXCUSES.get(window.what, ()) and window.begin <= error.at <= window.end + 10
        for window in evidence.windows
    )


def undetermined(evidence: Evidence) -> set[str]:
    """The jobs that rightly stopped because they could not determine which task a batch belongs to. Their errors say so, and a user decides."""
    providers = {job.id: job.provider for job in evidence.jobs}
    return {error.job for error in evidence.errors if error.kind == IN_DOUBT and providers.get(error.job) in NO_TAGS}


def causes(evidence: Evidence) -> Counter[str]:
    """Count what ended attempts: the classes of exceptions in the logs of tasks."""
    return Counter(error.kind for error in evidence.errors if error.job)


def _submitting(evidence: Evidence) -> list[Job]:
    return [job for job in evidence.jobs if job.prompts]


def _sent(evidence: Evidence, job: Job) -> dict[str, list[tuple[Batch, SentRow]]]:
    found: dict[str, list[tuple[Batch, SentRow]]] = {prompt: [] for prompt in job.prompts}
    for batch in evidence.batches:
        for row in batch.rows:
            if row.prompt in found:
                found[row.prompt].append((batch, row))
    return found


def _batches_of(returned: object) -> list[str]:
    """The IDs in a manifest, or the one ID."""
    if isinstance(returned, dict):
        return [str(batch["batch_id"]) for batch in returned["batches"]]
    return [str(returned)]


def _succeeded(evidence: Evidence, job: Job) -> bool:
    states = [task.state for task in evidence.tasks if task.job == job.id]
    return bool(states) and all(state == "success" for state in states)
