"""Lists of batches and files, over both clients: page after page, complete or cut short."""

from __future__ import annotations

import httpx
import pytest
from support.clients import Gateway, page, query

from airflow_bifrost.exceptions import (
    BifrostProtocolError,
)
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.config import GatewayConfig


def test_a_listing_follows_the_cursor_to_the_last_page(connect):
    gateway = Gateway(page("a", "b", cursor="c1"), page("c", cursor="c2=="), page("d"))
    assert [batch.id for batch in connect(gateway).list_batches(page_size=2)] == ["a", "b", "c", "d"]
    assert [query(request).get("after") for request in gateway.requests] == [None, ["c1"], ["c2=="]]
    assert {query(request)["limit"][0] for request in gateway.requests} == {"2"}


def test_a_listing_of_files_calls_its_cursor_after(connect):
    gateway = Gateway(page("a", cursor="c1", name="after"), page("b"))
    assert [file.id for file in connect(gateway).list_files()] == ["a", "b"]
    assert query(gateway.last)["after"] == ["c1"]


@pytest.mark.parametrize("call", ["list_batches", "list_files"])
def test_a_listing_that_reaches_the_last_page_is_complete(connect, call):
    listed = getattr(connect(Gateway(page("a", cursor="c1"), page("b"))), call)()
    assert [item.id for item in listed] == ["a", "b"]
    assert (listed.listing.complete, listed.listing.why_incomplete) == (True, None)


# A list that is cut short, and what to say about it; each in its own way
CUT_SHORT = {
    "a page says that there are more, but gives no cursor": [page("a", has_more=True)],
    "a page has no data": [page("a", cursor="c1"), {"object": "list", "extra_fields": {}}],
    "a cursor came twice": [page("a", cursor="same")],
    "brought nothing new": [page("a", cursor=f"c{number}") for number in range(50)],
    "a cursor came twice, with new entries": [page("a", cursor="c1"), page("b", cursor="c2"), page("c", cursor="c1")],
    "brought nothing new, as each was empty": [page(cursor=f"c{number}") for number in range(500)],
    "a page says that there are more, by an unclear has_more": [page("a", has_more="no")],
}


@pytest.mark.parametrize("call", ["list_batches", "list_files"])
@pytest.mark.parametrize(("why", "pages"), CUT_SHORT.items(), ids=CUT_SHORT)
def test_a_listing_that_is_cut_short_ends_and_is_not_complete(connect, call, why, pages):
    """Taken for complete, it would prove that a batch does not exist, which would be paid for again."""
    gateway = Gateway(*pages)
    listed = getattr(connect(gateway), call)()
    assert listed.listing.complete is False
    assert why.partition(",")[0] in listed.listing.why_incomplete
    assert len(gateway.requests) <= 22
    assert len({item.id for item in listed}) == len(listed)


def test_an_unreadable_page_is_an_error_and_not_the_end_of_the_list(connect):
    gateway = Gateway(page("a", cursor="c1"), {"error": {"message": "no"}, "extra_fields": {}})
    with pytest.raises(BifrostProtocolError):
        connect(gateway).list_batches()


def test_a_listing_of_a_provider_with_one_page_asks_once_and_is_not_complete(connect):
    gateway = Gateway(page("a", cursor="c1"), page("b"))
    listed = connect(gateway).list_batches(provider="anthropic")
    assert [batch.id for batch in listed] == ["a"]
    assert "only the first page" in listed.listing.why_incomplete
    assert len(gateway.requests) == 1
    assert connect(Gateway(page("a"))).list_batches(provider="anthropic").listing.complete


def test_a_listing_goes_on_past_the_empty_page_of_a_key_without_batches(connect):
    listed = connect(Gateway(page(cursor="key-2"), page("a"))).list_batches()
    assert [batch.id for batch in listed] == ["a"]
    assert listed.listing.complete


def test_a_listing_goes_on_past_the_pages_of_a_second_key_for_the_same_account(connect):
    gateway = Gateway(
        page("a", cursor="k1"), page("b", cursor="k2"), page("a", cursor="k3"), page("b", cursor="k4"), page("c")
    )
    listed = connect(gateway).list_batches()
    assert [batch.id for batch in listed] == ["a", "b", "c"]
    assert listed.listing.complete


def test_a_listing_that_nobody_read_to_its_end_is_not_complete():
    with GatewayClient(
        GatewayConfig("https://gw.example"), transport=httpx.MockTransport(Gateway(page("a", "b")))
    ) as client:
        listing = client.list_batches()
        assert next(iter(listing)).id == "a"
        assert listing.complete is False
