"""What came back: a model, or an error that says what happened, what it means for the money, and what to do."""

from __future__ import annotations

import base64
import io
import json

import pytest

from airflow_bifrost.exceptions import (
    BatchNotFound,
    BifrostAuthError,
    BifrostBudgetExceeded,
    BifrostGatewayError,
    BifrostProtocolError,
    BifrostRateLimited,
    BifrostRequestError,
    BifrostUnavailable,
)
from airflow_bifrost.gateway import calls, errors, responses
from airflow_bifrost.gateway.exchange import RawResponse, RequestContext
from airflow_bifrost.gateway.models import Batch, BatchResults, DeletedFile, File, Health

NOW = 1_775_400_000.0
GET = calls.get_batch("batch_1", "azure").request
CANCEL = calls.cancel_batch("batch_1", "openai").request
CREATE = calls.create_batch("openai", input_file_id="file-1", idempotency_key="k").request
UPLOAD = calls.upload_file("openai", io.BytesIO(), purpose="batch", idempotency_key="k").request


def context(request=GET, token=None):
    return RequestContext(request, "my_conn", NOW, token)


def raw(body, status=200, kind="application/json", **headers):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return RawResponse(status, {"content-type": kind} | headers, content)


def said(message, status, request=GET, **fields):
    """The error that the gateway's words become."""
    with pytest.raises(BifrostGatewayError) as caught:
        responses.parse(
            Batch, raw({"error": {"message": message}, "extra_fields": {}} | fields, status), context(request)
        )
    return caught.value


# Which error


@pytest.mark.parametrize(
    ("status", "error", "transient"),
    [
        (400, BifrostRequestError, False),
        (401, BifrostAuthError, False),
        (402, BifrostBudgetExceeded, True),
        (403, BifrostAuthError, False),
        (404, BatchNotFound, False),
        (405, BifrostRequestError, False),
        (408, BifrostUnavailable, True),
        (409, BifrostRequestError, False),
        (413, BifrostRequestError, False),
        (425, BifrostUnavailable, True),
        (429, BifrostRateLimited, True),
        (446, BifrostRequestError, False),
        (500, BifrostUnavailable, True),
        (502, BifrostUnavailable, True),
        (504, BifrostUnavailable, True),
        (520, BifrostUnavailable, True),
        (529, BifrostUnavailable, True),
        (999, BifrostUnavailable, True),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"error": {"message": "m"}}'])
def test_the_status_of_an_error_decides_its_class_whatever_the_body(status, error, transient, body):
    with pytest.raises(BifrostGatewayError) as caught:
        responses.parse(Batch, raw(body, status), context())
    assert type(caught.value) is error
    assert (caught.value.status_code, caught.value.transient) == (status, transient)


def test_a_502_is_an_outage_whatever_its_words():
    assert type(said("a certificate is required", 502)) is BifrostUnavailable


def test_retry_after_of_any_error_is_kept():
    with pytest.raises(BifrostUnavailable) as caught:
        responses.parse(Batch, raw(b"", 503, **{"retry-after": "Sun, 05 Apr 2026 14:41:00 GMT"}), context())
    assert caught.value.retry_after == 60


# What is no success


@pytest.mark.parametrize(
    ("response", "transient"),
    [
        (raw(b"<html>", kind="text/html; charset=utf-8"), False),
        (raw(b"ok", kind="text/plain"), False),
        (raw({"id": "b", "status": "completed"}, kind=""), False),
        (raw(b""), False),
        (raw(b"{"), False),
        (raw(b"\xff\xfe"), False),
        (raw(b"[" * 100_000), False),
        (raw([]), False),
        (raw("text"), False),
        (raw(None), False),
        (raw(True), False),
        (raw(5), False),
        (raw({}), False),
        (raw({"detail": "other API"}), False),
        (raw({"id": "", "status": "", "request_counts": {"total": 0}, "extra_fields": {}}), True),
        (raw({"is_bifrost_error": True, "error": {"message": "m"}}), True),
        (raw({"id": "b", "status": "completed"}, 201), False),
        (raw({"error": {"message": "m"}, "is_bifrost_error": False}, 201), True),
        (raw(b"", 204), True),
        (raw({"id": "b", "status": "completed"}, 206), False),
        (raw(b"", 301, location="http://elsewhere/"), False),
        (raw({"error": {"message": "m"}, "extra_fields": {}}, 302), True),
        (raw(b"<html>", 404, kind="text/html"), False),
    ],
)
@pytest.mark.parametrize("model", [Batch, BatchResults])
def test_an_answer_that_the_api_does_not_promise_is_a_protocol_error(response, transient, model):
    with pytest.raises(BifrostProtocolError) as caught:
        responses.parse(model, response, context())
    assert caught.value.transient is transient
    assert caught.value.status_code == response.status_code


@pytest.mark.parametrize("model", [Batch, File, DeletedFile, BatchResults, Health])
@pytest.mark.parametrize(
    "value", [{}, {"error": {"message": "m"}}, {"id": "", "status": "", "batch_id": ""}, {"id": 5, "status": []}]
)
def test_an_object_without_its_id_is_a_protocol_error(model, value):
    with pytest.raises(BifrostProtocolError):
        responses.parse(model, raw(value), context())


@pytest.mark.parametrize(
    ("value", "transient"),
    [
        ({}, False),
        ({"data": None}, False),
        ({"data": "x", "object": "list"}, False),
        ({"data": {}, "object": "list", "extra_fields": {}}, True),
        ({"data": [None], "object": "list"}, False),
        ({"data": [{"id": "", "status": ""}], "object": "list", "extra_fields": {}}, True),
        ({"error": {"message": "m"}, "extra_fields": {}}, True),
    ],
)
def test_a_page_that_cannot_be_read_completely_is_a_protocol_error(value, transient):
    """Without the entry, its batch would seem not to exist, and would be paid for again."""
    with pytest.raises(BifrostProtocolError) as caught:
        responses.parse_page(Batch, raw(value), context())
    assert caught.value.transient is transient


@pytest.mark.parametrize("value", [{"object": "list"}, {"object": "list", "data": None}, {"data": []}])
def test_an_empty_list_is_a_page(value):
    page = responses.parse_page(Batch, raw(value), context())
    assert (page.data, page.has_more, page.next_cursor) == ((), None, None)
    assert page.without_data is (value.get("data") is None)


@pytest.mark.parametrize("more", ["true", "false", 1, 0, [], {}])
def test_a_page_that_says_unclearly_whether_there_are_more_is_not_the_last(more):
    """Taken for the end of the list, it would hide batches that are paid for."""
    value = {"data": [], "has_more": more}
    assert responses.parse_page(Batch, raw(value), context()).has_more is True
    assert responses.parse_raw_page(raw(value), context()).has_more is True


# An answer about another batch


ARN = "arn:aws:bedrock:us-east-1:1:model-invocation-job/"


def b64(text, *, url=False):
    encoded = base64.urlsafe_b64encode(text.encode()) if url else base64.b64encode(text.encode())
    return encoded.decode().rstrip("=") if url else encoded.decode()


@pytest.mark.parametrize(
    ("provider", "asked", "answered", "same"),
    [
        ("openai", "batch_1", "batch_1", True),
        ("openai", "batch_1", "batch_2", False),
        ("openai", "batch_1", "BATCH_1", False),
        ("azure", "batch_1", "batch_11", False),
        ("anthropic", "msgbatch_1", "msgbatch_1 ", False),
        ("groq", "b1", "b2", False),
        ("gemini", "batches-abc", "abc", True),
        ("gemini", "abc", "batches/abc", True),
        ("gemini", "batches-abc", "batches-abd", False),
        ("bedrock", b64(ARN + "abc"), b64(ARN + "abc"), True),
        ("bedrock", b64(ARN + "abc"), b64(ARN + "abd"), False),
        ("vertex", b64("projects/p/locations/l/batchPredictionJobs/12", url=True), "12", True),
        ("vertex", b64("projects/p/locations/l/batchPredictionJobs/12", url=True), "13", False),
    ],
)
@pytest.mark.parametrize("build", [calls.get_batch, calls.get_raw, calls.cancel_batch])
def test_an_answer_about_another_batch_is_a_protocol_error(build, provider, asked, answered, same):
    """Believed, it would say that a batch has ended that runs, and bring the results of somebody else."""
    call = build(asked, provider)
    answer = raw({"id": answered, "status": "completed", "extra_fields": {}})
    if same:
        call.parse(answer, context(call.request))
        return
    with pytest.raises(BifrostProtocolError, match="the answer is about another batch") as caught:
        call.parse(answer, context(call.request))
    assert caught.value.transient is False


def test_results_of_another_batch_are_a_protocol_error():
    call = calls.batch_results("msgbatch_1", "anthropic")
    with pytest.raises(BifrostProtocolError, match="another batch, 'msgbatch_2'"):
        call.parse(raw({"batch_id": "msgbatch_2", "results": []}), context(call.request))


@pytest.mark.parametrize("build", [calls.get_file, calls.delete_file])
def test_an_answer_about_another_file_is_a_protocol_error(build):
    call = build("file-1", "azure")
    with pytest.raises(BifrostProtocolError, match="another file, 'file-2'"):
        call.parse(raw({"id": "file-2", "deleted": True}), context(call.request))
    elsewhere = build("file-1", "gemini")
    assert elsewhere.parse(raw({"id": "files/file-1"}), context(elsewhere.request)).id == "files/file-1"


# What the message says


def test_a_message_says_what_happened_to_which_batch_where_what_it_means_for_the_money_and_what_to_do():
    assert str(said("the provider is down.", 503)) == (
        "Retrieving batch 'batch_1' of 'azure' through connection 'my_conn' failed: the gateway answered 503: the provider is down."
        " This does not affect the batch: if it was submitted, it runs on and is billed."
        " The error may be temporary: try again later."
    )


def test_a_refusal_in_unknown_words_says_where_to_look():
    error = said("no", 403, type="anything_else")
    assert "Check the connection's password" in str(error)
    assert error.error_type == "anything_else"


@pytest.mark.parametrize("status", [201, 429, 500, 504])
def test_a_create_with_an_unknown_result_says_that_a_batch_may_exist_and_how_to_look_for_it(status):
    error = said("m", status, CREATE)
    assert error.sent is True
    assert "A batch may exist and be billed. Before you submit again, look for it with `list_batches`" in str(error)
    assert "try again" not in str(error)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409])
def test_a_create_that_the_provider_refuses_says_that_an_earlier_one_may_have_made_a_batch(status):
    """The gateway repeats a create whose connection breaks, and 1.5.16 even one that was refused with 401."""
    error = said("m", status, CREATE, status_code=status)
    assert "The provider refused this request." in str(error)
    assert "so a batch may exist and be billed. Before you submit again, look for it with `list_batches`" in str(error)


def test_what_an_error_means_for_the_money_can_be_corrected_when_more_is_known():
    error = said("m", 400, CREATE, status_code=400).with_meaning("Nothing was submitted.")
    assert isinstance(error, BifrostRequestError)
    assert error.status_code == 400
    assert "Nothing was submitted." in str(error)
    assert "may exist" not in str(error)


REFUSED_BY_THE_GATEWAY = [
    (401, {"type": "virtual_key_required"}, BifrostAuthError),
    (403, {"type": "virtual_key_blocked"}, BifrostAuthError),
    (403, {"type": "provider_blocked"}, BifrostAuthError),
    (402, {"type": "budget_exceeded"}, BifrostBudgetExceeded),
    (429, {"type": "request_limited"}, BifrostRateLimited),
    (429, {"type": "token_limited"}, BifrostRateLimited),
    (500, {"error": {"message": "request dropped: queue is full"}}, BifrostUnavailable),
]


@pytest.mark.parametrize(("status", "fields", "kind"), REFUSED_BY_THE_GATEWAY)
def test_a_create_that_the_gateway_itself_refuses_was_not_sent_and_says_so(status, fields, kind):
    error = said("m", status, CREATE, **fields)
    assert type(error) is kind
    assert error.sent is False
    assert "Nothing was submitted, and nothing is billed." in str(error)
    assert "may exist" not in str(error)
    assert "list_batches" not in str(error)


def test_a_429_of_the_provider_may_hide_a_batch_and_one_of_the_gateway_does_not():
    """The gateway repeats a POST that the provider did not answer, so the 429 may be the answer to the second one."""
    assert said("m", 429, CREATE, error={"message": "m", "type": "rate_limit_exceeded"}).sent is True
    assert said("m", 429, CREATE, type="request_limited").sent is False


def test_a_create_on_a_refused_connection_says_that_nothing_was_submitted():
    error = errors.unavailable("ConnectError: refused", context(CREATE), sent=False)
    assert error.sent is False
    assert "Nothing was submitted, and nothing is billed." in str(error)
    assert "may exist" not in str(error)
    assert "try again later" in str(error)


def test_a_create_without_an_answer_does_not_say_to_try_again():
    error = errors.unavailable("ReadTimeout", context(CREATE))
    assert "A batch may exist and be billed" in str(error)
    assert "try again" not in str(error)
    assert "check the connection's host" in str(error)


def test_a_failed_upload_says_that_it_costs_nothing_and_to_try_again():
    error = said("m", 500, UPLOAD)
    assert "Nothing is billed for an upload. The error may be temporary: try again later." in str(error)
    assert "max_request_body_size_mb" not in str(error)


def test_an_upload_whose_connection_broke_names_the_limit_that_breaks_connections():
    broken = errors.unavailable("WriteError", context(UPLOAD))
    assert "Nothing is billed" in str(broken)
    assert "max_request_body_size_mb" in str(broken)
    refused = errors.unavailable("ConnectError", context(UPLOAD), sent=False)
    assert "max_request_body_size_mb" not in str(refused)


def test_a_cancel_that_failed_says_that_the_batch_may_still_cost_money():
    assert "may still be running, and be billed" in str(said("m", 500, CANCEL))
    refused = errors.unavailable("ConnectError: refused", context(CANCEL), sent=False)
    assert "The batch was not cancelled: if it is running, it runs on and is billed." in str(refused)


def test_no_answer_is_reported_in_the_words_of_the_network():
    error = errors.unavailable("ConnectError: refused, key=abc123", context())
    assert "no answer (ConnectError: refused, key=***)" in str(error)
    assert error.transient is True
    assert error.status_code is None


def test_an_address_that_cannot_be_right_comes_with_what_to_check():
    error = errors.unavailable("certificate verify failed", context(), transient=False)
    assert "host, schema, port and `verify`" in str(error)
    assert "later" not in str(error)


def test_an_error_without_a_message_shows_its_type_or_code_or_what_it_came_as():
    assert "answered 403: kind_of" in str(said(None, 403, type="kind_of"))
    with pytest.raises(BifrostUnavailable, match="502, with a body of type text/html"):
        responses.parse(Batch, raw(b"<html>secret</html>", 502, kind="text/html"), context())


def test_everything_quoted_is_shortened_and_stripped_of_keys():
    key = "sk-proj-abcdef1234567890"
    error = said(
        f"{key} " + "x" * 5000, 500, type=f"{key} " + "y" * 5000, error={"message": f"{key} " * 500, "code": key}
    )
    assert key not in str(error) + repr(vars(error))
    assert len(str(error)) < 1000
    assert len(error.error_type) < 400
    with pytest.raises(BifrostProtocolError) as caught:
        responses.parse(Batch, raw(b"x", kind=key), context())
    assert key not in str(caught.value)


def test_an_error_message_in_a_200_is_shown_and_stripped_of_keys():
    with pytest.raises(BifrostProtocolError, match=r"`id` and `status` are missing \(bad \*\*\*\)"):
        responses.parse(Batch, raw({"extra_fields": {}, "error": {"message": "bad sk-proj-abcdef123456"}}), context())


def test_an_unknown_token_is_told_from_a_missing_one():
    body = {"type": "virtual_key_required", "error": {"message": "virtual key is required"}, "extra_fields": {}}
    with pytest.raises(BifrostAuthError, match="A token was sent, but the gateway knows no such virtual key"):
        responses.parse(Batch, raw(body, 401), context(token="sk-bf-unknown"))


def test_words_that_ask_for_another_header_come_last_and_are_marked_as_the_gateways():
    words = "virtual key is required. Provide a virtual key via the x-bf-vk header."
    body = {"type": "virtual_key_required", "error": {"message": words}, "extra_fields": {}}
    for token, own in (("sk-bf-unknown", "A token was sent, but"), (None, "No token was sent")):
        with pytest.raises(BifrostAuthError) as caught:
            responses.parse(Batch, raw(body, 401), context(token=token))
        assert str(caught.value).endswith(f' The gateway says: "{words}"')
        assert str(caught.value).index(own) < str(caught.value).index(words)
        assert caught.value.problem == "the gateway answered 401"
        assert str(caught.value.advice).startswith(own)


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ({}, "`id` and `status` are missing"),
        ({"id": "", "status": None}, "`id` and `status` are missing"),
        ({"id": "b"}, "`status` is missing"),
        ({"id": 5, "status": []}, "`id` and `status` are of the wrong type"),
        ({"id": 5}, "`status` is missing, `id` is of the wrong type"),
    ],
)
def test_a_missing_field_is_told_from_one_of_the_wrong_type(value, wrong):
    with pytest.raises(BifrostProtocolError) as caught:
        responses.parse(Batch, raw(value), context())
    assert caught.value.problem == f"the answer is not what the API promises: {wrong}"


def test_of_many_wrong_fields_the_first_three_are_named():
    page = {"data": [{"status": "s"}, {"id": "b"}, {"id": 1, "status": "s"}, {}]}
    with pytest.raises(
        BifrostProtocolError, match=r"`data\.0\.id` and `data\.1\.status` are missing, `data\.2\.id` is"
    ):
        responses.parse_page(Batch, raw(page), context())


def test_an_error_has_its_problem_and_its_advice_as_attributes():
    error = said("the provider is down.", 503)
    assert error.problem == "the gateway answered 503: the provider is down."
    assert error.advice == "The error may be temporary: try again later."
    no_answer = errors.unavailable("ConnectError: refused, key=abc123", context())
    assert no_answer.problem == "ConnectError: refused, key=***"
    assert "host, schema and port" in str(no_answer.advice)
