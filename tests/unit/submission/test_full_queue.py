"""A full queue, and what looks like one. Each provider's own error passes through the gateway and through redaction."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_bifrost import providers
from airflow_bifrost.exceptions import BifrostGatewayError
from airflow_bifrost.gateway import calls, errors, responses
from airflow_bifrost.gateway.exchange import RawResponse, RequestContext
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.gateway.summary import COUNTS, BatchSummary
from airflow_bifrost.providers.base import FullQueue
from airflow_bifrost.submission.full_queue import RAN, failed_as_full, refused_as_full
from airflow_bifrost.testing.provider_answers import ProviderAnswer, passed_on

OPENAI_TOKENS = (
    "Enqueued token limit reached for gpt-4o-mini in organization org-snq6hvcTYRCMyB87hjZjkoFr. "
    "Limit: 2,000,000 enqueued tokens. Please try again once some in_progress batches have been completed."
)
OPENAI_REQUESTS = (
    "Enqueued request limit reached for text-embedding-3-small in organization org-XXXXXX. "
    "Limit: 1,000,000 enqueued requests. Please try again once some in_progress batches have been completed."
)
AZURE_TOKENS = (
    "The number of enqueued tokens has surpassed the configured limit of 30K for the deployment 'gpt-4.1-batch'. "
    "Please either increase the limit or try again once the current jobs have finished."
)
NO_MONEY = (
    "You exceeded your current quota, please check your plan and billing details. "
    "For more information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits."
)
ANTHROPIC_QUEUE = "This request would exceed your limit of 100,000 batch requests in processing queue."
AWS_QUOTA = "The number of requests exceeds the service quota. Resubmit your request later."


def refused(status: int, body: Any, provider: str = "openai") -> BifrostGatewayError:
    """The error that a create raises. ``body``: the gateway's answer."""
    request = calls.create_batch(provider, input_file_id="file-1", idempotency_key="k", model="m").request
    raw = RawResponse(status, {"content-type": "application/json"}, json.dumps(body).encode())
    with pytest.raises(BifrostGatewayError) as caught:
        responses.parse(Batch, raw, RequestContext(request, "my_conn", 1_775_400_000.0, "sk-bf-unit-test-token"))
    return caught.value


def refused_provider(provider: str, status: int, error: dict[str, Any]) -> BifrostGatewayError:
    """The same for an error of the provider, as the gateway passes it on."""
    body = error if provider == "bedrock" else {"error": error}
    answer = ProviderAnswer(status, {"content-type": "application/json"}, body)
    return refused(status, passed_on(provider, "batch_create", answer).about(provider, "batch_create").body(), provider)


def failed(provider: str, *errors: dict[str, Any], status: str = "failed", **counts: int) -> dict[str, Any]:
    batch = {
        "id": "b1",
        "status": status,
        "request_counts": {"total": 0, "completed": 0, "failed": 0, **counts},
        "errors": {"object": "list", "data": list(errors)},
    }
    return BatchSummary.of(Batch.model_validate(batch), batch_id="b1", provider=provider).to_xcom()


REFUSALS: list[tuple[str, int, dict[str, Any]]] = [
    ("azure", 400, {"code": "token_limit_exceeded", "message": "No."}),
    ("azure", 400, {"code": "BadRequest", "message": AZURE_TOKENS}),
    ("azure", 400, {"code": "BadRequest", "message": "Error code token_limit_exceeded."}),
    ("openai", 429, {"code": "token_limit_exceeded", "message": "No."}),
    ("openai", 400, {"type": "token_limit_exceeded", "message": "No."}),
    ("openai", 429, {"type": "tokens", "message": OPENAI_TOKENS}),
    ("openai", 400, {"type": "requests", "message": OPENAI_REQUESTS}),
    ("gemini", 429, {"code": 429, "message": NO_MONEY, "status": "RESOURCE_EXHAUSTED"}),
    ("anthropic", 429, {"type": "rate_limit_error", "message": ANTHROPIC_QUEUE}),
    ("bedrock", 400, {"code": "ServiceQuotaExceededException", "message": "No."}),
    ("bedrock", 400, {"message": AWS_QUOTA}),
]

FAILURES = [
    ("openai", {"code": "token_limit_exceeded", "message": OPENAI_TOKENS, "line": None, "param": None}),
    ("azure", {"code": "token_limit_exceeded", "message": AZURE_TOKENS, "line": None, "param": None}),
    ("openai", {"code": None, "message": OPENAI_REQUESTS}),
]


@pytest.mark.parametrize(("provider", "status", "error"), REFUSALS)
def test_a_create_refused_because_of_a_full_queue_is_recognized_by_the_providers_own_words(provider, status, error):
    assert refused_as_full(refused_provider(provider, status, error), provider)


@pytest.mark.parametrize(("provider", "error"), FAILURES)
def test_a_batch_that_failed_because_of_a_full_queue_is_recognized_by_its_errors(provider, error):
    assert failed_as_full(failed(provider, error))


SIGNS = [(name, sign) for name, provider in providers.ALL.items() for sign in provider.full_queues]


@pytest.mark.parametrize(("provider", "sign"), SIGNS)
def test_every_sign_of_a_full_queue_has_an_example_here_and_is_recognized_by_one_thing(provider: str, sign: FullQueue):
    assert (sign.word is None) != (sign.message is None)
    assert (sign.statuses is None) == (sign.where == "batch")
    refusals = [(status, error) for name, status, error in REFUSALS if name == provider]
    failures = [(None, error) for name, error in FAILURES if name == provider]
    assert any(
        sign.matches(error.get("type"), error.get("code"), message=error["message"])
        for status, error in (refusals if sign.where == "create" else failures)
        if status in (sign.statuses or {None})
    )


@pytest.mark.parametrize(("provider", "status", "error"), REFUSALS)
def test_the_same_words_of_another_provider_or_with_another_status_mean_nothing(provider, status, error):
    assert not refused_as_full(refused_provider(provider, status, error), "vertex")
    assert not refused_as_full(refused_provider(provider, 503, error), provider)


def test_the_words_are_found_in_a_long_message_that_quotes_a_key():
    said = f"{OPENAI_TOKENS} api_key=sk-proj-abcdefgh12345678 {'and so on ' * 100}"
    error = refused_provider("openai", 429, {"message": said})
    assert "sk-proj" not in str(error)
    assert refused_as_full(error, "openai")
    assert failed_as_full(failed("openai", {"message": said}))


ANTHROPIC_MINUTE = "This request would exceed your organization's rate limit of 50 requests per minute."
AWS_THROTTLED = "The number of requests exceeds the limit. Resubmit your request later."


@pytest.mark.parametrize(
    ("provider", "status", "error"),
    [
        (
            "openai",
            429,
            {"type": "requests", "code": "rate_limit_exceeded", "message": "Rate limit reached for batches."},
        ),
        ("openai", 429, {"type": "insufficient_quota", "code": "insufficient_quota", "message": NO_MONEY}),
        ("azure", 429, {"type": "insufficient_quota", "code": "insufficient_quota", "message": NO_MONEY}),
        ("openai", 400, {"code": "billing_hard_limit_reached", "message": "Billing hard limit has been reached."}),
        ("openai", 400, {"type": "invalid_request_error", "message": "File is too large."}),
        ("azure", 429, {"code": "429", "message": "Requests have exceeded the call rate limit. Retry after 1 second."}),
        ("azure", 400, {"code": "too_many_tasks", "message": "The number of requests exceeds the maximum of 100,000."}),
        ("gemini", 429, {"code": 429, "message": "Resource has been exhausted (e.g. check quota)."}),
        ("gemini", 403, {"code": 403, "message": NO_MONEY}),
        ("anthropic", 429, {"type": "rate_limit_error", "message": ANTHROPIC_MINUTE}),
        ("anthropic", 400, {"type": "invalid_request_error", "message": "Your credit balance is too low."}),
        ("anthropic", 529, {"type": "overloaded_error", "message": "Overloaded"}),
        ("bedrock", 429, {"code": "ThrottlingException", "message": AWS_THROTTLED}),
        ("bedrock", 400, {"message": "Input validation failed. Check your request parameters and retry the request."}),
    ],
)
def test_rate_limits_bills_and_faulty_input_are_not_a_full_queue(provider, status, error):
    assert not refused_as_full(refused_provider(provider, status, error), provider)


@pytest.mark.parametrize("provider", ["openai", "azure", "gemini", "anthropic", "bedrock"])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (402, {"type": "budget_exceeded", "error": {"message": "Budget exceeded: 10.02 > 10.00 dollars"}}),
        (429, {"type": "request_limited", "error": {"message": "Request limit exceeded (9/3, resets every 1h)"}}),
        (429, {"type": "token_limited", "error": {"message": "Token limit exceeded (9/3, resets every 1h)"}}),
        (500, {"error": {"message": "request dropped: queue is full"}}),
        (400, {"error": {"message": "request dropped: queue is full"}}),
        (429, {"error": {"message": "rate limit exceeded (429)"}}),
        (429, {}),
    ],
)
def test_the_gateways_own_limits_and_queue_are_not_the_providers_full_queue(provider, status, body):
    assert not refused_as_full(refused(status, body, provider), provider)


def test_the_gateways_own_limit_is_not_a_full_queue_whatever_its_message_says():
    body = {"type": "request_limited", "error": {"message": NO_MONEY}}
    assert not refused_as_full(refused(429, body, "gemini"), "gemini")


def test_a_lost_answer_is_not_a_full_queue():
    asked = RequestContext(
        calls.create_batch("gemini", input_file_id="f", idempotency_key="k", model="m").request, "my_conn", 0.0
    )
    assert not refused_as_full(errors.unavailable("you exceeded your current quota", asked), "gemini")


@pytest.mark.parametrize(
    "error",
    [
        {"code": "invalid_json_line", "message": "A line could not be parsed as valid JSON.", "line": 3},
        {"code": "too_many_tasks", "message": "The number of requests exceeds the maximum allowed value of 100,000."},
        {"code": "insufficient_quota", "message": NO_MONEY},
        {"code": "billing_hard_limit_reached", "message": "Billing hard limit has been reached."},
        {"code": "model_not_found", "message": "The provided model is not supported by the Batch API."},
        {"code": None, "message": None},
    ],
)
@pytest.mark.parametrize("provider", ["openai", "azure"])
def test_a_batch_that_failed_because_of_its_rows_or_a_bill_is_not_a_full_queue(provider, error):
    assert not failed_as_full(failed(provider, error))


@pytest.mark.parametrize("provider", ["openai", "azure", "gemini", "bedrock"])
def test_a_batch_that_failed_without_an_error_is_not_a_full_queue(provider):
    assert not failed_as_full(failed(provider))


def test_the_same_error_of_another_provider_means_nothing():
    assert not failed_as_full(failed("vertex", {"code": "token_limit_exceeded", "message": OPENAI_TOKENS}))


@pytest.mark.parametrize("status", ["completed", "expired", "cancelled", "in_progress", "validating", "odd", ""])
def test_only_a_batch_with_the_status_failed_counts_as_a_full_queue(status):
    summary = failed("openai", {"code": "token_limit_exceeded", "message": OPENAI_TOKENS})
    assert not failed_as_full({**summary, "status": status})


@pytest.mark.parametrize("name", RAN)
def test_a_batch_with_a_processed_row_was_not_kept_out_of_the_queue(name):
    assert not failed_as_full(failed("openai", {"code": "token_limit_exceeded"}, **{"total": 5, name: 1}))


@pytest.mark.parametrize("counts", [{}, {"total": 10}, {"total": 10, "pending": 10}])
def test_rows_that_are_counted_but_not_processed_make_no_difference(counts):
    """Azure counts the rows of a batch that it fails at validation."""
    assert failed_as_full(failed("azure", {"code": "token_limit_exceeded"}, **counts))


def test_every_count_is_of_processed_rows_or_of_all_or_waiting_ones():
    assert set(COUNTS) - set(RAN) == {"total", "pending"}
