"""What the gateway makes of a provider's answer that is no use to it."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_bifrost.testing import ProviderAnswer
from airflow_bifrost.testing.errors import GatewayError
from airflow_bifrost.testing.provider_answers import GatewayEnds, ReadableAnswer, received

PAGE = "<html><head><title>502 Bad Gateway</title></head><body></body></html>"
CLOSED = "failed to execute HTTP request to provider API"
NO_CONNECTION = "network error occurred while connecting to provider API (DNS lookup, connection refused, etc.)"
UNREADABLE = "failed to unmarshal response from provider API"
HOLLOW = {"id": "", "status": "", "request_counts": {"total": 0, "completed": 0, "failed": 0}}
OPENAI = {"message": "Limit reached", "type": "requests", "param": None, "code": "rate_limit_exceeded"}
PROVIDERS = ("openai", "azure", "anthropic", "gemini", "bedrock")


def error(answer: ProviderAnswer, provider: str = "openai", request_type: str = "batch_retrieve") -> GatewayError:
    with pytest.raises(GatewayError) as raised:
        received(provider, request_type, answer)
    return raised.value


def statuses(refusal: GatewayError) -> tuple[int, int]:
    """On the openai routes and on the native ones."""
    return refusal.status_code(native=False), refusal.status_code(native=True)


@pytest.mark.parametrize(
    ("provider", "body", "read"),
    [
        ("openai", {"error": OPENAI}, {name: OPENAI[name] for name in ("message", "type", "code")}),
        ("openai", {"error": {"message": "No file", "param": "input_file_id"}}, None),
        ("azure", {"error": {"code": "NotFound", "message": "The batch b1 was not found."}}, None),
        (
            "anthropic",
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"},
            {"type": "overloaded_error", "message": "Overloaded"},
        ),
        (
            "gemini",
            {"error": {"code": 404, "message": "Not found.", "status": "NOT_FOUND"}},
            {"code": "404", "message": "Not found."},
        ),
        ("bedrock", {"message": "Too many requests"}, {"message": "Too many requests"}),
    ],
)
def test_an_error_in_the_providers_own_shape_is_read(provider: str, body: Any, read: dict[str, str] | None) -> None:
    refusal = error(ProviderAnswer(429, {"retry-after": "42"}, body), provider)
    assert refusal.body()["error"] == (body["error"] if read is None else read)
    assert (refusal.status, refusal.is_bifrost_error, statuses(refusal)) == (429, False, (429, 429))


@pytest.mark.parametrize(
    ("provider", "request_type", "quoted"),
    [
        ("openai", "batch_retrieve", True),
        ("openai", "file_upload", True),
        ("openai", "batch_create", False),
        ("gemini", "batch_retrieve", True),
        ("bedrock", "batch_retrieve", True),
        ("anthropic", "batch_retrieve", False),
    ],
)
@pytest.mark.parametrize("body", [{"error": {"message": "boom"}}, PAGE, ""])
def test_an_error_is_quoted_but_not_by_anthropic_nor_to_a_create(
    provider: str, request_type: str, body: Any, *, quoted: bool
) -> None:
    extra = error(ProviderAnswer(500, body=body), provider, request_type).body()["extra_fields"]
    assert extra == ({"raw_response": body} if quoted else {})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (["boom"], '["boom"]'),
        ({"error": "boom"}, '{"error": "boom"}'),
        ({"error": {"message": 7}}, '{"error": {"message": 7}}'),
        ("provider connect error", "provider connect error"),
    ],
)
def test_an_error_in_another_shape_is_the_message(body: Any, said: str) -> None:
    assert error(ProviderAnswer(503, body=body)).body()["error"] == {"message": f"provider API error: {said}"}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(("headers", "body"), [({}, PAGE), ({"Content-Type": "Text/HTML; charset=utf-8"}, "oh no")])
def test_a_web_page_is_the_cause(provider: str, headers: dict[str, str], body: str) -> None:
    refusal = error(ProviderAnswer(502, headers, body), provider)
    assert refusal.body()["error"] == {"message": "HTML response received from provider", "error": body}
    assert statuses(refusal) == (502, 502)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (302, "empty response received from provider (HTTP 302)"),
        (401, "authentication failed: unauthorized (401) - check your API key"),
        (404, "resource not found (404)"),
        (429, "rate limit exceeded (429)"),
        (504, "provider server error (504)"),
        (520, "empty response received from provider (HTTP 520)"),
    ],
)
@pytest.mark.parametrize("body", [None, "", " \n"])
def test_an_empty_error_has_a_message_by_its_status(status: int, message: str, body: str | None) -> None:
    refusal = error(ProviderAnswer(status, body=body))
    assert (refusal.status, refusal.body()["error"]) == (status, {"message": message})


@pytest.mark.parametrize("status", [201, 204, 500])
def test_any_status_but_200_is_an_error_even_if_nothing_is_wrong_with_the_body(status: int) -> None:
    refusal = error(ProviderAnswer(status, body={"id": "batch_1", "status": "in_progress"}))
    assert (refusal.status, refusal.message) == (status, f"provider API error (status {status})")


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ("close", CLOSED),
        ("reset", CLOSED),
        ("cut", CLOSED),
        ("garbage", CLOSED),
        ("refused", NO_CONNECTION),
        ("unknown_host", NO_CONNECTION),
    ],
)
@pytest.mark.parametrize("provider", ["openai", "azure", "anthropic", "gemini"])
def test_a_failed_connection_is_500_and_400_on_native_routes(provider: str, failure: str, message: str) -> None:
    refusal = error(ProviderAnswer(failure=failure), provider)
    assert (refusal.message, refusal.is_bifrost_error, refusal.raw) == (message, False, None)
    assert statuses(refusal) == (500, 400)


def test_a_timeout_is_504() -> None:
    refusal = error(ProviderAnswer(failure="timeout"), request_type="file_content")
    assert (refusal.detail["type"], refusal.is_bifrost_error) == ("request_timed_out", True)
    assert statuses(refusal) == (504, 504)


@pytest.mark.parametrize("failure", ["close", "refused", "timeout"])
def test_whatever_fails_at_bedrock_is_500_everywhere(failure: str) -> None:
    refusal = error(ProviderAnswer(failure=failure), "bedrock")
    assert (refusal.message, refusal.status, refusal.is_bifrost_error) == (CLOSED, None, True)
    assert statuses(refusal) == (500, 500)


@pytest.mark.parametrize(
    ("provider", "body", "message"),
    [
        ("openai", "", "empty response received from provider"),
        ("anthropic", "", "empty response received from provider"),
        ("gemini", "", UNREADABLE),
        ("bedrock", "", UNREADABLE),
        ("gemini", PAGE, UNREADABLE),
        ("openai", '{"id": "batch_1", "sta', UNREADABLE),
        ("anthropic", '{"id": "msgbatch_1", "sta', UNREADABLE),
        ("openai", [], UNREADABLE),
        ("openai", "hello", UNREADABLE),
        ("openai", '"hello"', UNREADABLE),
        ("openai", {"id": "batch_1", "created_at": 1775400000.5}, UNREADABLE),
        ("azure", {"id": "batch_1", "created_at": "1775400000"}, UNREADABLE),
        ("openai", {"id": "batch_1", "metadata": {"run": 7}}, UNREADABLE),
        ("openai", {"id": 7, "status": 3, "request_counts": []}, UNREADABLE),
    ],
)
def test_a_200_that_cannot_be_read_is_500_everywhere(provider: str, body: Any, message: str) -> None:
    refusal = error(ProviderAnswer(body=body), provider)
    assert (refusal.message, refusal.status, refusal.is_bifrost_error) == (message, None, True)
    assert statuses(refusal) == (500, 500)


def test_a_200_with_a_web_page_is_not_the_gateways_own_fault() -> None:
    refusal = error(ProviderAnswer(body=PAGE))
    assert (refusal.message, refusal.detail) == ("HTML response received from provider", {"error": PAGE})
    assert statuses(refusal) == (500, 400)


@pytest.mark.parametrize("body", [{}, "null", {"error": {"message": "something"}}, {"id": None}])
def test_a_200_that_says_nothing_is_a_batch_without_id_and_status(body: Any) -> None:
    assert received("openai", "batch_retrieve", ProviderAnswer(body=body)) == HOLLOW
    assert received("anthropic", "batch_retrieve", ProviderAnswer(body=body)) == {**HOLLOW, "processing_status": ""}


@pytest.mark.parametrize(
    ("provider", "answer"),
    [("openai", ProviderAnswer(body={"object": "list", "data": None})), ("gemini", ProviderAnswer(404))],
)
def test_a_list_of_nothing_is_an_empty_list(provider: str, answer: ProviderAnswer) -> None:
    assert received(provider, "batch_list", answer) == {"object": "list", "data": []}


@pytest.mark.parametrize("body", [{}, "null", {"metadata": {}}, {"metadata": {"state": "BATCH_STATE_PENDING"}}])
def test_a_gemini_job_without_counts_ends_the_gateway_unless_it_is_new(body: Any) -> None:
    with pytest.raises(GatewayEnds):
        received("gemini", "batch_retrieve", ProviderAnswer(body=body))
    assert error(ProviderAnswer(body=body), "gemini", "batch_create").message.startswith(
        "gemini batch response missing"
    )


@pytest.mark.parametrize("body", ["{}\n", PAGE, ""])
def test_the_content_of_a_file_is_passed_on_whatever_it_is(body: str) -> None:
    answer = ProviderAnswer(headers={"content-type": "text/html"}, body=body)
    assert received("openai", "file_content", answer) is answer


@pytest.mark.parametrize(
    ("provider", "request_type", "body"),
    [
        ("openai", "batch_retrieve", {"id": "batch_1", "status": "in_progress", "errors": None}),
        ("openai", "batch_list", {"object": "list", "data": [{"id": "batch_1"}]}),
        ("openai", "file_upload", {"id": "file-1"}),
        ("anthropic", "batch_retrieve", {"id": "msgbatch_1", "processing_status": "ended"}),
        ("gemini", "batch_retrieve", {"metadata": {"batchStats": {"requestCount": "1"}}}),
        ("bedrock", "batch_retrieve", {"jobArn": "arn:aws:bedrock:x", "status": "Completed"}),
    ],
)
def test_an_answer_that_can_be_read_is_no_fault(provider: str, request_type: str, body: Any) -> None:
    with pytest.raises(ReadableAnswer, match="can be read"):
        received(provider, request_type, ProviderAnswer(body=body))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"failure": "explosion"}, "failure is one of close, reset, cut, garbage, refused, unknown_host, timeout"),
        ({"status": 99}, "status is an HTTP status"),
        ({"status": "503"}, "status is an HTTP status"),
        ({"headers": ["retry-after"]}, "headers are names and texts"),
        ({"headers": {"retry-after": 5}}, "headers are names and texts"),
        ({"body": b"bytes"}, "body is JSON or text"),
    ],
)
def test_an_answer_that_cannot_be_is_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ProviderAnswer(**fields)
