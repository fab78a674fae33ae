"""Whether a provider's queue of batches is full: it takes no more until others have ended, or takes a smaller one. Pure.

A provider limits the tokens, requests or batches that wait, and says so in two ways: it refuses to create the batch, or it creates
it and fails it at validation, before a row has run. Neither is a fault of the rows; the same batch can go in later. A rate limit per
minute, an exhausted virtual key and an unpaid bill look much like it, and are none of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from airflow_bifrost.exceptions import BifrostGatewayError
from airflow_bifrost.providers.statuses import BatchStatus

RAN = ("completed", "failed", "succeeded", "expired", "canceled")  # counts of rows that a provider is done with


@dataclass(frozen=True, slots=True)
class FullQueue:
    """One way of saying that the queue is full. It is recognised by exactly one of ``word`` and ``message``.

    :param providers: who says it, by the gateway's names.
    :param where: ``create``: the call is refused; ``batch``: the batch is created, and fails.
    :param statuses: HTTP statuses of the refusal; None for a batch.
    :param word: the error's type or code.
    :param message: matches within the error's message.
    """

    providers: frozenset[str]
    where: Literal["create", "batch"]
    statuses: frozenset[int] | None = None
    word: str | None = None
    message: re.Pattern[str] | None = None

    def is_told_by(self, *words: str | None, message: str | None) -> bool:
        """Whether an error with these words (its type, its code) and this message says it."""
        if self.message is not None:
            return self.message.search(message or "") is not None
        return self.word in words


def _says(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_OPENAI_SAYS = _says("enqueued (?:token|request) limit reached")

# Of a batch that failed, the gateway hands on the errors of OpenAI and Azure alone. Patterns match near the start of a message, which
# reaches this package shortened.
FULL_QUEUES = (
    # `token_limit_exceeded`, "Enqueued token limit reached for ... Please try again once some in_progress batches have been completed.":
    # https://github.com/openai/openai-python/issues/2084
    # the same code, "The number of enqueued tokens has surpassed the configured limit of ... for the deployment ...":
    # https://learn.microsoft.com/en-us/answers/questions/2285577/azure-openai-batch-api-token-limit-exceeded-error
    FullQueue(frozenset({"openai", "azure"}), "batch", word="token_limit_exceeded"),
    # "Enqueued request limit reached for ...", its code is not quoted there:
    # https://community.openai.com/t/batch-api-request-limit-violates-terms-of-service/1002388
    FullQueue(frozenset({"openai"}), "batch", message=_OPENAI_SAYS),
    # "Queueing batch jobs": some regions fail fast, a 400 with `token_limit_exceeded` somewhere in it:
    # https://learn.microsoft.com/en-us/azure/ai-foundry/openai/how-to/batch
    FullQueue(frozenset({"azure"}), "create", frozenset({400}), word="token_limit_exceeded"),
    FullQueue(
        frozenset({"azure"}),
        "create",
        frozenset({400}),
        message=_says("token_limit_exceeded|number of enqueued tokens has surpassed"),
    ),
    # Inferred: OpenAI is known to say so of a batch; said of a create call, as Azure does, the same words can mean nothing else.
    FullQueue(frozenset({"openai"}), "create", frozenset({400, 429}), word="token_limit_exceeded"),
    FullQueue(frozenset({"openai"}), "create", frozenset({400, 429}), message=_OPENAI_SAYS),
    # "You exceeded your current quota, please check your plan and billing details": 100,000 rows refused, and taken in ten parts:
    # https://github.com/kotwal-itpro/steadybatch/blob/main/docs/FINDINGS.md (7); likewise
    # https://discuss.ai.google.dev/t/hitting-rate-limit-on-gemini-batch-api-for-gemini-embedding-001/107091
    # Gemini says the same of a plan that does not allow for the call: nothing in the answer tells the two apart.
    FullQueue(frozenset({"gemini"}), "create", frozenset({429}), message=_says("exceeded your current quota")),
    # Inferred: the limit is documented as "batch requests in processing queue", and going over a limit as a 429 that says which;
    # its very words are not published: https://platform.claude.com/docs/en/api/rate-limits
    FullQueue(frozenset({"anthropic"}), "create", frozenset({429}), message=_says("processing queue")),
    # ServiceQuotaExceededException, 400, "The number of requests exceeds the service quota. Resubmit your request later.":
    # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_CreateModelInvocationJob.html
    # Inferred: that the gateway hands on the name (AWS gives it in a header as a rule), or else that the message is the documented one.
    FullQueue(frozenset({"bedrock"}), "create", frozenset({400}), word="ServiceQuotaExceededException"),
    FullQueue(frozenset({"bedrock"}), "create", frozenset({400}), message=_says("exceeds the service quota")),
)


def refused_as_full(error: BifrostGatewayError, provider: str) -> bool:
    """Whether a create call was refused because the queue of the provider is full.

    A 429 is no proof that nothing was submitted: the gateway itself repeats a POST, and an earlier try may have been accepted.

    :param error: what the create call raised.
    :param provider: the provider's name, as the gateway knows it.
    """
    if error.fault is not None:  # the gateway speaks for itself: its own limits, its own queue
        return False
    return any(
        row.where == "create"
        and provider in row.providers
        and (row.statuses is None or error.status_code in row.statuses)
        and row.is_told_by(error.error_type, error.error_code, message=error.problem)
        for row in FULL_QUEUES
    )


def failed_as_full(summary: Mapping[str, Any]) -> bool:
    """Whether a batch failed, before any of its rows ran, because the queue of the provider was full.

    :param summary: of :class:`airflow_bifrost.gateway.summary.BatchSummary`, as JSON types.
    """
    if BatchStatus.of(summary["status"]) is not BatchStatus.FAILED:
        return False
    if any(summary["request_counts"].get(name) for name in RAN):
        return False
    return any(
        row.where == "batch"
        and summary["provider"] in row.providers
        and row.is_told_by(error["code"], message=error["message"])
        for row in FULL_QUEUES
        for error in summary["errors"]
    )
