"""Why rows did not succeed."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from airflow_bifrost.results.reasons import IDS_SHOWN, MAX_NAMES, MESSAGE_SHOWN, OTHER, Reasons, as_table, in_words


@given(st.lists(st.sampled_from(["400", "429", "expired", None])))
def test_every_error_is_counted_and_the_most_frequent_comes_first(codes: list[str | None]) -> None:
    reasons = Reasons()
    for number, code in enumerate(codes):
        reasons.add(f"row-{number}", code, "no")
    found = reasons.found()
    assert {reason.code: reason.rows for reason in found} == Counter(code or "unknown" for code in codes)
    assert [reason.rows for reason in found] == sorted((reason.rows for reason in found), reverse=True)
    assert all(len(reason.custom_ids) == min(reason.rows, IDS_SHOWN) for reason in found)


def test_any_number_of_codes_stays_small() -> None:
    reasons = Reasons()
    for number in range(10 * MAX_NAMES):
        reasons.add("a" * 1000, f"code {number}", "m\n" * 10_000)
    found = reasons.found()
    assert len(found) == MAX_NAMES + 1
    assert found[0].code == OTHER
    assert all(
        len(reason.message or "") <= MESSAGE_SHOWN + 1 and "\n" not in (reason.message or "") for reason in found
    )
    assert all(len(custom_id) < 100 for reason in found for custom_id in reason.custom_ids)


def test_a_message_names_the_reasons_with_an_example() -> None:
    reasons = [
        {"code": "invalid_output", "rows": 1000, "message": "not JSON", "custom_ids": ["a", "b", "c"]},
        {"code": "missing", "rows": 1, "message": None, "custom_ids": ["d"]},
    ]
    assert in_words(reasons) == "1,000 invalid_output (not JSON; rows a, b, c, ...); 1 missing (row d)"


def test_a_table_has_a_line_for_each_reason() -> None:
    reasons = Reasons()
    reasons.add("a", "429", "too many")
    reasons.add("b", "429", "too many")
    reasons.add("c", "missing", None)
    assert as_table(reasons.found()).splitlines() == [
        "  rows  code     message   for example",
        "     2  429      too many  a, b",
        "     1  missing            c",
    ]
