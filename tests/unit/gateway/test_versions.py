"""What gateways of different versions say about the same thing: tests for each row of the table."""

from __future__ import annotations

import json

import pytest

from airflow_bifrost.exceptions import BifrostGatewayError
from airflow_bifrost.gateway import calls, responses, versions
from airflow_bifrost.gateway.exchange import RawResponse, RequestContext
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.gateway.versions import FAULTS, TABLE, Fault, Field

ASKED = RequestContext(calls.get_batch("batch_1", "openai").request, "my_conn", 1_775_400_000.0)

# For rows that the message recognizes: what gateways say.
MESSAGES = {
    "the provider is unknown, misspelled or not configured": [
        "failed to get config for provider: not found",
        "provider not found for batch create request",
    ],
    "no key of the provider may be used for batches": [
        "no batch-enabled keys found for provider: cohere and model: ",
        "no config found for batch APIs. Please enable 'Use for Batch APIs' on at least one key for provider: openai",
    ],
    "the provider has no key, or none for the model": [
        "no keys found for provider: gemini",
        "no keys found for provider: gemini and model: ",
        "no keys found that support model: gpt-4o",
    ],
    "an argument is missing or unreadable": [
        "either input_file_id or requests is required for batch create request",
        "endpoint is required for OpenAI batch API",
        "requests array is required for Anthropic batch API",
        "role_arn is required for Bedrock batch API (provide in extra_params)",
        "s3_bucket is required for Bedrock file operations (provide in storage_config.s3 or extra_params)",
        "file content is required for file upload request",
        "provider query parameter is required",
        "x-model-provider query parameter or x-model-provider header is required",
        "purpose field is required",
        "Invalid JSON",
        "failed to parse request",
        "model should be in provider/model format or provider must be specified",
    ],
    "the gateway did not issue this cursor": ["invalid pagination cursor"],
    "Gemini files cannot be downloaded": [
        "Gemini Files API doesn't support direct content download. Use the file URI in your requests instead."
    ],
    "there is no output file: the batch is still running, or no row succeeded": [
        "batch results not available: output_file_id is empty (batch may not be completed)"
    ],
    "the gateway could not reach the provider": [
        "network error occurred while connecting to provider API (DNS lookup, connection refused, etc.)",
        "failed to execute HTTP request to provider API",
    ],
    "the gateway dropped the request, because its queue is full": ["request dropped: queue is full"],
    "a queue is full": ["the queue is full"],
    "the provider's answer is not what it promises": [
        "HTML response received from provider",
        "empty response received from provider",
        "failed to unmarshal response from provider API",
    ],
    "the batch is still running, so it has no results yet": [
        "batch gem123 is still processing (state: BATCH_STATE_RUNNING), results not yet available",
        "Results are not yet available for this batch.",
    ],
}


def answered(status: int, body: dict) -> BifrostGatewayError:
    response = RawResponse(status, {"content-type": "application/json"}, json.dumps(body).encode())
    with pytest.raises(BifrostGatewayError) as caught:
        responses.parse(Batch, response, ASKED)
    return caught.value


def bodies_of(row: Fault) -> list[dict]:
    if row.type:
        return [
            {"type": row.type, "error": {"message": "no"}},
            {"error": {"type": row.type, "message": "no"}},
        ]
    if row.code:
        return [{"error": {"code": row.code, "message": "no"}}]
    return [{"error": {"message": message}} for message in MESSAGES[row.what]]


ROWS = [pytest.param(row, id=f"{row.what} ({row.type or row.code or 'message'})") for row in FAULTS]


@pytest.mark.parametrize("row", ROWS)
def test_a_fault_means_the_same_whatever_status_a_version_gives_it(row):
    for status in row.statuses:
        for body in bodies_of(row):
            error = answered(status, body)
            assert type(error) is row.kind
            assert error.transient is row.kind.transient
            assert (row.advice or "") in str(error)


@pytest.mark.parametrize("row", ROWS)
def test_with_another_status_the_words_are_not_the_gateways_own(row):
    for body in bodies_of(row):
        assert versions.fault_of(418, type=row.type, code=row.code, message=body["error"]["message"]) is None


@pytest.mark.parametrize("row", ROWS)
def test_exactly_one_member_recognizes_a_fault(row):
    assert [row.type, row.code, row.message].count(None) == 2


@pytest.mark.parametrize("row", ROWS)
def test_no_earlier_row_hides_a_fault(row):
    for status in row.statuses:
        for body in bodies_of(row):
            message = body["error"]["message"]
            assert versions.fault_of(status, type=row.type, code=row.code, message=message) is row


@pytest.mark.parametrize(
    "message", ["a certificate is required", "The image field is not required", "organization is required for this key"]
)
def test_a_providers_500_that_only_sounds_like_a_mistake_is_transient(message):
    assert answered(500, {"error": {"message": message}}).transient


@pytest.mark.parametrize("row", [row for row in TABLE if isinstance(row, Field)], ids=lambda row: row.name)
def test_a_field_of_some_versions_is_kept_and_known(row):
    body = {"id": "batch_1", "status": "completed"}
    answer = {**body, row.name: "x"} if row.where == "batch" else {**body, "extra_fields": {row.name: "x"}}
    batch = responses.parse(
        Batch, RawResponse(200, {"content-type": "application/json"}, json.dumps(answer).encode()), ASKED
    )
    if row.where == "batch":
        assert getattr(batch, row.name) == "x"
        assert row.name in Batch.model_fields
    else:
        assert batch.extra_fields == {row.name: "x"}
        assert row.name in versions.EXTRA_FIELDS


def test_no_row_is_there_twice():
    keys = [
        (row.type, row.code, row.message and row.message.pattern) if isinstance(row, Fault) else row for row in TABLE
    ]
    assert len(keys) == len({str(key) for key in keys})


@pytest.mark.parametrize("row", ROWS)
def test_no_row_advises_to_repeat_a_call_that_may_be_a_create(row):
    assert "try again" not in (row.advice or "")
