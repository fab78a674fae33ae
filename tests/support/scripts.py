"""A gateway with scripted answers, and a clock that only sleeping moves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_bifrost.exceptions import BifrostUnavailable
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.results.collect import ReadPolicy, collect
from airflow_bifrost.results.ids import CustomIds


def line(custom_id: str) -> bytes:
    """A result of OpenAI."""
    body = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
    return json.dumps({"custom_id": custom_id, "response": {"status_code": 200, "body": body}}).encode() + b"\n"


@dataclass
class Script:
    """A gateway with scripted answers; it repeats the last one. An error in the script breaks off an answer."""

    batches: list[dict[str, Any]]
    files: dict[str, list[Any]] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)

    def get_batch(self, batch_id: str, *, provider: str | None = None) -> Batch:
        answer = self.batches.pop(0) if len(self.batches) > 1 else self.batches[0]
        return Batch.model_validate({"id": batch_id, **answer})

    @contextmanager
    def file_content(self, file_id: str, *, provider: str | None = None) -> Iterator[Iterator[bytes]]:
        self.opened.append(file_id)
        answers = self.files[file_id]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception) and not isinstance(answer, BifrostUnavailable):
            raise answer

        def chunks() -> Iterator[bytes]:
            if isinstance(answer, Exception):
                yield line("broken off")
                raise answer
            yield answer

        yield chunks()

    def results_content(self, batch_id: str, *, provider: str | None = None) -> Any:
        return self.file_content("native")


@dataclass
class Clock:
    time: float = 0.0
    pauses: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.pauses.append(seconds)

    def policy(self, **changes: Any) -> ReadPolicy:
        return replace(ReadPolicy(sleep=self.sleep, clock=lambda: self.time), **changes)


def counted(succeeded: int, failed: int = 0, status: str = "completed", **members: Any) -> dict[str, Any]:
    counts = {"total": succeeded + failed, "completed": succeeded, "failed": failed}
    return {"status": status, "request_counts": counts, "output_file_id": "out", **members}


def read(script: Script, clock: Clock, provider: str = "openai", **arguments: Any) -> list[str]:
    ids = CustomIds()
    policy = arguments.pop("policy", clock.policy())
    collect(script, "b1", provider, ids, policy=policy, **arguments)  # type: ignore[arg-type]
    return ids.ids
