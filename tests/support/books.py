"""The gateway's own records, read without the code under test: what was sent, what was paid for each row, and for whom."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from airflow_bifrost.testing import LocalGateway

ENDED = ("completed", "cancelled", "failed", "expired", "ended")

Row = tuple[str, str]  # model and prompt


class Books:
    """:ivar others: IDs of the batches that somebody else has created."""

    def __init__(self, gateway: LocalGateway) -> None:
        self._gateway = gateway
        self.others: set[str] = set()

    @contextmanager
    def of_somebody_else(self) -> Iterator[None]:
        """What is created within this block belongs to somebody else."""
        before = {batch["id"] for batch in self._gateway.batches}
        yield
        self.others |= {batch["id"] for batch in self._gateway.batches} - before

    def batches(self, *, others: bool = False) -> list[dict[str, Any]]:
        return [batch for batch in self._gateway.batches if (batch["id"] in self.others) is others]

    def running(self) -> set[str]:
        """IDs of the task's batches that nobody has cancelled, and that have not ended."""
        return {batch["id"] for batch in self.batches() if batch["status"] not in (*ENDED, "cancelling")}

    def move_on(self) -> None:
        """Let every batch end. Half of the rows of a cancelled one were done, unless it is the second batch of one create."""
        twins = Counter(batch["idempotency_key"] for batch in self._gateway.batches)
        for batch in self._gateway.batches:
            if batch["status"] == "cancelling":
                status = "failed" if twins[batch["idempotency_key"]] > 1 else "cancelled"
                self._gateway.set_batch(batch["id"], status=status)
            elif batch["status"] not in ENDED:
                self._gateway.set_batch(batch["id"], status="completed")

    def paid(self, *, others: bool = False) -> Counter[Row]:
        """How often each row was answered."""
        answers = (answer for batch in self.batches(others=others) for answer in self._answers(batch))
        return Counter((model, text.removeprefix("echo: ")) for model, text in answers)

    def sent(self) -> Counter[Row]:
        """How often each row was sent, where batches have input files."""
        bodies = (line["body"] for batch in self.batches() for line in self._lines(batch["input_file_id"]))
        return Counter((body["model"], body["messages"][0]["content"]) for body in bodies)

    def _answers(self, batch: dict[str, Any]) -> Iterator[tuple[str, str]]:
        if batch["provider"] == "openai":
            for line in self._lines(batch["output_file_id"]) if batch.get("output_file_id") else []:
                body = line["response"]["body"]
                yield body["model"], body["choices"][0]["message"]["content"]
            return
        for line in self._get(f"/v1/batches/{batch['id']}/results", batch["provider"]).json()["results"]:
            if line["result"]["type"] == "succeeded":
                message = line["result"]["message"]
                yield message["model"], message["content"][0]["text"]

    def _lines(self, file_id: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._get(f"/v1/files/{file_id}/content", "openai").content.splitlines()]

    def _get(self, path: str, provider: str) -> httpx.Response:
        return httpx.get(f"{self._gateway.url}{path}", params={"provider": provider}).raise_for_status()
