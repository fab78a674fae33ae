"""The load of a run: which DAG runs there are, over which providers, with which rows. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from endurance.evidence import Job

PART_ROWS = 8  # rows of a batch at most, so that small runs have several parts; set in the DAG file
FLAKY = 0.1  # share of a run's rows that fail in the first batch that has them, and must be sent again
NO_CODES = (
    "anthropic",
)  # providers whose failed rows have no code through the gateway, so that they are not sent again
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
SUBMITS = ("run", "chain", "table")


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
        output = f"{folder}/out/{job_id}.jsonl"
        conf = {
            "provider": provider,
            "input_path": f"{folder}/in/{job_id}.jsonl",
            "output_path": output,
            "request_params": {"max_tokens": 64} if provider == "anthropic" else {},
        }
        flaky = 0.0 if kind == "chain" or provider in NO_CODES else FLAKY
        prompts = tuple(_prompts(job_id, min(plan.rows, PART_ROWS) if kind == "chain" else plan.rows, flaky, chance))
        jobs.append(Job(job_id, kind, provider, prompts, output=output, conf=conf))
    return jobs


def waiting_jobs(batches: Sequence[tuple[str, str]]) -> list[Job]:
    """The jobs that wait for batches, one of each kind for every four of a provider.

    :param batches: provider and ID of each.
    """
    jobs: list[Job] = []
    by_provider: dict[str, list[str]] = {}
    for provider, batch_id in batches:
        by_provider.setdefault(provider, []).append(batch_id)
    for provider, ids in by_provider.items():
        for kind, some in zip(WAITS, _shares(ids), strict=True):
            if not some:
                continue
            job_id = f"{kind}-{len(jobs):03d}-{provider}"
            conf = {"provider": provider, "batch_ids": some}
            jobs.append(Job(job_id, kind, provider, batch_ids=tuple(some), conf=conf))
    return jobs


def _shares(ids: list[str]) -> tuple[list[str], ...]:
    """Mapped tasks and lists get most of the batches, since the other two kinds keep starting processes."""
    single, rest = ids[:2], ids[2:]
    half = len(rest) // 2
    return rest[:half], rest[half:], single[:1], single[1:]


def _prompts(job_id: str, rows: int, flaky: float, chance: random.Random) -> Iterator[str]:
    for number in range(1, rows + 1):
        marker = "!flaky 503 " if chance.random() < flaky else ""
        yield f"{marker}{job_id} row {number} of {rows}"
