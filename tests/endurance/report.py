"""The account as text: the events, the anomalies, and what preceded them. Pure."""

from __future__ import annotations

from collections import Counter

from endurance.account import Anomaly, causes, undetermined
from endurance.evidence import Evidence

DEFAULT_ATTEMPTS = 4  # of a task with three retries
BEFORE = 90.0  # seconds before an anomaly whose events are shown


def text(evidence: Evidence, anomalies: list[Anomaly], seed: int) -> str:
    """The whole account."""
    lines = ["", "What the run did", *_figures(evidence), ""]
    for anomaly in anomalies:
        lines += [f"ANOMALY  {anomaly.kind}: {anomaly.subject}", f"         {anomaly.detail}"]
        lines += [f"         before it: {event}" for event in _before(evidence, anomaly)]
    lines += _log_lines(evidence, anomalies)
    count = Counter(anomaly.kind for anomaly in anomalies)
    found = ", ".join(f"{number} x {kind}" for kind, number in count.most_common()) or "none"
    lines.append(f"seed {seed}: anomalies: {found}")
    return "\n".join(lines)


def _figures(evidence: Evidence) -> list[str]:
    rows = sum(len(batch.rows) for batch in evidence.batches)
    done = Counter(str(task.state) for task in evidence.tasks)
    attempts = sum(task.try_number for task in evidence.tasks)
    chaos = Counter(window.what for window in evidence.windows)
    return [
        f"  jobs        {len(evidence.jobs)}: {_counted(Counter(job.kind for job in evidence.jobs))}",
        f"  batches     {len(evidence.batches)} with {rows} rows",
        f"  tasks       {len(evidence.tasks)} in {attempts} attempts: {_counted(done)}",
        f"  of these,   {sum(task.try_number > DEFAULT_ATTEMPTS for task in evidence.tasks)} needed more than {DEFAULT_ATTEMPTS} attempts",
        f"  stopped     {len(undetermined(evidence))} because it is unknown which task a batch belongs to",
        f"  exceptions  {_counted(causes(evidence))}",
        f"  chaos       {_counted(chaos)}",
        f"  memory      {_memory(evidence)}",
    ]


def _counted(count: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in count.most_common()) or "none"


def _memory(evidence: Evidence) -> str:
    most: dict[str, int] = {}
    for sample in evidence.samples:
        most[sample.component] = max(most.get(sample.component, 0), sample.bytes)
    return ", ".join(f"{component} up to {size >> 20} MiB" for component, size in sorted(most.items())) or "none"


def _before(evidence: Evidence, anomaly: Anomaly) -> list[str]:
    """The events that were in progress, or had just ended, when an anomaly happened. Empty if its time is unknown."""
    if not anomaly.at:
        return []
    at = anomaly.at
    return [
        f"{window.what} {window.target}, {at - window.begin:.0f} s earlier, for {window.end - window.begin:.0f} s"
        for window in evidence.windows
        if window.begin <= at and window.end >= at - BEFORE
    ]


def _log_lines(evidence: Evidence, anomalies: list[Anomaly]) -> list[str]:
    """The log lines of the exceptions that are about the subjects of anomalies."""
    subjects = {anomaly.subject.split(".")[0] for anomaly in anomalies}
    return [
        f"LOG      {error.source}\n{error.text[:3000]}"
        for error in evidence.errors
        if error.job in subjects or error.source in subjects
    ]
