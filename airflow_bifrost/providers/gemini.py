"""Gemini, through Google's AI Studio API. The create call names the model, and the count ``completed`` includes failed rows."""

from __future__ import annotations

from typing import Any

from airflow_bifrost.providers.base import (
    MB,
    UNLIMITED,
    FullQueue,
    Limits,
    ListBehavior,
    ListedCounts,
    Provider,
    ResultLocation,
    says,
)
from airflow_bifrost.providers.forms import JsonObject, LineForm, OutputSchema, PromptForm, SchemaDialect, SchemaForm
from airflow_bifrost.providers.openai import LENGTHS, RANGES, TIMES


def contents(prompt: Any) -> JsonObject:
    """A request body with the prompt as its only content."""
    return {"contents": [{"role": "user", "parts": [{"text": prompt}]}]}


PROMPTS: dict[str | None, PromptForm] = {
    None: PromptForm(contents, ("contents",), lambda system: {"systemInstruction": {"parts": [{"text": system}]}})
}


def request_schema(output: OutputSchema, _: str) -> JsonObject:
    """The members of a request body that ask for an answer in a schema: https://ai.google.dev/api/generate-content#generationconfig"""
    schema = output.schema if output.strict is None else output.strict
    return {"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": schema}}


def bare_id(batch_id: str) -> str:
    """``xyz`` of ``batches-xyz`` and ``batches/xyz``.

    Lists of gateway 1.4.19 show the bare ID, those of 1.5.16 and every other answer the prefixed one. The native routes take the bare one.
    """
    return batch_id.removeprefix("batches-").removeprefix("batches/")


PROVIDER = Provider(
    name="gemini",
    # "Input file size limit: 2GB", and no limit on the number of rows: https://ai.google.dev/gemini-api/docs/rate-limits
    limits=Limits(rows=UNLIMITED, bytes=2_000 * MB),
    # `key` is the custom ID. The batch names the model, not the row: https://ai.google.dev/gemini-api/docs/batch-api
    lines=LineForm(id="key", body="request", envelope=False, names_model=False),
    prompts=PROMPTS,
    schema=SchemaForm(
        # Recursion is allowed only in optional properties: https://ai.google.dev/api/generate-content#generationconfig
        dialect=SchemaDialect(keywords=RANGES | LENGTHS, formats=TIMES, recursion=False),
        request=request_schema,
    ),
    needs_model=True,  # without a model, the gateway silently uses gemini-2.5-flash
    listing=ListBehavior(pages=False, counts=ListedCounts.IN_RETRIEVE),  # gateway 1.4.19 and 1.5.16, recorded
    results=ResultLocation.NATIVE,
    completed_includes_failed=True,
    full_queues=(
        # "You exceeded your current quota, please check your plan and billing details" for 100,000 rows, which were accepted in ten parts:
        # https://github.com/kotwal-itpro/steadybatch/blob/main/docs/FINDINGS.md (7); likewise
        # https://discuss.ai.google.dev/t/hitting-rate-limit-on-gemini-batch-api-for-gemini-embedding-001/107091
        # Gemini gives the same answer if the user's plan does not allow the call. Nothing in the answer tells the two cases apart.
        FullQueue(where="create", statuses=frozenset({429}), message=says("exceeded your current quota")),
    ),
    listed_id=bare_id,
    native_id=bare_id,
)
