"""What the scripted gateway says of a batch, in every shape that a contender speaks; taken from recordings of the real ones."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

PAGE = 100  # entries; the most that OpenAI and Anthropic give
FIRST_PAGE_ONLY = {"anthropic", "gemini", "bedrock"}  # the gateway ignores `after` there
ROWS = 100

Json = dict[str, Any]


def batch_id(index: int, provider: str = "openai") -> str:
    return f"msgbatch_{index:024x}" if provider == "anthropic" else f"batch_{index:032x}"


def index_of(ident: str) -> int:
    return int(ident.rpartition("_")[2], 16)


def as_openai(index: int, done_at: float | None) -> Json:
    """As OpenAI itself has it; null where there is nothing."""
    created, done = 1_775_400_000 + index, done_at is not None
    return {
        "id": batch_id(index),
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "errors": None,
        "input_file_id": "file-in123",
        "completion_window": "24h",
        "status": "completed" if done else "in_progress",
        "output_file_id": "file-out123" if done else None,
        "error_file_id": None,
        "created_at": created,
        "in_progress_at": created + 10,
        "expires_at": created + 86_400,
        "finalizing_at": done_at and int(done_at),
        "completed_at": done_at and int(done_at),
        "request_counts": {"total": ROWS, "completed": ROWS if done else 40, "failed": 0},
        "metadata": {"team": "growth", "run": "nightly-1"},
    }


def as_anthropic(index: int, done_at: float | None) -> Json:
    """As Anthropic itself has it."""
    created, done = 1_775_400_000 + index, done_at is not None
    ident = batch_id(index, "anthropic")
    return {
        "id": ident,
        "type": "message_batch",
        "processing_status": "ended" if done else "in_progress",
        "request_counts": {"errored": 0, "canceled": 0, "expired": 0}
        | {"processing": 0 if done else ROWS, "succeeded": ROWS if done else 0},
        "created_at": _text(created),
        "expires_at": _text(created + 86_400),
        "ended_at": done_at and _text(done_at),
        "archived_at": None,
        "cancel_initiated_at": None,
        "results_url": f"https://api.anthropic.com/v1/messages/batches/{ident}/results" if done else None,
    }


def bifrost_openai(index: int, done_at: float | None) -> Json:
    """An OpenAI batch through Bifrost, which leaves out what is null."""
    batch = {name: value for name, value in as_openai(index, done_at).items() if value is not None}
    return batch | {"extra_fields": _extra("openai")}


def bifrost_anthropic(index: int, done_at: float | None) -> Json:
    """An Anthropic batch through Bifrost."""
    created, done = 1_775_400_000 + index, done_at is not None
    batch = {
        "id": batch_id(index, "anthropic"),
        "object": "batch",
        "status": "ended" if done else "in_progress",
        "request_counts": {"total": ROWS, "completed": ROWS if done else 0, "failed": 0}
        | ({"succeeded": ROWS} if done else {"pending": ROWS}),
        "created_at": created,
        "expires_at": created + 86_400,
        "processing_status": "ended" if done else "in_progress",
        "extra_fields": _extra("anthropic"),
    }
    return batch | ({"completed_at": int(done_at)} if done_at is not None else {})


ROUTES = {
    "/openai/v1/batches?openai": bifrost_openai,
    "/openai/v1/batches?anthropic": bifrost_anthropic,
    "/v1/batches": as_openai,
    "/v1/messages/batches": as_anthropic,
}


def page_of(n: int, provider: str, limit: int, after: str) -> tuple[range, Json]:
    """One page of a list of ``n`` batches, newest first: their indices, and what goes around them."""
    top = n if not after or provider in FIRST_PAGE_ONLY else index_of(json.loads(base64.urlsafe_b64decode(after))["c"])
    indices = range(top - 1, max(top - 1 - min(limit, PAGE), -1), -1)
    page: Json = {"object": "list", "extra_fields": _extra(provider, "batch_list")}
    if indices and indices[-1] > 0:
        cursor = json.dumps({"v": 1, "i": 0, "c": batch_id(indices[-1], provider)}, separators=(",", ":"))
        page |= {"has_more": True, "next_cursor": base64.urlsafe_b64encode(cursor.encode()).decode()}
    return indices, page


def _extra(provider: str, kind: str = "batch_retrieve") -> Json:
    return {"request_type": kind, "provider": provider, "latency": 0, "chunk_index": 0}


def _text(stamp: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(stamp))
