"""A client that makes the calls that most tests of the local gateway make."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx


class Client(httpx.Client):
    """httpx, with the calls that most tests make."""

    def upload(self, lines: list[dict[str, Any]] | bytes, **form: str) -> httpx.Response:
        content = lines if isinstance(lines, bytes) else b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        return self.post("/openai/v1/files", data={"purpose": "batch", **form}, files={"file": ("in.jsonl", content)})

    def create(self, prompts: list[str], endpoint: str = "/v1/chat/completions", **body: Any) -> str:
        """A batch of prompts for openai; returns its id."""
        file_id = self.upload([line(f"r{i}", prompt) for i, prompt in enumerate(prompts)]).json()["id"]
        created = self.post("/openai/v1/batches", json={"input_file_id": file_id, "endpoint": endpoint, **body})
        assert created.status_code == 200, created.text
        return str(created.json()["id"])

    def batch(self, batch_id: str, provider: str = "openai") -> dict[str, Any]:
        answer = self.get(f"/openai/v1/batches/{batch_id}", params={"provider": provider})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def wait(self, batch_id: str, provider: str = "openai") -> dict[str, Any]:
        """The batch at its end."""
        until = time.monotonic() + 60
        while (batch := self.batch(batch_id, provider))["status"] in (
            "validating",
            "in_progress",
            "finalizing",
            "cancelling",
        ):
            assert time.monotonic() < until, batch
            time.sleep(0.01)
        return batch

    def rows(self, file_id: str, provider: str = "openai") -> list[dict[str, Any]]:
        content = self.get(f"/openai/v1/files/{file_id}/content", params={"provider": provider})
        assert content.status_code == 200, content.text
        return [json.loads(row) for row in content.text.splitlines()]


def line(custom_id: str, prompt: str) -> dict[str, Any]:
    """A request line for OpenAI's chat completions."""
    body = {"model": "echo-1", "messages": [{"role": "user", "content": prompt}]}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
