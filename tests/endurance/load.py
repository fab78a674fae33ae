"""The load of a run: which DAG runs there are, over which providers, with which rows. Pure."""

from __future__ import annotations

import csv
import io
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from endurance.evidence import Job

PART_ROWS = 8  # rows of a batch at most, so that small runs have several parts; set in the DAG file
FLAKY = 0.1  # share of a run's rows that fail in the first batch that has them, and must be sent again
# Providers whose failed rows have no code through the gateway, so that they are not sent again.
NO_CODES = ("anthropic",)
WITH_FILES = ("openai", "azure", "anthropic", "gemini")
"""Providers whose results come through the gateway."""


@dataclass(frozen=True)
class Plan:
    """How much there is of each kind.

    :param waits: batches that exist already and are waited for.
    :param runs: DAG runs that send rows.
    :param rows: of each of these.
    """

    waits: int = 20
    runs: int = 6
    rows: int = 20


WAITS = ("mapped_wait", "list_wait", "reschedule_wait", "poke_wait")
_SHARES = ("mapped_wait", "list_wait", "reschedule_wait", "mapped_wait", "list_wait", "poke_wait")
"""Mapped tasks and lists get most of the batches, because the other two kinds keep starting processes."""

SUBMITS = ("run", "chain", "table", "decorated")


def submitting_jobs(plan: Plan, seed: int, folder: str, providers: Sequence[str] = WITH_FILES) -> list[Job]:
    """The jobs that send rows: each kind over each provider, in an order that the seed decides.

    :param folder: URI of the folder for inputs and outputs.
    """
    chance = random.Random(f"load {seed}")
    pairs = [(kind, provider) for kind in SUBMITS for provider in providers]
    chance.shuffle(pairs)
    jobs = []
    for number in range(plan.runs):
        kind, provider = pairs[number % len(pairs)]
        job_id = f"{kind}-{number:03d}-{provider}"
        output = f"{job_id}.jsonl"
        conf = {
            "provider": provider,
            "input_path": f"{folder}/{input_name(job_id, kind)}",
            "output_path": f"{folder}/out/{output}",
            "request_params": {"max_tokens": 64} if provider == "anthropic" else {},
        }
        flaky = 0.0 if kind == "chain" or provider in NO_CODES else FLAKY
        prompts = tuple(_prompts(job_id, min(plan.rows, PART_ROWS) if kind == "chain" else plan.rows, flaky, chance))
        jobs.append(Job(job_id, kind, provider, prompts, output=output, conf=conf))
    return jobs


def input_name(job_id: str, kind: str) -> str:
    """The name of a job's input: a table, or prompts in JSON."""
    return f"in/{job_id}.{'csv' if kind == 'table' else 'jsonl'}"


def input_of(job: Job) -> bytes:
    """The content of a job's input."""
    if job.kind != "table":
        return "".join(json.dumps(prompt) + "\n" for prompt in job.prompts).encode()
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["number", "ask"])
    writer.writerows(enumerate(job.prompts, start=1))
    return table.getvalue().encode()


def waiting_jobs(batches: Sequence[tuple[str, str]]) -> list[Job]:
    """The jobs that wait for batches. Each provider's batches are divided among the kinds.

    :param batches: provider and ID of each.
    """
    shares: dict[tuple[str, str], list[str]] = {}
    counts: Counter[str] = Counter()
    for provider, batch_id in batches:
        kind = _SHARES[counts[provider] % len(_SHARES)]
        counts[provider] += 1
        shares.setdefault((kind, provider), []).append(batch_id)
    return [
        Job(
            f"{kind}-{number:03d}-{provider}",
            kind,
            provider,
            batch_ids=tuple(ids),
            conf={"provider": provider, "batch_ids": ids},
        )
        for number, ((kind, provider), ids) in enumerate(shares.items())
    ]


def _prompts(job_id: str, rows: int, flaky: float, chance: random.Random) -> Iterator[str]:
    for number in range(1, rows + 1):
        marker = "!flaky 503 " if chance.random() < flaky else ""
        yield f"{marker}{job_id} row {number} of {rows}"
