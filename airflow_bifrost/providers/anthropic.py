"""Anthropic: the create call takes the rows themselves, and the status ``ended`` says nothing about their outcome."""

from __future__ import annotations

import re

from airflow_bifrost.providers.base import (
    MB,
    FullQueue,
    Limits,
    ListBehavior,
    ListedCounts,
    Provider,
    ResultLocation,
    says,
)
from airflow_bifrost.providers.forms import (
    IdRule,
    JsonObject,
    LineForm,
    OutputSchema,
    PromptForm,
    SchemaDialect,
    SchemaForm,
)
from airflow_bifrost.providers.openai import NAMES, TIMES, messages


def request_schema(output: OutputSchema, _: str) -> JsonObject:
    """The members of a request body that ask for an answer in a schema.

    Claude 4.5 and later take ``output_config.format`` without a beta header, in batches too:
    https://platform.claude.com/docs/en/build-with-claude/structured-outputs
    A type that cannot be strict becomes a tool that the model must call. That is an error if the model uses extended thinking, and some models
    always do: https://platform.claude.com/docs/en/build-with-claude/extended-thinking
    """
    if output.strict is not None:
        return {"output_config": {"format": {"type": "json_schema", "schema": output.strict}}}
    tool = {"name": output.name, "description": "Give the answer.", "input_schema": output.schema}
    return {"tools": [tool], "tool_choice": {"type": "tool", "name": output.name}}


PROVIDER = Provider(
    name="anthropic",
    # "100,000 Message requests or 256 MB in size": https://platform.claude.com/docs/en/build-with-claude/batch-processing
    limits=Limits(rows=100_000, bytes=256 * MB, inline=True),
    # ^[a-zA-Z0-9_-]{1,64}$: https://platform.claude.com/docs/en/api/messages/batches/create
    custom_ids=IdRule(re.compile(r"[a-zA-Z0-9_-]{1,64}"), "1 to 64 of the characters a-z, A-Z, 0-9, _ and -"),
    lines=LineForm(
        body="params",
        envelope=False,
        required={
            "max_tokens": 'has no max_tokens, which Anthropic requires: set it in `request_params`, e.g. {"max_tokens": 1024}'
        },
    ),
    prompts={None: PromptForm(messages, ("messages",), lambda system: {"system": system})},
    schema=SchemaForm(
        # https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations
        dialect=SchemaDialect(formats=TIMES | NAMES | {"uri"}, recursion=False),
        request=request_schema,
    ),
    listing=ListBehavior(pages=False, counts=ListedCounts.IN_LIST),  # gateway 1.4.19 and 1.5.16, recorded
    results=ResultLocation.NATIVE,
    full_queues=(
        # Inferred: the documentation calls the limit "batch requests in processing queue", and says that a 429 names the exceeded limit.
        # The exact words are not published: https://platform.claude.com/docs/en/api/rate-limits
        FullQueue(where="create", statuses=frozenset({429}), message=says("processing queue")),
    ),
)
