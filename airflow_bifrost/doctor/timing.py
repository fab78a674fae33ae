"""The checks about time: how long a poll takes, and whether the clocks agree. Pure."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from statistics import median
from typing import Any

from airflow_bifrost.doctor.evidence import POLLS, Evidence, Polls
from airflow_bifrost.doctor.findings import Finding, note, ok, problem, what_happened

MAX_SKEW = 60.0  # seconds between the clocks
SAME = 2.0  # seconds; a date is in whole seconds, and not always the current one
SLOW = 2.0  # seconds that a poll takes
CONCURRENT = 8  # requests that a triggerer sends to one provider at the same time


def latency(name: str, evidence: Evidence) -> Finding:
    polls = evidence.polls or Polls(None)
    failed = f"{len(polls.errors)} failed: {what_happened(polls.errors[0])}" if polls.errors else ""
    advice = polls.errors[0].advice if polls.errors else None
    if polls.batch_id:
        failed = failed.replace(polls.batch_id, "<id>")
    if not polls.seconds:
        return problem(name, f"No poll was answered. {failed}".rstrip(), advice)
    milliseconds = [1000 * seconds for seconds in polls.seconds]
    middle, low, high = median(milliseconds), min(milliseconds), max(milliseconds)
    what = "polls of the newest batch" if polls.batch_id else "lists of one batch"
    said = f"{middle:.0f} ms (median of {len(milliseconds)} {what}; {low:.0f} to {high:.0f} ms)."
    values: dict[str, Any] = {
        "median_ms": round(middle, 1),
        "min_ms": round(low, 1),
        "max_ms": round(high, 1),
        "calls": len(milliseconds),
        "failed": len(polls.errors),
        "of": "batch" if polls.batch_id else "list",
    }
    if failed:
        return problem(name, f"{said} {failed}", advice, **values)
    if middle >= 1000 * SLOW or len(milliseconds) < POLLS:
        polls_per_minute = CONCURRENT * 60_000 / middle
        return note(
            name, said, f"That is slow: one triggerer polls about {polls_per_minute:.0f} batches a minute.", **values
        )
    return ok(name, said, **values)


def clock(name: str, evidence: Evidence) -> Finding:
    date = evidence.health_headers.get("date")
    try:
        date_seconds = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return note(name, "Unknown: the answer has no date.")
    assert evidence.asked_at is not None
    before, after = evidence.asked_at
    skew = date_seconds + 0.5 - (before + after) / 2  # the header is truncated to whole seconds
    values = {"skew_seconds": round(skew)}
    if abs(skew) <= SAME + (after - before) / 2:
        return ok(name, "The gateway's clock and this machine's agree within two seconds.", **values)
    said = f"The gateway's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's."
    if abs(skew) <= MAX_SKEW + (after - before) / 2:
        return ok(name, said, **values)
    return problem(
        name, said, "Synchronize the wrong clock with NTP, because deadlines and durations depend on it.", **values
    )
