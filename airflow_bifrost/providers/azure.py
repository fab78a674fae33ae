"""Azure OpenAI: OpenAI's API with different quotas, file statuses and queue errors."""

from __future__ import annotations

from airflow_bifrost.providers import openai
from airflow_bifrost.providers.base import FileReadiness, FullQueue, ListBehavior, ListedCounts, Provider, says
from airflow_bifrost.providers.forms import SchemaDialect, SchemaForm

PROVIDER = Provider(
    name="azure",
    # "Max input file size 200 MB": https://learn.microsoft.com/azure/ai-services/openai/quotas-limits
    # That page allows 100,000 requests in a file. This package uses OpenAI's 50,000, which no deployment refuses.
    # A file may name only one deployment: https://learn.microsoft.com/azure/ai-services/openai/how-to/batch
    limits=openai.LIMITS,
    prompts=openai.PROMPTS,
    schema=SchemaForm(
        # No keywords at all: https://learn.microsoft.com/azure/ai-services/openai/how-to/structured-outputs
        dialect=SchemaDialect(),
        request=openai.request_schema,
    ),
    metadata=True,  # gateway 1.4.19 and 1.5.16, recorded
    expires_output=True,  # https://learn.microsoft.com/azure/ai-services/openai/how-to/batch
    listing=ListBehavior(pages=True, counts=ListedCounts.IN_LIST),
    # An upload is ``pending`` at first, and Azure refuses to create a batch from it until it is ``processed``:
    # https://learn.microsoft.com/azure/ai-services/openai/how-to/batch
    files=FileReadiness(
        ready=frozenset({"processed", "succeeded"}),
        failed=frozenset({"error", "failed", "deleted", "deleting", "canceled", "cancelled"}),
    ),
    # "Max Batch input files - (no expiration): 500": https://learn.microsoft.com/azure/ai-services/openai/quotas-limits
    # The page does not quote the error message.
    too_many_files=says(r"maximum is \d+|(number of|too many) files"),
    one_file_id=True,
    full_queues=(
        # The same code, with "The number of enqueued tokens has surpassed the configured limit of ... for the deployment ...":
        # https://learn.microsoft.com/en-us/answers/questions/2285577/azure-openai-batch-api-token-limit-exceeded-error
        openai.TOKENS_QUEUED,
        # "Queueing batch jobs": some regions fail fast, with a 400 that has `token_limit_exceeded` somewhere in it:
        # https://learn.microsoft.com/en-us/azure/ai-foundry/openai/how-to/batch
        FullQueue(where="create", statuses=frozenset({400}), word="token_limit_exceeded"),
        FullQueue(
            where="create",
            statuses=frozenset({400}),
            message=says("token_limit_exceeded|number of enqueued tokens has surpassed"),
        ),
    ),
)
