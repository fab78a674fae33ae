"""What came back: a model, or an error that says what happened, what it means for the money, and what to do."""

from __future__ import annotations

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
from airflow_bifrost.gateway import requests, responses
from airflow_bifrost.gateway.models import Batch, BatchResults, DeletedFile, File, Health
from airflow_bifrost.gateway.responses import RawResponse, RequestContext

NOW = 1_775_400_000.0
GET = requests.get_batch("batch_1", "azure")
CREATE = requests.create_batch("openai", input_file_id="file-1", idempotency_key="k")
UPLOAD = requests.upload_file("openai", purpose="batch", idempotency_key="k")


def asked(request=GET, token=None):
    return RequestContext(request, "my_conn", NOW, token)


def raw(body, status=200, kind="application/json", **headers):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return RawResponse(status, {"content-type": kind} | headers, content)


def said(message, status, request=GET, **fields):
    """The error that the gateway's words become."""
    with pytest.raises(BifrostGatewayError) as caught:
        responses.parse(
            Batch, raw({"error": {"message": message}, "extra_fields": {}} | fields, status), asked(request)
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
        responses.parse(Batch, raw(body, status), asked())
    assert type(caught.value) is error
    assert (caught.value.status_code, caught.value.transient) == (status, transient)


def test_words_of_an_provider_behind_a_bad_gateway_make_no_mistake():
    assert type(said("a certificate is required", 502)) is BifrostUnavailable


def test_retry_after_of_any_error_is_kept():
    with pytest.raises(BifrostUnavailable) as caught:
        responses.parse(Batch, raw(b"", 503, **{"retry-after": "Sun, 05 Apr 2026 14:41:00 GMT"}), asked())
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
def test_what_the_api_does_not_promise_is_a_protocol_error(response, transient, model):
    with pytest.raises(BifrostProtocolError) as caught:
        responses.parse(model, response, asked())
    assert caught.value.transient is transient
    assert caught.value.status_code == response.status_code


@pytest.mark.parametrize("model", [Batch, File, DeletedFile, BatchResults, Health])
@pytest.mark.parametrize(
    "value", [{}, {"error": {"message": "m"}}, {"id": "", "status": "", "batch_id": ""}, {"id": 5, "status": []}]
)
def test_an_object_without_its_name_is_a_protocol_error(model, value):
    with pytest.raises(BifrostProtocolError):
        responses.parse(model, raw(value), asked())


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
def test_a_page_that_cannot_be_read_whole_is_no_page(value, transient):
    """Left out, an entry would pass for a batch that does not exist, and would be paid for again."""
    with pytest.raises(BifrostProtocolError) as caught:
        responses.parse_page(Batch, raw(value), asked())
    assert caught.value.transient is transient


@pytest.mark.parametrize("value", [{"object": "list"}, {"object": "list", "data": None}, {"data": []}])
def test_a_list_of_nothing_is_a_page(value):
    page = responses.parse_page(Batch, raw(value), asked())
    assert (page.data, page.has_more, page.next_cursor) == ((), None, None)


# What the message says


def test_a_message_says_what_happened_to_which_batch_where_what_it_costs_and_what_to_do():
    assert str(said("the provider is down.", 503)) == (
        "Retrieving batch 'batch_1' of 'azure' through connection 'my_conn' failed: the gateway answered 503: the provider is down."
        " The batch is not touched by this: if it was submitted, it runs on and is billed as usual."
        " This can pass: try again later."
    )


def test_a_refusal_in_words_that_nobody_knows_comes_with_where_to_look():
    error = said("no", 403, type="anything_else")
    assert "Check the connection's password" in str(error)
    assert error.error_type == "anything_else"


@pytest.mark.parametrize(
    ("status", "fate"), [(500, "may exist"), (504, "may exist"), (429, "may exist"), (201, "may exist")]
)
def test_a_create_of_unknown_end_says_that_a_batch_may_exist(status, fate):
    assert "A batch may exist and be billed: look for it before submitting again." in str(said("m", status, CREATE))


@pytest.mark.parametrize("status", [201, 429, 500, 504])
def test_a_create_of_unknown_end_says_how_to_look_and_not_to_try_again(status):
    error = said("m", status, CREATE)
    assert "`list_batches`" in str(error)
    assert "try again" not in str(error)
    assert "This can pass" not in str(error)


@pytest.mark.parametrize("request_", [CREATE, UPLOAD])
def test_no_answer_to_what_must_not_be_repeated_does_not_say_to_try_again(request_):
    error = responses.unavailable("ReadTimeout", asked(request_))
    assert "try again" not in str(error)
    assert "check the connection's host" in str(error)
    assert ("`list_batches`" in str(error)) is (request_ is CREATE)


def test_an_upload_that_failed_does_not_say_to_try_again():
    error = said("m", 500, UPLOAD)
    assert "try again" not in str(error)
    assert error.advice is None
    assert str(error).endswith("`max_request_body_size_mb` (100).")


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409])
def test_a_refused_create_says_that_nothing_is_billed(status):
    error = str(said("m", status, CREATE))
    assert "Nothing was submitted, and nothing is billed." in error
    assert "may exist" not in error
    assert "list_batches" not in error


def test_a_broken_upload_names_the_limit_that_breaks_connections():
    error = str(responses.unavailable("WriteError", asked(UPLOAD)))
    assert "Nothing is billed" in error
    assert "max_request_body_size_mb" in error


def test_a_cancel_that_failed_says_that_the_batch_may_still_cost():
    error = str(said("m", 500, requests.cancel_batch("batch_1", "openai")))
    assert "may still be running, and be billed" in error


def test_no_answer_is_told_with_the_networks_words():
    error = responses.unavailable("ConnectError: refused, key=abc123", asked())
    assert "no answer (ConnectError: refused, key=***)" in str(error)
    assert error.transient is True
    assert error.status_code is None


def test_an_address_that_cannot_be_right_comes_with_what_to_check():
    error = responses.unavailable("certificate verify failed", asked(), transient=False)
    assert "host, schema, port and `verify`" in str(error)
    assert "later" not in str(error)


def test_an_error_without_a_message_shows_its_type_or_code_or_what_it_came_as():
    assert "answered 403: kind_of" in str(said(None, 403, type="kind_of"))
    with pytest.raises(BifrostUnavailable, match="502, with a body of type text/html"):
        responses.parse(Batch, raw(b"<html>secret</html>", 502, kind="text/html"), asked())


def test_every_word_of_a_stranger_is_shortened_and_stripped_of_keys():
    key = "sk-proj-abcdef1234567890"
    error = said(
        f"{key} " + "x" * 5000, 500, type=f"{key} " + "y" * 5000, error={"message": f"{key} " * 500, "code": key}
    )
    assert key not in str(error) + repr(vars(error))
    assert len(str(error)) < 1000
    assert len(error.error_type) < 400
    with pytest.raises(BifrostProtocolError) as caught:
        responses.parse(Batch, raw(b"x", kind=key), asked())
    assert key not in str(caught.value)


def test_an_odd_message_on_a_200_is_told_and_stripped_of_keys():
    with pytest.raises(BifrostProtocolError, match=r"`id` and `status` are missing \(bad \*\*\*\)"):
        responses.parse(Batch, raw({"extra_fields": {}, "error": {"message": "bad sk-proj-abcdef123456"}}), asked())


def test_a_token_that_the_gateway_does_not_know_is_told_from_none_at_all():
    body = {"type": "virtual_key_required", "error": {"message": "virtual key is required"}, "extra_fields": {}}
    with pytest.raises(BifrostAuthError, match="A token was sent, but the gateway knows no such virtual key"):
        responses.parse(Batch, raw(body, 401), asked(token="sk-bf-unknown"))


def test_the_words_that_ask_for_another_header_come_last_and_as_the_gateways():
    words = "virtual key is required. Provide a virtual key via the x-bf-vk header."
    body = {"type": "virtual_key_required", "error": {"message": words}, "extra_fields": {}}
    for token, own in (("sk-bf-unknown", "A token was sent, but"), (None, "No token was sent")):
        with pytest.raises(BifrostAuthError) as caught:
            responses.parse(Batch, raw(body, 401), asked(token=token))
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
        ({"id": 5, "status": []}, "`id` and `status` are of the wrong kind"),
        ({"id": 5}, "`status` is missing, `id` is of the wrong kind"),
    ],
)
def test_what_is_missing_is_told_from_what_is_of_the_wrong_kind(value, wrong):
    with pytest.raises(BifrostProtocolError) as caught:
        responses.parse(Batch, raw(value), asked())
    assert caught.value.problem == f"the answer is not what the API promises: {wrong}"


def test_of_many_fields_that_are_wrong_the_first_three_are_named():
    page = {"data": [{"status": "s"}, {"id": "b"}, {"id": 1, "status": "s"}, {}]}
    with pytest.raises(
        BifrostProtocolError, match=r"`data\.0\.id` and `data\.1\.status` are missing, `data\.2\.id` is"
    ):
        responses.parse_page(Batch, raw(page), asked())


def test_an_error_has_what_happened_and_what_to_do_apart():
    error = said("the provider is down.", 503)
    assert error.problem == "the gateway answered 503: the provider is down."
    assert error.advice == "This can pass: try again later."
    no_answer = responses.unavailable("ConnectError: refused, key=abc123", asked())
    assert no_answer.problem == "ConnectError: refused, key=***"
    assert "host, schema and port" in str(no_answer.advice)
