"""What must hold on any gateway, whatever its providers have: GET requests only."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from itertools import islice

import pytest

from airflow_bifrost import providers
from airflow_bifrost.exceptions import BatchNotFound, BifrostAuthError, BifrostGatewayError, BifrostRequestError
from airflow_bifrost.gateway import calls, responses
from airflow_bifrost.gateway.async_client import AsyncGatewayClient
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.exchange import RawResponse, RequestContext
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.gateway.retry import NO_RETRY
from airflow_bifrost.gateway.summary import BatchSummary
from airflow_bifrost.providers.statuses import BatchStatus

from ..recordings import RECORDINGS, Recording
from .gateway import Live

# The gateway's own answers, for which it asks no provider.
ANY_GATEWAY = {
    "paths/unknown_path_is_a_web_page",
    "paths/unknown_root",
    "paths/unknown_below_batch",
    "paths/trailing_slash",
    "providers/unknown",
    "providers/upper_case",
}
RECORDED = {r.name: r for r in RECORDINGS if r.name in ANY_GATEWAY}  # what they mean is the same in every version
assert RECORDED.keys() == ANY_GATEWAY
UNKNOWN_ID = "batch_that_nobody_has_made"
UNKNOWN_FILES = {
    "bedrock": base64.b64encode(b"s3://bucket-that-nobody-has/made").decode(),
    "vertex": base64.urlsafe_b64encode(b"gs://bucket-that-nobody-has/made").decode().rstrip("="),
}
MANY = 300  # entries of a list that are looked at


@pytest.mark.parametrize("recording", RECORDED.values(), ids=RECORDED)
def test_the_gateway_says_by_itself_what_the_recorded_one_said(live: Live, recording: Recording) -> None:
    request = recording.request
    path = request["path"].replace("/openai", live.config.path_prefix, 1)
    answer = live.get(path + (f"?{request['query']}" if "query" in request else ""))
    asked = RequestContext(calls.get_batch("b", live.provider).request, "live", 0.0, live.config.token)
    with pytest.raises(BifrostGatewayError) as caught:
        responses.parse(Batch, RawResponse(answer.status_code, dict(answer.headers), answer.content), asked)
    kind = type(caught.value).__name__
    assert (kind, caught.value.transient) == (recording.expected["error"], recording.expected["transient"]), (
        caught.value
    )


def test_the_gateway_tells_its_health(live: Live) -> None:
    assert live.client.health().status == "ok"


def test_a_batch_that_does_not_exist_is_not_found(live: Live) -> None:
    with pytest.raises(BatchNotFound if live.provider != "bedrock" else (BatchNotFound, BifrostRequestError)):
        live.client.get_batch(UNKNOWN_ID)


def test_a_file_that_does_not_exist_is_not_found(live: Live) -> None:
    with pytest.raises((BatchNotFound, BifrostRequestError)):  # at once, because an object store can never have this ID
        live.client.get_file("file-that-nobody-has-made")
    if live.provider in UNKNOWN_FILES:
        with pytest.raises((BatchNotFound, BifrostAuthError)):
            live.client.get_file(UNKNOWN_FILES[live.provider])


def test_a_cursor_of_elsewhere_is_a_mistake(live: Live) -> None:
    if not providers.get(live.provider).lists_all_pages:
        pytest.skip(f"the gateway ignores the cursor for {live.provider}")
    if live.provider not in providers.ALL:
        pytest.skip(f"what the gateway does with a cursor for {live.provider} is unknown")
    try:
        live.client.list_page(limit=2, after="!!!")
    except BifrostRequestError:  # at once, because it can never pass
        return
    pytest.skip(f"the gateway passes a cursor of elsewhere on to {live.provider}, as versions since 1.5 do")


def test_a_virtual_key_that_does_not_exist_is_refused(live: Live) -> None:
    if is_refused(live, token="sk-bf-that-nobody-has-made"):
        return
    if not is_refused(live, token=None):
        pytest.skip("this gateway does not check tokens")
    pytest.fail("the gateway refuses a call without a token, and serves one with any token", pytrace=False)


def is_refused(live: Live, *, token: str | None) -> bool:
    with GatewayClient(replace(live.config, token=token), retry=NO_RETRY) as client:
        try:
            client.list_page(limit=1)
        except BifrostAuthError:
            return True
    return False


def test_a_listing_ends_and_gives_no_batch_twice(live: Live) -> None:
    listed = [batch.id for batch in islice(live.client.list_batches(), MANY)]
    assert len(listed) == len(set(listed))


def test_a_page_has_no_more_entries_than_were_asked_for(live: Live) -> None:
    assert len(live.client.list_page(limit=2).data) <= 2


def test_every_listed_batch_has_a_status_that_is_known(live: Live) -> None:
    unknown = {
        b.status for b in islice(live.client.list_batches(), MANY) if BatchStatus.of(b.status) is BatchStatus.UNKNOWN
    }
    assert unknown == set()


def test_a_listed_batch_is_the_same_when_it_is_retrieved(live: Live) -> None:
    newest = live.client.list_page(limit=5).data
    if not newest:
        pytest.skip(f"{live.provider} lists no batch")
    for entry in newest:
        batch = live.client.get_batch(entry.id)
        assert batch.created_at == entry.created_at
        if providers.get(live.provider).outcome(entry.status, entry.request_counts):  # what has ended does not change
            assert batch.status == entry.status
        BatchSummary.of(batch, batch_id=entry.id, provider=live.provider).to_xcom()


def test_the_async_client_reads_the_same(live: Live) -> None:
    async def page() -> list[str]:
        async with AsyncGatewayClient(live.config) as client:
            return [batch.id for batch in (await client.list_page(limit=5)).data]

    assert asyncio.run(page()) == [batch.id for batch in live.client.list_page(limit=5).data]


def test_files_are_listed(live: Live) -> None:
    if live.provider in UNKNOWN_FILES:
        pytest.skip(
            f"the files of {live.provider} are in an object store: a list needs a bucket, which the clients do not send"
        )
    try:
        for file in islice(live.client.list_files(), MANY):
            assert file.id
    except BifrostRequestError as error:
        if live.config.path_prefix or "x-model-provider" not in str(error):
            raise
        pytest.skip(
            "without /openai in its paths, this gateway lists files only by a header that the clients do not send"
        )
