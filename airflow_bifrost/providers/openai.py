"""OpenAI. The gateway's OpenAI-compatible routes pass on its statuses and error codes unchanged, even unknown ones."""

from __future__ import annotations

from typing import Any

from airflow_bifrost.providers.base import MB, FullQueue, Limits, ListBehavior, ListedCounts, Provider, says
from airflow_bifrost.providers.forms import JsonObject, OutputSchema, PromptForm, SchemaDialect, SchemaForm

# A file may have 50,000 requests, 200 MB, one model, and 50,000 embedding inputs in total:
# https://platform.openai.com/docs/guides/batch and https://platform.openai.com/docs/api-reference/batch/create
LIMITS = Limits(rows=50_000, bytes=200 * MB, one_model=True)


def messages(prompt: Any) -> JsonObject:
    """A request body with the prompt as its only message."""
    return {"messages": [{"role": "user", "content": prompt}]}


# https://platform.openai.com/docs/api-reference
PROMPTS: dict[str | None, PromptForm] = {
    "/v1/chat/completions": PromptForm(messages, ("messages",), system_is_message=True),
    # `prompt` names a template that OpenAI stores
    "/v1/responses": PromptForm(
        lambda prompt: {"input": prompt}, ("input", "prompt"), lambda system: {"instructions": system}
    ),
    "/v1/embeddings": PromptForm(lambda prompt: {"input": prompt}, ("input",)),
    "/v1/completions": PromptForm(lambda prompt: {"prompt": prompt}, ("prompt",)),
}


def request_schema(output: OutputSchema, endpoint: str) -> JsonObject:
    """The members of a request body that ask for an answer in a schema, with ``strict`` where the schema can be enforced."""
    schema = output.schema if output.strict is None else output.strict
    wanted = {"name": output.name, "schema": schema, "strict": output.strict is not None}
    if endpoint == "/v1/chat/completions":
        return {"response_format": {"type": "json_schema", "json_schema": wanted}}
    if endpoint == "/v1/responses":
        return {"text": {"format": {"type": "json_schema", **wanted}}}
    raise ValueError(
        f"output_type does not work with {endpoint}. Only /v1/chat/completions and /v1/responses support a schema."
    )


TIMES = frozenset({"date-time", "date", "time"})
NAMES = frozenset({"duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
RANGES = frozenset({"minimum", "maximum"})
LENGTHS = frozenset({"minItems", "maxItems"})

# "Enqueued token limit reached for ... Please try again once some in_progress batches have been completed.", with this code:
# https://github.com/openai/openai-python/issues/2084
TOKENS_QUEUED = FullQueue(where="batch", word="token_limit_exceeded")

_QUEUED = says("enqueued (?:token|request) limit reached")

PROVIDER = Provider(
    name="openai",
    limits=LIMITS,
    prompts=PROMPTS,
    schema=SchemaForm(
        # https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
        dialect=SchemaDialect(
            keywords=RANGES | LENGTHS | {"exclusiveMinimum", "exclusiveMaximum", "multipleOf", "pattern"},
            formats=TIMES | NAMES,
        ),
        request=request_schema,
    ),
    metadata=True,  # gateway 1.4.19 and 1.5.16, recorded
    expires_output=True,  # https://platform.openai.com/docs/api-reference/batch/create
    listing=ListBehavior(pages=True, counts=ListedCounts.IN_LIST),
    one_file_id=True,  # gateway 1.4.19 and 1.5.16, recorded
    full_queues=(
        TOKENS_QUEUED,
        # "Enqueued request limit reached for ...". The source does not quote the error code:
        # https://community.openai.com/t/batch-api-request-limit-violates-terms-of-service/1002388
        FullQueue(where="batch", message=_QUEUED),
        # Inferred: OpenAI reports this in a batch. In the answer to a create call, as from Azure, the same words must mean the same.
        FullQueue(where="create", statuses=frozenset({400, 429}), word="token_limit_exceeded"),
        FullQueue(where="create", statuses=frozenset({400, 429}), message=_QUEUED),
    ),
)
