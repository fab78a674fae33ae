"""Which batches the pages of a list show, and when polling the list pays."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_bifrost import providers
from airflow_bifrost.waiting.page_index import ENOUGH, SWEEP_CAP, SWEEP_EVERY, PageIndex

NOW = 1_775_400_000.0


def waiting_for(*ids: str, provider: str = "openai") -> PageIndex:
    page_index = PageIndex(providers.get(provider).listing)
    for batch_id in ids:
        page_index.add(batch_id)
    return page_index


def names(start: int, end: int) -> list[str]:
    return [f"b{number}" for number in range(start, end)]


def test_a_few_batches_are_polled_by_their_ids():
    page_index = waiting_for(*names(0, ENOUGH - 1))
    assert not page_index.wants_sweep(NOW)
    assert page_index.page_of("b0") is None


def test_enough_batches_make_a_sweep_worthwhile():
    assert waiting_for(*names(0, ENOUGH)).wants_sweep(NOW)


def test_a_provider_without_a_usable_list_is_never_swept():
    page_index = PageIndex(None)
    for batch_id in names(0, 100):
        page_index.add(batch_id)
    assert not page_index.wants_sweep(NOW)


def test_the_batches_that_a_page_shows_are_polled_by_that_page():
    page_index = waiting_for(*names(0, 10))
    seen = page_index.on_page(None, names(0, 100), "next", oldest=NOW)
    assert seen.found == set(names(0, 10))
    assert {page_index.page_of(batch_id).cursor for batch_id in names(0, 10)} == {None}


def test_a_page_with_too_few_awaited_batches_is_not_polled():
    page_index = waiting_for(*names(0, ENOUGH - 1))
    page_index.on_page(None, names(0, 100), None, oldest=NOW)
    assert page_index.page_of("b0") is None


def test_a_sweep_continues_while_batches_are_missing_and_the_pages_show_enough_of_them():
    page_index = waiting_for(*names(0, 250))
    assert page_index.on_page(None, names(0, 100), "c1", oldest=NOW).next_cursor == "c1"
    assert page_index.on_page("c1", names(100, 200), "c2", oldest=NOW).next_cursor == "c2"
    assert page_index.on_page("c2", names(200, 300), "c3", oldest=NOW).next_cursor is None


def test_a_sweep_ends_after_a_few_pages_of_other_batches():
    page_index = waiting_for(*names(0, 10))
    steps, cursor = 0, None
    while steps < 50:
        steps += 1
        cursor = page_index.on_page(cursor, [f"x{steps}{n}" for n in range(100)], f"c{steps}", oldest=None).next_cursor
        if cursor is None:
            break
    assert steps <= 3


def test_a_sweep_ends_at_batches_older_than_all_that_it_searches_for():
    page_index = waiting_for(*names(0, 10))
    for batch_id in names(0, 10):
        page_index.learn_age(batch_id, NOW)
    assert page_index.on_page(None, ["x"], "c1", oldest=NOW - 1).next_cursor is None


def test_where_the_list_has_only_one_page_a_sweep_ends_there():
    for provider in ("anthropic", "gemini", "bedrock"):
        page_index = waiting_for(*names(0, 250), provider=provider)
        assert page_index.on_page(None, names(0, 100), "c1", oldest=NOW).next_cursor is None


def test_a_batch_that_its_page_has_lost_is_polled_by_its_id():
    page_index = waiting_for(*names(0, 10))
    page_index.on_page(None, names(0, 100), None, oldest=NOW)
    seen = page_index.on_page(None, names(5, 105), None, oldest=NOW)
    assert seen.lost == set(names(0, 5))
    assert page_index.page_of("b0") is None
    assert page_index.page_of("b9") is not None


def test_a_batch_that_is_added_later_is_placed_on_a_page_that_has_shown_it():
    page_index = waiting_for(*names(0, 10))
    page_index.on_page(None, names(0, 100), None, oldest=NOW)
    page_index.add("b50")
    assert page_index.page_of("b50").cursor is None


def test_sweeps_that_find_nothing_become_rare():
    page_index, now, pauses = waiting_for(*names(0, ENOUGH)), NOW, []
    for _ in range(8):
        assert page_index.wants_sweep(now)
        page_index.begin_sweep(now)
        page_index.on_page(None, ["x"], None, oldest=None)
        began = now
        while not page_index.wants_sweep(now):
            now += 1
        pauses.append(now - began)
    assert pauses == sorted(pauses)
    assert pauses[0] >= SWEEP_EVERY
    assert pauses[-1] == SWEEP_CAP


def test_a_sweep_that_saves_much_does_not_wait_long():
    page_index = waiting_for(*names(0, 10))
    page_index.begin_sweep(NOW)
    page_index.on_page(None, names(0, 100), None, oldest=None)
    for batch_id in names(1000, 2000):
        page_index.add(batch_id)
    assert page_index.wants_sweep(NOW + 5)


def test_a_list_that_is_refused_is_not_polled_for_a_while():
    page_index = waiting_for(*names(0, 10))
    page_index.on_page(None, names(0, 100), None, oldest=NOW)
    page_index.on_refusal(NOW)
    assert page_index.page_of("b0") is None
    assert not page_index.wants_sweep(NOW + SWEEP_EVERY)
    assert page_index.wants_sweep(NOW + SWEEP_CAP)


def test_a_clock_that_is_set_back_does_not_put_sweeps_off() -> None:
    page_index = waiting_for(*names(0, ENOUGH))
    page_index.begin_sweep(NOW)
    assert not page_index.wants_sweep(NOW + 1)
    assert page_index.wants_sweep(NOW - 86_400)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 30)),
        st.tuples(st.just("remove"), st.integers(0, 30)),
        st.tuples(st.just("page"), st.sets(st.integers(0, 30)), st.sampled_from([None, "c1", "c2"])),
        st.tuples(st.just("refuse")),
        st.tuples(st.just("age"), st.integers(0, 30)),
    ),
    max_size=40,
)


@given(STEPS)
@settings(deadline=None)
def test_whatever_happens_no_batch_is_lost_or_counted_twice(steps):
    page_index, waited = PageIndex(providers.get("openai").listing), set()
    for step in steps:
        match step:
            case ("add", number):
                page_index.add(f"b{number}")
                waited.add(f"b{number}")
            case ("remove", number) if f"b{number}" in waited:
                page_index.remove(f"b{number}")
                waited.discard(f"b{number}")
            case ("age", number) if f"b{number}" in waited:
                page_index.learn_age(f"b{number}", NOW)
            case ("page", shown, cursor):
                ids = {f"b{number}" for number in shown}
                assert page_index.on_page(cursor, ids, "c", oldest=NOW).found == ids & waited
            case ("refuse",):
                page_index.on_refusal(NOW)
        for batch_id in waited:
            page = page_index.page_of(batch_id)
            assert page is None or batch_id in page.awaited
        assert set(page_index._place) == waited
        assert page_index._unplaced == sum(page is None for page in page_index._place.values())
        assert set(page_index._created) <= {batch_id for batch_id, page in page_index._place.items() if page is None}
        for page in page_index._pages.values():
            assert page.awaited


def test_a_sweep_ends_even_if_the_same_batches_come_under_ever_new_cursors():
    page_index = waiting_for(*names(0, 250))
    page_index.begin_sweep(NOW)
    pages = 0
    cursor: str | None = None
    while pages == 0 or cursor is not None:
        pages += 1
        assert pages < 20
        cursor = page_index.on_page(cursor, names(0, 100), f"fresh-{pages}", oldest=NOW).next_cursor
    page_index.begin_sweep(NOW + SWEEP_CAP)
    assert page_index.on_page(None, names(0, 100), "c1", oldest=NOW).next_cursor == "c1"
