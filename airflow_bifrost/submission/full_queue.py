"""Whether a provider's queue of batches is full: it accepts no batch until others have ended, or accepts only a smaller one. Pure.

A provider limits the tokens, requests or batches that wait. When the queue is full, it either refuses to create the batch, or creates it and
fails it at validation, before a row has run. The rows are fine, and the same batch can be accepted later. A rate limit per minute, an
exhausted virtual key and an unpaid bill look similar, but are not a full queue. ``full_queues`` in ``providers/`` holds each provider's words
for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_bifrost import providers
from airflow_bifrost.exceptions import BifrostGatewayError
from airflow_bifrost.providers.statuses import BatchStatus

RAN = ("completed", "failed", "succeeded", "expired", "canceled")  # counts of rows that the provider has processed


def refused_as_full(error: BifrostGatewayError, provider: str) -> bool:
    """Whether a create was refused because the provider's queue is full.

    A 429 does not prove that nothing was submitted: the gateway itself repeats a POST, and an earlier attempt may have been accepted.

    :param error: raised by the create.
    :param provider: as the gateway spells it.
    """
    if error.fault is not None:  # the gateway's own limits, or its own queue
        return False
    return any(
        sign.where == "create"
        and (sign.statuses is None or error.status_code in sign.statuses)
        and sign.matches(error.error_type, error.error_code, message=error.problem)
        for sign in providers.get(provider).full_queues
    )


def failed_as_full(summary: Mapping[str, Any]) -> bool:
    """Whether a batch failed, before any of its rows ran, because the provider's queue was full.

    :param summary: of :class:`airflow_bifrost.gateway.summary.BatchSummary`, as JSON types.
    """
    if BatchStatus.of(summary["status"]) is not BatchStatus.FAILED:
        return False
    if any(summary["request_counts"].get(name) for name in RAN):
        return False
    return any(
        sign.where == "batch" and sign.matches(error["code"], message=error["message"])
        for sign in providers.get(summary["provider"]).full_queues
        for error in summary["errors"]
    )
