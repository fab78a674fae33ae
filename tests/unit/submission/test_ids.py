"""Every row has an ID, and no two have the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.requests import line_of, lines, reason, refused, write

from airflow_bifrost.submission.limits import limits_of


def test_a_row_keeps_its_id_and_a_row_without_one_is_named_by_its_place_in_the_whole_input(tmp_path: Path) -> None:
    rows = ["Hi", {"custom_id": "a", "body": {}}, {"messages": []}, "Hi"]
    parts = write(rows, tmp_path, limits=replace(limits_of("openai"), rows=2))
    assert [line["custom_id"] for line in lines(parts)] == ["row-000000001", "a", "row-000000003", "row-000000004"]


def test_an_id_that_the_provider_refuses_is_an_error(tmp_path: Path) -> None:
    row = {"custom_id": "a.b", "params": {}}
    assert "'a.b': it must be 1 to 64 of the characters" in reason(row, tmp_path, provider="anthropic")


def test_a_duplicate_id_is_an_error_across_parts(tmp_path: Path) -> None:
    rows = [{"custom_id": custom_id, "body": {}} for custom_id in ("a", "b", "a")]
    error = refused(rows, tmp_path, limits=replace(limits_of("openai"), rows=1))
    assert error.errors == [(3, "has the id 'a', which an earlier row has too")]


@pytest.mark.parametrize(
    ("ids", "wrong"),
    [
        ([None, "row-000000001"], [2]),  # taken by an earlier row
        (["row-000000002", None], [2]),  # will be taken
        (["a", "row-000000001"], []),  # row 1 has another
        (["row-000000002", "row-000000001"], []),
        (["row-000000001", None], []),
        (["row-000000005", None], []),
        (["row-2", None], []),
        (["row-000000000", None], []),
        (["row-9999999999999999999999", None], []),
    ],
)
def test_an_automatic_id_that_another_row_has_as_its_own_is_an_error(
    ids: list[str | None], wrong: list[int], tmp_path: Path
) -> None:
    rows = ["Hi" if custom_id is None else {"custom_id": custom_id, "body": {}} for custom_id in ids]
    if wrong:
        assert [number for number, _ in refused(rows, tmp_path).errors] == wrong
    else:
        write(rows, tmp_path)


@settings(deadline=None)
@given(st.lists(st.none() | st.integers(1, 8), max_size=8))
def test_ids_are_unique_or_an_error(numbers: list[int | None]) -> None:
    rows = ["Hi" if n is None else {"custom_id": f"row-{n:09d}", "body": {}} for n in numbers]
    expected = [f"row-{place if n is None else n:09d}" for place, n in enumerate(numbers, 1)]
    with TemporaryDirectory() as folder:
        if len(set(expected)) < len(expected):
            refused(rows, Path(folder))
        else:
            assert [line["custom_id"] for line in lines(write(rows, Path(folder)))] == expected


@pytest.mark.parametrize(
    ("provider", "custom_id", "accepted"),
    [
        ("openai", "Any text: é/😀", True),
        ("openai", "two\nlines", True),
        ("openai", "", False),
        ("gemini", "a.b", True),
        ("bedrock", "", False),
        ("anthropic", "row-000000001", True),
        ("anthropic", "a" * 64, True),
        ("anthropic", "a" * 65, False),
        ("anthropic", "a.b", False),
        ("anthropic", "a\n", False),
        ("anthropic", "é", False),
        ("anthropic", "", False),
        ("a new one", "a.b", False),
    ],
)
def test_each_provider_accepts_its_own_ids(provider: str, custom_id: str, accepted: bool, tmp_path: Path) -> None:
    row = {"custom_id": custom_id, "body": {"input": "Hi"}}
    if accepted:
        assert custom_id in line_of(row, tmp_path, provider=provider).values()
    else:
        assert "it must be" in reason(row, tmp_path, provider=provider)
