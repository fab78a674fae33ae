"""Runs for the tests of what decides about them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from airflow_bifrost.runs.part import RunPart
from airflow_bifrost.runs.request import RunInput, RunPolicy, RunRequest
from airflow_bifrost.runs.state import RunState

HOUR = 3600.0

REQUEST = RunRequest(
    provider="openai",
    endpoint="/v1/chat/completions",
    completion_window="24h",
    model="m",
    metadata={},
    extra_body={},
    extra_form={},
    body_digest="d",
)
POLICY = RunPolicy(timeout=25 * HOUR, part_rows=1000, part_bytes=10**6, min_rows_to_halve=100)


def a_part(number: int, rows: int = 10, first: int | None = 0, **changes: Any) -> RunPart:
    part = RunPart(number, 1, f"{number}.jsonl", rows, rows * 10, f"sha-{number}", first)
    return replace(part, **changes)


def a_run(*rows: int, **changes: Any) -> RunState:
    """A run that has begun at time 0, with parts of so many rows."""
    parts, first = [], 0
    for number, size in enumerate(rows, start=1):
        parts.append(a_part(number, size, first))
        first += size
    state = RunState(
        request=REQUEST,
        input=RunInput("lines", first, ["in.jsonl"], [first], automatic_ids=True),
        policy=POLICY,
        folder="f",
        output_path="o",
        attempt=1,
        wait_id=0,
        started_at=0.0,
        round_started_at=0.0,
        parts=parts,
    )
    return replace(state, **changes)
