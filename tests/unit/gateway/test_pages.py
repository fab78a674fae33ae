"""Lists, whatever their pages say: each ends, and is complete only if a page said that it is the last."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_bifrost.gateway.models import File, Page
from airflow_bifrost.gateway.pages import MAX_PAGES, MAX_STALE_PAGES, Listing

cursors = st.none() | st.sampled_from("abc") | st.integers(0, 99).map(str)
pages = st.fixed_dictionaries(
    {"object": st.just("list")},
    optional={
        "data": st.none() | st.lists(st.sampled_from("123456").map(lambda number: {"id": number}), max_size=3),
        "has_more": st.none() | st.booleans() | st.sampled_from(["true", "", 0, 1]),
        "next_cursor": cursors,
        "after": cursors,
    },
)


@settings(deadline=None, max_examples=500)
@given(st.lists(pages, min_size=1, max_size=60), st.booleans())
def test_every_listing_ends_and_is_complete_only_after_a_last_page(bodies, all_pages):
    asked = []

    def fetch(after):
        body = bodies[min(len(asked), len(bodies) - 1)]
        asked.append((after, body))
        return Page[File].model_validate(body)

    listing = Listing(fetch, pages=all_pages)
    entries = [file.id for file in listing]
    _, last = asked[-1]
    assert len(entries) == len(set(entries))
    assert len(asked) <= len({after for after, _ in asked}) + MAX_STALE_PAGES
    assert set(entries) == {item["id"] for _, body in asked for item in body.get("data") or []}
    if listing.complete:
        assert isinstance(last.get("data"), list)
        assert last.get("has_more") is None or last["has_more"] is False
        assert not last.get("next_cursor")
        assert not last.get("after")
    else:
        assert listing.why_incomplete


def test_a_listing_of_ever_new_cursors_and_entries_ends_and_is_not_complete():
    asked = 0

    def fetch(after):
        nonlocal asked
        asked += 1
        assert asked <= MAX_PAGES
        return Page[File].model_validate({"data": [{"id": str(asked)}], "next_cursor": str(asked), "has_more": True})

    listing = Listing(fetch)
    assert sum(1 for _ in listing) == MAX_PAGES
    assert "pages" in listing.why_incomplete


def test_a_cursor_that_is_too_long_for_a_url_counts_as_absent():
    listing = Listing(
        lambda after: Page[File].model_validate({"data": [], "next_cursor": "c" * 70_000, "has_more": True})
    )
    assert list(listing) == []
    assert not listing.complete
