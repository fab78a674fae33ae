"""What the evidence says of times: how long a poll takes, and whether the clocks agree. Pure."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from statistics import median
from typing import Any

from airflow_bifrost.doctor.evidence import POLLS, Evidence, Polls
from airflow_bifrost.doctor.findings import Finding, note, ok, problem, what_happened

MAX_SKEW = 60.0  # seconds between the clocks
SAME = 2.0  # seconds; dates are told in whole ones, and not always the last
SLOW = 2.0  # seconds that a poll takes
PLACES = 8  # calls to one provider that a triggerer has under way at a time


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
        looks = PLACES * 60_000 / middle
        return note(name, said, f"That is slow: one triggerer looks at about {looks:.0f} waits a minute.", **values)
    return ok(name, said, **values)


def clock(name: str, evidence: Evidence) -> Finding:
    date = evidence.health_headers.get("date")
    try:
        told = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return note(name, "Cannot be told: the answer bears no date.")
    assert evidence.asked_at is not None
    before, after = evidence.asked_at
    skew = told + 0.5 - (before + after) / 2  # the header is cut to whole seconds
    values = {"skew_seconds": round(skew)}
    if abs(skew) <= SAME + (after - before) / 2:
        return ok(name, "The gateway's clock and this machine's agree, to a second or two.", **values)
    said = f"The gateway's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's."
    if abs(skew) <= MAX_SKEW + (after - before) / 2:
        return ok(name, said, **values)
    return problem(name, said, "Have the clock that is wrong set by NTP: deadlines and durations rest on it.", **values)
