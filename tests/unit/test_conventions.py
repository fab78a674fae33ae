"""What every test keeps to: shared helpers are in ``support``, no private function is patched, and no elapsed time is asserted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
MODULES = [path for path in sorted(TESTS.rglob("*.py")) if path != Path(__file__)]

IMPORTS_A_CONFTEST = re.compile(r"^\s*(from|import) .*\bconftest\b", re.MULTILINE)
PATCHES_PRIVATE = re.compile(
    r"""(setattr|patch\.object)\(\s*[^,()]+,\s*["']_(?!_)|(setattr|patch)\(\s*["'][\w.]*\._(?!_)""", re.MULTILINE
)
ASSERTS_TIME = re.compile(r"^\s*assert .*\b(monotonic|perf_counter|process_time)\(\) - .*[<>]", re.MULTILINE)


@pytest.mark.parametrize(
    "forbidden", [IMPORTS_A_CONFTEST, PATCHES_PRIVATE, ASSERTS_TIME], ids=["import", "patch", "time"]
)
def test_the_tests_keep_to_the_conventions(forbidden: re.Pattern[str]) -> None:
    found = {str(path.relative_to(TESTS)): forbidden.findall(path.read_text()) for path in MODULES}
    assert {path: what for path, what in found.items() if what} == {}


# The formatter breaks a short statement over several lines to keep such a comment.
AFTER_A_BRACKET = re.compile(r"^[ \t]*[\])}]+,?[ \t]+# (?!noqa|type:|fmt:).*", re.MULTILINE)


def test_a_comment_stands_above_a_statement_of_several_lines_and_not_after_it() -> None:
    folders = ("airflow_bifrost", "benchmarks", "dags_examples", "demo", "docs", "tests")
    files = [path for folder in folders for kind in ("*.py", "*.md") for path in (TESTS.parent / folder).rglob(kind)]
    found = {str(path.relative_to(TESTS.parent)): AFTER_A_BRACKET.findall(path.read_text()) for path in files}
    assert {path: what for path, what in found.items() if what} == {}


@pytest.mark.parametrize(
    ("forbidden", "code"),
    [
        (IMPORTS_A_CONFTEST, "from .conftest import Wait"),
        (PATCHES_PRIVATE, 'monkeypatch.setattr(storage, "_rename", f)'),
        (PATCHES_PRIVATE, 'mock.patch.object(\n    storage, "_rename", f)'),
        (PATCHES_PRIVATE, 'mocker.patch("airflow_bifrost.results.storage._rename")'),
        (ASSERTS_TIME, "    assert time.monotonic() - began < 4"),
        (ASSERTS_TIME, "    assert (time.perf_counter() - began) / 100 < 0.2"),
        (AFTER_A_BRACKET, "x = f(\n    1\n)  # one"),
    ],
)
def test_every_kind_is_seen(forbidden: re.Pattern[str], code: str) -> None:
    assert forbidden.search(code)
