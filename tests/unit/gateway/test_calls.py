"""What each call sends, and what is refused before it is sent."""

from __future__ import annotations

import base64
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_bifrost.gateway import calls
from airflow_bifrost.gateway.ids import MAX_ID_LENGTH, checked_id
from airflow_bifrost.gateway.retry import Repeat

GOOD = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in "/\\?#%")
BY_ID = [
    calls.get_batch,
    calls.get_raw,
    calls.cancel_batch,
    calls.batch_results,
    calls.get_file,
    calls.delete_file,
    calls.file_content,
]


def create(provider="openai", **arguments):
    arguments = {"input_file_id": "file-1", "idempotency_key": "k"} | arguments
    return calls.create_batch(provider, **arguments).request


@settings(deadline=None)
@given(st.text(GOOD, min_size=1, max_size=MAX_ID_LENGTH).filter(lambda text: ".." not in text and text != "."))
def test_an_id_of_visible_ascii_goes_into_the_path_as_it_is(batch_id):
    assert (
        calls.get_batch(batch_id, "openai").request.target("/openai")
        == f"/openai/v1/batches/{batch_id}?provider=openai"
    )


@settings(deadline=None)
@given(
    st.text(GOOD, max_size=20),
    st.sampled_from([*"/\\?#% \t\r\n\0\x7f\x80äé\u2028\ud800", ".."]),
    st.text(GOOD, max_size=20),
)
def test_an_id_with_a_character_that_shapes_paths_is_a_value_error(before, bad, after):
    for build in BY_ID:
        with pytest.raises(ValueError, match="_id"):
            build(before + bad + after, "openai")


@settings(deadline=None)
@given(st.text() | st.binary() | st.integers() | st.none())
def test_any_id_is_sent_as_one_segment_or_is_a_value_error(value):
    try:
        assert checked_id(value) == value
    except ValueError:
        return
    assert set(value) <= set(GOOD)
    assert 0 < len(value) <= MAX_ID_LENGTH


@pytest.mark.parametrize("value", ["", ".", "..", "a..b", "x" * (MAX_ID_LENGTH + 1), 5, None])
def test_what_is_no_id_is_a_value_error(value):
    with pytest.raises(ValueError, match="file_id"):
        checked_id(value, "file_id")


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("arn:aws:bedrock:us-east-1:1:model-invocation-job/abc", "base64 of the ARN"),
        ("s3://b/k", "Read the file from S3"),
        ("gs://b/k", "base64url of the address"),
    ],
)
def test_ids_of_aws_are_refused_with_the_form_that_works(value, hint):
    with pytest.raises(ValueError, match=hint):
        checked_id(value)


@pytest.mark.parametrize("provider", ["gemini", "bedrock", "vertex"])
def test_a_model_is_sent_to_providers_that_need_one_and_wanted_for_them(provider):
    assert create(provider, model="m").json["model"] == "m"
    with pytest.raises(ValueError, match="needs a model"):
        create(provider)


@pytest.mark.parametrize("provider", ["openai", "azure", "anthropic", "groq"])
def test_a_model_is_not_sent_to_providers_that_do_not_need_one(provider):
    assert "model" not in create(provider, model="m").json


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_file_id": None}, "either input_file_id or requests"),
        ({"requests": [{}]}, "either input_file_id or requests"),
        ({"input_file_id": None, "requests": []}, "nothing to submit"),
        ({"metadata": {"a": 1}}, "must be a string"),
        ({"extra_body": {"model": "m"}}, "model"),
        ({"extra_body": {"requests": [{}]}}, "requests"),
        ({"extra_body": {"provider": "azure"}}, "provider"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"idempotency_key": "a b"}, "idempotency_key"),
        ({"idempotency_key": "a\r\nb: c"}, "idempotency_key"),
    ],
)
def test_what_the_gateway_would_refuse_or_silently_read_otherwise_is_a_value_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        create(**arguments)


def test_extra_body_holds_what_else_a_provider_needs():
    assert create("bedrock", model="m", extra_body={"role_arn": "r"}).json["role_arn"] == "r"


def test_rows_sent_inline_are_in_the_body():
    assert create(input_file_id=None, requests=({"custom_id": "1"},)).json["requests"] == [{"custom_id": "1"}]


def test_a_create_is_repeated_only_if_it_was_not_sent_and_everything_else_freely():
    upload = calls.upload_file("openai", io.BytesIO(), purpose="batch", idempotency_key="k").request
    assert create().repeat is Repeat.IF_NOT_SENT
    assert upload.repeat is Repeat.UPLOAD
    others = [build("x", "openai").request for build in BY_ID if build is not calls.file_content]
    others += [calls.file_content("x", "openai")]
    others += [build("openai").request for build in (calls.list_page, calls.list_raw, calls.list_files_page)]
    others += [calls.health().request, calls.version().request]
    assert {request.repeat for request in others} == {Repeat.ALWAYS}


def test_a_request_shows_no_prompts():
    assert "prompt" not in repr(create(input_file_id=None, requests=[{"body": "prompt"}]))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_cursor_is_quoted_into_the_query(cursor):
    target = calls.list_page("openai", limit=5, after=cursor).request.target("")
    assert target.isascii()
    assert target.count("&") == 2


@pytest.mark.parametrize(
    ("provider", "batch_id", "asked"),
    [
        ("gemini", "batches-abc", "abc"),
        ("gemini", "abc", "abc"),
        ("openai", "batches-abc", "batches-abc"),
        (
            "bedrock",
            base64.b64encode(b"arn:aws:bedrock:r:1:model-invocation-job/abc123def456").decode(),
            "abc123def456",
        ),
        ("bedrock", "abc123def456", "abc123def456"),
        ("bedrock", base64.b64encode(b"s3://bucket/abc").decode(), base64.b64encode(b"s3://bucket/abc").decode()),
        ("bedrock", "not-base64", "not-base64"),
        ("openai", base64.b64encode(b"arn:x/y").decode(), base64.b64encode(b"arn:x/y").decode()),
    ],
)
def test_results_are_asked_for_by_the_id_that_the_provider_itself_knows(provider, batch_id, asked):
    request = calls.batch_results(batch_id, provider).request
    assert request.target("/openai") == f"/v1/batches/{asked}/results?provider={provider}"


@pytest.mark.parametrize("tail", ["%ff", "..", "a\r\nb", "a?b=c", "", "é"])
@pytest.mark.parametrize(
    ("provider", "name"), [("bedrock", "arn:aws:bedrock:r:1:model-invocation-job"), ("vertex", "projects/1/jobs")]
)
def test_what_an_encoded_id_decodes_to_is_checked_before_it_goes_into_a_path(provider, name, tail):
    batch_id = base64.b64encode(f"{name}/{tail}".encode()).decode()
    with pytest.raises(ValueError, match="batch_id"):
        calls.batch_results(batch_id, provider)
