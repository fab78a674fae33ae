"""Decides whether an attempt of the task starts a new run or continues an earlier one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from airflow_bifrost.runs.part import RunPart
from airflow_bifrost.runs.request import JsonObject, RunInput, RunPolicy, RunRequest, run_digest, to_json
from airflow_bifrost.runs.state import RunState

ON_CHANGED_REQUEST = ("fail", "continue")

Beginning = Literal["as_written", "go_on", "go_on_stopped", "new"]


def beginning(
    before: RunState | None,
    request: RunRequest,
    known: RunInput | None,
    *,
    begun: bool,
    intact: bool,
    wait_id: int,
    on_changed_request: str,
) -> Beginning:
    """How an attempt begins: it returns the output of an earlier run, continues the earlier run, or starts a new one.

    :param before: the state that an earlier attempt has stored.
    :param request: the request according to the current DAG file.
    :param known: the current input; None if it is not known yet.
    :param begun: whether any part of the earlier run may have been submitted.
    :param intact: whether the earlier run's output exists and is unchanged.
    :param wait_id: see :class:`RunState`; a different one means that the task was cleared.
    """
    if before is None:
        return "new"
    if before.request.digest == request.digest and (known is None or known.digest == before.input.digest):
        if before.finished and intact:
            return "as_written"
        return "go_on" if begun or known is not None else "new"
    same_request = before.request.digest == request.digest
    unfinished = before.written is None and begun and wait_id == before.wait_id
    if same_request or not unfinished:
        return "new"
    return "go_on" if on_changed_request == "continue" else "go_on_stopped"


def new_run(
    before: RunState | None,
    request: RunRequest,
    known: RunInput,
    parts: Sequence[RunPart],
    policy: RunPolicy,
    *,
    folder: str,
    output_path: str,
    attempt: int,
    wait_id: int,
    now: float,
) -> RunState:
    """A run of the given rows. If the task has run the same rows before, the run reuses the parts of that time, of all rounds: the ledger
    knows them. It may lack rows whose lines were lost then, see :func:`uncovered`."""
    earlier: dict[str, list[JsonObject]] = {}
    superseded: dict[str, str] = {}
    if before is not None:
        if before.request.provider == request.provider:
            superseded = before.superseded | before.input_files
        earlier = before.earlier | {before.digest: [to_json(part.unsent()) for part in before.parts]}
    then = [RunPart(**part) for part in earlier.pop(run_digest(request, known), [])]
    return RunState(
        request=request,
        input=known,
        policy=policy,
        folder=folder,
        output_path=output_path,
        attempt=attempt,
        wait_id=wait_id,
        started_at=now,
        round_started_at=now,
        parts=then or list(parts),
        earlier=earlier,
        superseded=superseded,
    )


def uncovered(parts: Sequence[RunPart], rows: int) -> list[tuple[int, int]]:
    """Gaps: rows of the input that are in no part of the first round. For each gap, the position of its first row (from 0) and its length."""
    gaps, position = [], 0
    for first, number in sorted((part.first, part.rows) for part in parts if part.first is not None):
        if first > position:
            gaps.append((position, first - position))
        position = max(position, first + number)
    if position < rows:
        gaps.append((position, rows - position))
    return gaps


def covered(state: RunState, parts: Sequence[RunPart]) -> RunState:
    """The run with additional parts, for rows that are in no other part."""
    return replace(state, parts=[*state.parts, *parts])
