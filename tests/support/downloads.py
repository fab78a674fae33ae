"""Batches that have ended, and tasks that download their results."""

from __future__ import annotations

from typing import Any

from airflow_bifrost import BatchDownloadOperator
from airflow_bifrost.testing import LocalGateway
from support.airflow import End, run_to_its_end

PROMPTS = {"a": "hello", "b": "!fail 400", "c": "!flaky", "d": "bye"}


def line(provider: str, custom_id: str, prompt: str) -> dict[str, Any]:
    """A line of the input of a provider."""
    messages = [{"role": "user", "content": prompt}]
    match provider:
        case "anthropic":
            return {"custom_id": custom_id, "params": {"model": "e", "max_tokens": 64, "messages": messages}}
        case "gemini":
            return {"key": custom_id, "request": {"contents": [{"role": "user", "parts": [{"text": prompt}]}]}}
        case "vertex":
            labels = {"bifrost_custom_id": custom_id}
            return {"request": {"contents": [{"role": "user", "parts": [{"text": prompt}]}], "labels": labels}}
        case "bedrock":
            return {"recordId": custom_id, "modelInput": {"max_tokens": 64, "messages": messages}}
    body = {"model": "e", "messages": messages}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def ended_batch(
    gateway: LocalGateway, provider: str = "openai", prompts: dict[str, str] = PROMPTS, **fields: Any
) -> str:
    """The ID of a batch of these prompts that has ended."""
    status = "ended" if provider == "anthropic" else "completed"
    rows = [line(provider, custom_id, prompt) for custom_id, prompt in prompts.items()]
    return gateway.add_batch(provider, **{"status": status, "rows": rows, **fields})


def shown(gateway: LocalGateway, batch_id: str) -> dict[str, Any]:
    """A batch as the gateway shows it."""
    return next(batch for batch in gateway.batches if batch["id"] == batch_id)


def download(batch_id: str, output: str, **arguments: Any) -> End:
    """How a BatchDownloadOperator ends."""
    return run_to_its_end(
        lambda: BatchDownloadOperator(task_id="download", batch_id=batch_id, output_path=output, **arguments)
    )
