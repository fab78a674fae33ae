"""What gateways of different versions say about the same error: tests for each row of the table."""

from __future__ import annotations

import io
import json

import pytest

from airflow_bifrost.exceptions import BifrostAuthError, BifrostGatewayError, BifrostRequestError
from airflow_bifrost.gateway import calls, responses
from airflow_bifrost.gateway.exchange import GatewayRequest, RawResponse, RequestContext
from airflow_bifrost.gateway.faults import FAULTS, Fault, fault_of
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.gateway.versions import ALL

ASKED = RequestContext(calls.get_batch("batch_1", "openai").request, "my_conn", 1_775_400_000.0)

# For rows that the message recognizes: what gateways say.
MESSAGES = {
    "the provider is unknown, misspelled or not configured": [
        "failed to get config for provider: not found",
        "failed to get config for provider nosuch: not found",
        "provider not found for batch create request",
    ],
    "no key of the provider may be used for batches": [
        "no batch-enabled keys found for provider: cohere and model: ",
        "no config found for batch apis; enable 'Use for Batch APIs' on at least one key for provider: openai",
        "no config found for batch APIs. Please enable 'Use for Batch APIs' on at least one key for provider: openai",
    ],
    "the provider has no key, or none for the model or the virtual key": [
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
        "gcs_bucket is required for Vertex FileUpload (provide in storage_config.gcs)",
        "gcs_bucket is required for Vertex FileList (provide in storage_config.gcs)",
        "output_folder.url (gs:// prefix) is required for Vertex batch API",
        "provider query parameter is required",
        "x-model-provider query parameter or x-model-provider header is required",
        "purpose field is required",
        "Invalid JSON",
        "failed to parse request",
        "model should be in provider/model format or provider must be specified",
    ],
    "the ID is not one that this gateway or provider gives": [
        "invalid batch_id: must not contain '/'",
        "invalid file_id: must not be empty",
        "invalid S3 URI format, expected s3://bucket/key",
        'invalid GCS URI "gs:%2F%2Fexample-bucket%2Fx": must start with gs://',
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
        "gemini batch response missing metadata",
        "gemini batch response missing batch stats",
    ],
    "the batch is still running, so it has no results yet": [
        "batch gem123 is still processing (state: BATCH_STATE_RUNNING), results not yet available",
        "Results are not yet available for this batch.",
        "batch output is not available yet (job state: JOB_STATE_RUNNING)",
    ],
}


def answered(status: int, body: dict, request: GatewayRequest = ASKED.request, **headers: str) -> BifrostGatewayError:
    response = RawResponse(status, {"content-type": "application/json", **headers}, json.dumps(body).encode())
    asked = RequestContext(request, "my_conn", ASKED.now)
    with pytest.raises(BifrostGatewayError) as caught:
        responses.parse(Batch, response, asked)
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
        assert fault_of(418, type=row.type, code=row.code, message=body["error"]["message"]) is None


@pytest.mark.parametrize("row", ROWS)
def test_exactly_one_member_recognizes_a_fault(row):
    assert [row.type, row.code, row.message].count(None) == 2


@pytest.mark.parametrize("row", ROWS)
def test_no_earlier_row_hides_a_fault(row):
    for status in row.statuses:
        for body in bodies_of(row):
            message = body["error"]["message"]
            assert fault_of(status, type=row.type, code=row.code, message=message) is row


@pytest.mark.parametrize(
    "message", ["a certificate is required", "The image field is not required", "organization is required for this key"]
)
def test_a_providers_500_that_only_sounds_like_a_mistake_is_transient(message):
    assert answered(500, {"error": {"message": message}}).transient


def test_no_row_appears_twice():
    keys = [(row.type, row.code, row.message and row.message.pattern, *sorted(row.statuses)) for row in FAULTS]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("row", ROWS)
def test_no_row_advises_to_repeat_a_call_that_may_be_a_create(row):
    assert "try again" not in (row.advice or "")


@pytest.mark.parametrize("row", ROWS)
def test_every_row_names_the_versions_that_answer_so(row):
    assert set(row.answers) <= set(ALL)
    assert row.statuses


def governance(word, message):
    return {"type": word, "is_bifrost_error": False, "error": {"message": message}, "extra_fields": {}}


def test_the_batch_of_another_virtual_key_is_not_a_batch_that_does_not_exist():
    error = answered(404, governance("access_blocked", "batch not found for this virtual key"))
    assert isinstance(error, BifrostAuthError)  # so a wait reads the connection again, and nobody takes it for absence
    assert error.fault == "the batch belongs to another virtual key"
    assert "Use the virtual key that the batch was submitted with" in str(error)


@pytest.mark.parametrize(
    "message",
    [
        "virtual key has expired",
        "project not found",
        "batch access cannot be verified for virtual keys without a config store",
    ],
)
def test_a_refused_virtual_key_is_explained_in_the_gateways_own_words(message):
    error = answered(403, governance("access_blocked", message))
    assert isinstance(error, BifrostAuthError)
    assert message in str(error)
    assert "The message says why" in str(error)


def test_a_refused_file_create_says_that_the_key_must_allow_all_models():
    upload = calls.upload_file("openai", io.BytesIO(b"{}"), purpose="batch", idempotency_key="k").request
    error = answered(403, governance("model_blocked", "Model is not allowed"), upload)
    assert "a key that allows all models" in str(error)


def test_a_gemini_create_that_fails_may_have_made_a_batch():
    create = calls.create_batch("gemini", idempotency_key="k", requests=[{}], model="m").request
    for status in (400, 500):
        error = answered(status, {"error": {"message": "gemini batch response missing batch stats"}}, create)
        assert error.sent
        assert "A batch may exist and be billed." in str(error)


def test_a_cancelled_request_is_transient():
    assert answered(499, {"error": {"type": "request_cancelled", "message": "request cancelled"}}).transient
    assert answered(499, {"error": {"message": "the client closed the request"}}).transient


@pytest.mark.parametrize("place", ["top", "error", "extra_fields"])
def test_the_pause_that_a_gateway_asks_for_in_the_body_is_kept(place):
    pause = {"retry_after_ms": 1500}
    body = {"error": {"message": "slow down"}, "extra_fields": {}}
    body = {**body, **pause} if place == "top" else {**body, place: {**body[place], **pause}}
    assert answered(429, body).retry_after == 1.5
    assert answered(429, body, **{"retry-after": "7"}).retry_after == 7.0
    assert answered(429, body, **{"retry-after": "soon"}).retry_after == 1.5


@pytest.mark.parametrize("pause", [-1, "soon", None, True, 10**30, [5]])
def test_an_unreadable_pause_is_ignored(pause):
    assert answered(503, {"error": {"message": "no", "retry_after_ms": pause}}).retry_after is None


def test_a_pause_is_never_longer_than_an_hour():
    assert answered(503, {"error": {"message": "no", "retry_after_ms": 10**9}}).retry_after == 3600.0


def test_a_model_that_bedrock_refuses_is_explained_by_the_virtual_key():
    create = calls.create_batch("bedrock", idempotency_key="k", input_file_id="f", model="anthropic.claude").request
    refused = {"status_code": 400, "is_bifrost_error": False, "error": {"message": "The model identifier is invalid."}}
    assert "Use a virtual key without provider configs" in str(answered(400, refused, create))
    own = {"is_bifrost_error": True, "error": {"message": "role_arn is required for Bedrock batch API"}}
    assert "Fix the argument that the message names." in str(answered(500, own, create))
    assert "provider configs" not in str(answered(400, refused, calls.get_batch("b", "bedrock").request))


def test_a_create_that_fails_in_the_gateway_for_an_unknown_reason_may_have_made_a_batch():
    # Since 1.5, an error of the gateway's own has status 400, whether it occurred before or after the provider was asked.
    create = calls.create_batch("openai", idempotency_key="k", input_file_id="f").request
    own = {"is_bifrost_error": False, "error": {"message": "failed to convert the response"}, "extra_fields": {}}
    error = answered(400, own, create)
    assert error.sent
    assert type(error) is type(answered(500, own, create))
    assert "A batch may exist and be billed." in str(error)
    of_the_provider = answered(400, {**own, "status_code": 400}, create)
    assert "The provider refused this request." in str(of_the_provider)
    assert isinstance(answered(400, own), BifrostRequestError)  # a read, which costs nothing
