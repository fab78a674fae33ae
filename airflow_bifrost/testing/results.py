"""The results of a batch: its output files line by line, and the gateway's native results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from airflow_bifrost.testing.clock import Phase
from airflow_bifrost.testing.errors import refused
from airflow_bifrost.testing.json_text import parsed
from airflow_bifrost.testing.model import (
    Fate,
    JsonObject,
    Row,
    Verdict,
    anthropic_answer,
    digest,
    gemini_summary,
    openai_answer,
    to_line,
    vertex_answer,
)
from airflow_bifrost.testing.providers import PROVIDERS, Snapshot
from airflow_bifrost.testing.store import Store

_OK = Verdict(Fate.OK)
_GARBLED = b"this line is not json\n"
_FAILURE = "The row asked to fail."
_EXPIRED = {
    "code": "batch_expired",
    "message": "This request could not be executed before the completion window expired.",
}


def lines(store: Store, snapshot: Snapshot, kind: str) -> Iterator[bytes]:
    """The lines of a file that a terminal batch has yielded."""
    if kind == "manifest":
        yield to_line(_manifest(store, snapshot))
    elif snapshot.batch.provider == "bedrock":
        yield from _bedrock_output(store, snapshot)
    elif snapshot.batch.provider == "vertex":
        yield from _vertex_output(store, snapshot)
    else:
        yield from _openai_file(store, snapshot, wanted_errors=kind == "error")


def native(store: Store, snapshot: Snapshot, batch_id: str) -> JsonObject:
    """The answer to the native results call, without ``extra_fields``; parse errors stand under ``parse_errors``.

    :param batch_id: the ID in the request.
    """
    provider = snapshot.batch.provider
    if provider == "anthropic":
        return {"batch_id": batch_id, "results": _anthropic_results(store, snapshot)}
    if provider == "gemini":
        return {"batch_id": batch_id, "results": _gemini_results(store, snapshot, batch_id)}
    if provider == "bedrock":
        return {"batch_id": batch_id, "results": _bedrock_results(store, snapshot)}
    if provider == "vertex":
        return {"batch_id": batch_id, "results": _vertex_results(store, snapshot)}
    return {"batch_id": batch_id, **_openai_results(store, snapshot)}


def _rows(store: Store, snapshot: Snapshot) -> Iterator[tuple[int, Row, Verdict | None]]:
    """Every readable row with what became of it; None: it was not reached."""
    if snapshot.batch.input_file is None:
        return
    file = store.file_by_seq(snapshot.batch.input_file)
    if file is None:
        return
    odd = store.odd_rows(snapshot.batch)
    for index, line in enumerate(store.lines(file)):
        try:
            value = parsed(line)
        except ValueError:
            value = {}
        reached = index < snapshot.progress.finished
        yield index, Row.read(value if isinstance(value, dict) else {}), odd.get(index, _OK) if reached else None


def _openai_file(store: Store, snapshot: Snapshot, *, wanted_errors: bool) -> Iterator[bytes]:
    batch = snapshot.batch
    for index, row, verdict in _rows(store, snapshot):
        seed = digest(batch.id, index)
        line: JsonObject = {"id": f"batch_req_{seed}", "custom_id": row.custom_id}
        unreached = verdict is None and snapshot.progress.phase is Phase.EXPIRED
        if unreached or (verdict is not None and verdict.fate is Fate.EXPIRE):
            if wanted_errors:
                yield to_line({**line, "response": None, "error": _EXPIRED})
        elif verdict is None or verdict.fate is Fate.MISSING:
            continue
        elif verdict.fate is Fate.FAIL:
            if wanted_errors:
                body = {"error": {"message": _FAILURE, "type": _error_type(verdict.code), "param": None, "code": None}}
                yield to_line({**line, "response": _response(verdict.code, seed, body), "error": None})
        elif not wanted_errors and verdict.fate is Fate.GARBLE:
            yield _GARBLED
        elif not wanted_errors:
            answer = openai_answer(batch.endpoint, row, seed)
            yield to_line({**line, "response": _response(200, seed, answer), "error": None})


def _response(code: int, seed: str, body: JsonObject) -> JsonObject:
    return {"status_code": code, "request_id": f"req_{seed}", "body": body}


def _error_type(code: int) -> str:
    return "server_error" if code >= 500 else "invalid_request_error"


def _bedrock_output(store: Store, snapshot: Snapshot) -> Iterator[bytes]:
    for index, row, verdict in _rows(store, snapshot):
        line: JsonObject = {"recordId": row.custom_id, "modelInput": row.body}
        if verdict is None or verdict.fate is Fate.MISSING:
            continue
        if verdict.fate is Fate.GARBLE:
            yield _GARBLED
        elif verdict.fate is Fate.OK:
            yield to_line({**line, "modelOutput": anthropic_answer(row, digest(snapshot.batch.id, index))})
        else:
            code = verdict.code if verdict.fate is Fate.FAIL else 408
            yield to_line({**line, "error": {"errorCode": code, "errorMessage": _FAILURE}})


def _manifest(store: Store, snapshot: Snapshot) -> JsonObject:
    tally, finished = snapshot.tally, snapshot.progress.finished
    failed = tally[Fate.FAIL] + tally[Fate.EXPIRE]
    return {
        "totalRecordCount": snapshot.batch.rows,
        "processedRecordCount": finished,
        "successRecordCount": finished - failed,
        "errorRecordCount": failed,
        "inputTokenCount": sum(row.input_tokens for _, row, verdict in _rows(store, snapshot) if verdict is not None),
    }


def _openai_results(store: Store, snapshot: Snapshot) -> JsonObject:
    """The output file only, whose unreadable lines are left out; never the error file."""
    if "output" not in snapshot.yielded:
        raise refused("batch results not available: output_file_id is empty (batch may not be completed)")
    results: list[JsonObject] = []
    unreadable: list[JsonObject] = []
    for number, line in enumerate(_openai_file(store, snapshot, wanted_errors=False), start=1):
        if line == _GARBLED:
            cause = (
                '"Syntax error at index 1: invalid char\\n\\n\\tthis line is not json\\n\\t.^...................\\n"'
            )
            unreadable.append({"code": "parse_error", "message": cause, "line": number})
        else:
            row = json.loads(line)
            results.append({name: row[name] for name in ("custom_id", "response", "error") if row[name] is not None})
    return {"results": results, "parse_errors": unreadable} if unreadable else {"results": results}


def _anthropic_results(store: Store, snapshot: Snapshot) -> list[JsonObject]:
    """One result for each request, where an error has lost its code and message."""
    if not snapshot.progress.terminal:
        message = "Results are not yet available for this batch."
        raise PROVIDERS["anthropic"].refusal(404, message, type="not_found_error")
    left = {Phase.EXPIRED: "expired", Phase.FAILED: "errored"}.get(
        snapshot.progress.phase or Phase.CANCELLED, "canceled"
    )
    results: list[JsonObject] = []
    for index, row, verdict in _rows(store, snapshot):
        result: JsonObject = {"custom_id": row.custom_id}
        if verdict is not None and verdict.fate in (Fate.MISSING, Fate.GARBLE):
            continue
        if verdict is not None and verdict.fate is Fate.OK:
            answer = anthropic_answer(row, digest(snapshot.batch.id, index))
            results.append({**result, "result": {"type": "succeeded", "message": answer}})
            continue
        kind = left if verdict is None else {Fate.EXPIRE: "expired"}.get(verdict.fate, "errored")
        result["result"] = {"type": kind}
        results.append({**result, "error": {"code": "error"}} if kind == "errored" else result)
    return results


def _gemini_results(store: Store, snapshot: Snapshot, batch_id: str) -> list[JsonObject]:
    """Text, finish reason and usage of each row; or the gateway's one invented row, if the batch says ``dest: false``."""
    progress = snapshot.progress
    if not progress.terminal:
        state = "BATCH_STATE_PENDING" if progress.phase is Phase.VALIDATING else "BATCH_STATE_RUNNING"
        raise refused(f"batch {batch_id} is still processing (state: {state}), results not yet available")
    if not snapshot.batch.options.get("dest", True) or progress.phase is Phase.FAILED:
        state = {"completed": "SUCCEEDED"}.get(progress.status, progress.status.upper())
        said = f"Batch completed with state: BATCH_STATE_{state.removeprefix('BATCH_STATE_')}. No results available."
        return [{"custom_id": "info", "response": {"status_code": 200, "body": {"message": said}}}]
    results: list[JsonObject] = []
    for _, row, verdict in _rows(store, snapshot):
        if verdict is None or verdict.fate in (Fate.MISSING, Fate.GARBLE):
            continue
        if verdict.fate is Fate.OK:
            answer: dict[str, Any] = {"response": {"status_code": 200, "body": gemini_summary(row)}}
        elif verdict.fate is Fate.EXPIRE:
            answer = {"error": {"code": "4", "message": "Deadline exceeded."}}
        else:
            answer = {"error": {"code": "3" if verdict.code < 500 else "13", "message": _FAILURE}}
        results.append({"custom_id": row.custom_id, **answer})
    return results


def _bedrock_results(store: Store, snapshot: Snapshot) -> list[JsonObject]:
    """The content of the output below the batch's prefix; empty until there is any."""
    if "output" not in snapshot.yielded:
        return []
    results: list[JsonObject] = []
    for line in _bedrock_output(store, snapshot):
        if line == _GARBLED:
            continue
        row = json.loads(line)
        if "modelOutput" in row:
            results.append({"custom_id": row["recordId"], "response": {"status_code": 200, "body": row["modelOutput"]}})
        else:
            code, message = row["error"]["errorCode"], row["error"]["errorMessage"]
            error = {"code": str(code), "message": message}
            results.append({"custom_id": row["recordId"], "response": {"status_code": code}, "error": error})
    return results


def _vertex_output(store: Store, snapshot: Snapshot) -> Iterator[bytes]:
    """Each request again, with its response or with what Google says about its failure."""
    model = snapshot.batch.model or "echo-1"
    for index, row, verdict in _rows(store, snapshot):
        line: JsonObject = {"request": row.body, "status": "", "processed_time": "2026-04-05T15:00:00Z"}
        if verdict is None or verdict.fate is Fate.MISSING:
            continue
        if verdict.fate is Fate.GARBLE:
            yield _GARBLED
        elif verdict.fate is Fate.OK:
            yield to_line({**line, "response": vertex_answer(row, digest(snapshot.batch.id, index), model)})
        else:
            code = verdict.code if verdict.fate is Fate.FAIL else 504
            detail = json.dumps({"error": {"code": code, "message": _FAILURE}})
            yield to_line({**line, "status": f"{HTTPStatus(code).phrase}: {detail}", "response": None})


def _vertex_results(store: Store, snapshot: Snapshot) -> list[JsonObject]:
    """The content of the folder that the job has written."""
    if "output" not in snapshot.yielded:
        state = snapshot.progress.phase or snapshot.progress.status
        words = {Phase.VALIDATING: "PENDING", Phase.IN_PROGRESS: "RUNNING", Phase.FINALIZING: "RUNNING"}
        state = f"JOB_STATE_{words.get(snapshot.progress.phase or Phase.FAILED, str(state).upper())}"
        raise refused(f"batch output is not available yet (job state: {state})")
    results: list[JsonObject] = []
    for line in _vertex_output(store, snapshot):
        if line == _GARBLED:
            continue
        row = json.loads(line)
        custom_id = Row.read(row).custom_id
        if row["status"]:
            results.append({"custom_id": custom_id, "error": {"message": row["status"]}})
        else:
            results.append({"custom_id": custom_id, "response": {"status_code": 200, "body": row["response"]}})
    return results
