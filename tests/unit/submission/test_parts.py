"""Request lines are split into parts within the limits of a batch."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.requests import CHAT, lines, reason, refused, write, written

from airflow_bifrost.submission.limits import limits_of
from airflow_bifrost.submission.parts import Part

TEXT = st.text(max_size=30)
BODIES = st.dictionaries(
    TEXT,
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=4,
)
ROWS = st.lists(TEXT | BODIES | st.builds(lambda body: {"body": body}, BODIES), max_size=30)


def test_a_second_model_for_a_provider_of_one_is_an_error_that_names_both(tmp_path: Path) -> None:
    rows = ["Hi", {"model": "b"}, {"model": "c"}, {"model": "b"}]
    error = refused(rows, tmp_path)
    assert error.errors[0] == (
        2,
        "names the model 'b', but row 1 names 'm', and openai takes one model: split the input by model",
    )


def test_anthropic_takes_several_models_and_each_part_names_its_own(tmp_path: Path) -> None:
    rows = [{"model": model} for model in "aabcc"]
    parts = write(rows, tmp_path, provider="anthropic", limits=replace(limits_of("anthropic"), rows=3))
    assert [part.models for part in parts] == [("a", "b"), ("c",)]


def test_rows_of_gemini_bedrock_and_vertex_name_no_model(tmp_path: Path) -> None:
    for provider in ("gemini", "bedrock", "vertex"):
        assert write(["Hi"], tmp_path, provider=provider, model="m")[0].models == ()
        assert "m" not in next(iter(lines(write(["Hi"], tmp_path, provider=provider, model="m"))))


def test_no_rows_make_no_parts(tmp_path: Path) -> None:
    assert write([], tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_part_has_its_size_and_digest(tmp_path: Path) -> None:
    (part,) = write(["Hi", "Hello"], tmp_path)
    content = part.path.read_bytes()
    assert part == Part(1, tmp_path / "part-0001.jsonl", 2, len(content), hashlib.sha256(content).hexdigest(), ("m",))


def test_parts_are_filled_to_the_last_byte(tmp_path: Path) -> None:
    size = write(["Hi"], tmp_path)[0].bytes
    parts = write(["Hi"] * 5, tmp_path, limits=replace(limits_of("openai"), bytes=2 * size))
    assert [(part.number, part.rows, part.bytes) for part in parts] == [
        (1, 2, 2 * size),
        (2, 2, 2 * size),
        (3, 1, size),
    ]


def test_a_row_that_is_too_large_is_an_error(tmp_path: Path) -> None:
    size = write(["Hi"], tmp_path)[0].bytes
    limits = replace(limits_of("openai"), bytes=size)
    write(["Hi"], tmp_path, limits=limits)[0].path.unlink()
    assert refused(["Hi", "Hi!"], tmp_path, limits=limits).errors == [
        (2, f"takes {size + 1} bytes, and openai takes at most {size}")
    ]


def test_a_row_of_embeddings_counts_as_many_as_it_has_inputs(tmp_path: Path) -> None:
    limits = replace(limits_of("openai"), rows=4)
    inputs: list[Any] = [["a", "b"], "a", ["a", "b"], [1, 2, 3, 4, 5], [[1], [2]]]
    parts = write([{"input": one} for one in inputs], tmp_path, endpoint="/v1/embeddings", limits=limits)
    assert [part.rows for part in parts] == [2, 2, 1]
    for part in parts:
        part.path.unlink()
    for endpoint in ("/v1/embeddings", "/embeddings"):
        assert "has 5 inputs" in reason({"input": ["a"] * 5}, tmp_path, endpoint=endpoint, limits=limits)


def test_max_rows_and_max_input_bytes_stop_reading_at_once(tmp_path: Path) -> None:
    read = []

    def rows() -> Iterator[str]:
        for number in range(1000):
            read.append(number)
            yield "Hi"

    size = write(["Hi"], tmp_path)[0].bytes
    write(["Hi"] * 3, tmp_path, max_rows=3, max_input_bytes=3 * size)[0].path.unlink()
    assert refused(rows(), tmp_path, max_rows=3).errors == [(4, "is one more than max_rows=3 allows")]
    assert len(read) == 4
    read.clear()
    error = refused(rows(), tmp_path, max_input_bytes=3 * size)
    assert error.errors == [(4, f"makes the input larger than max_input_bytes={3 * size} allows")]
    assert len(read) == 4


def test_a_last_part_that_is_too_small_for_bedrock_gets_rows_from_the_part_before(tmp_path: Path) -> None:
    limits = replace(limits_of("bedrock"), rows=50, min_rows=10)
    rows = [f"Hi {number}" for number in range(103)]
    parts = write(rows, tmp_path, provider="bedrock", limits=limits)
    assert [part.rows for part in parts] == [50, 43, 10]
    assert [line["modelInput"]["messages"][0]["content"] for line in lines(parts)] == rows
    for part in parts:
        content = part.path.read_bytes()
        assert (part.bytes, part.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert content.count(b"\n") == part.rows


def test_too_few_rows_for_bedrock_are_an_error(tmp_path: Path) -> None:
    error = refused(["Hi"] * 99, tmp_path, provider="bedrock", limits=limits_of("bedrock"))
    assert "has 99 rows, but the provider takes no batch with fewer than 100" in str(error)
    assert "nothing is billed" in str(error)
    refused(["Hi"] * 15, tmp_path, provider="bedrock", limits=replace(limits_of("bedrock"), rows=10, min_rows=8))


def test_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        write((f"Hi {number}" for number in range(count)), tmp_path)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(40_000) < peak(10_000) + 500_000


def test_an_exception_of_the_rows_passes_through_and_leaves_no_file(tmp_path: Path) -> None:
    def rows() -> Iterator[str]:
        yield from ["Hi"] * 10
        raise KeyError("mine")

    with pytest.raises(KeyError):
        write(rows(), tmp_path, limits=replace(limits_of("openai"), rows=3))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "part-0001.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write(["Hi"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def plain_body(row: Any) -> Any:
    if isinstance(row, str):
        return {"contents": [{"role": "user", "parts": [{"text": row}]}]}
    return row.get("body", row) if row.keys() == {"body"} else row


def is_body(row: Any) -> bool:
    return isinstance(row, str) or row.keys() == {"body"} or not {"custom_id", "body", "key", "request"} & row.keys()


@settings(deadline=None)
@given(ROWS.map(lambda rows: [row for row in rows if is_body(row)]), st.integers(1, 7), st.integers(4000, 9000))
def test_every_row_is_written_once_and_every_part_is_full_and_within_the_limits(
    rows: list[Any], most_rows: int, most_bytes: int
) -> None:
    limits = replace(limits_of("gemini"), rows=most_rows, bytes=most_bytes)
    with TemporaryDirectory() as name:
        folder = Path(name)
        parts = write(rows, folder, provider="gemini", limits=limits)
        assert [line["request"] for line in lines(parts)] == [plain_body(row) for row in rows]
        assert [line["key"] for line in lines(parts)] == [f"row-{place:09d}" for place in range(1, len(rows) + 1)]
        assert [part.number for part in parts] == list(range(1, len(parts) + 1))
        assert sorted(part.path for part in parts) == sorted(folder.iterdir())
        for part in parts:
            content = part.path.read_bytes()
            assert part.rows == content.count(b"\n") <= most_rows
            assert part.bytes == len(content) <= most_bytes
            assert part.sha256 == hashlib.sha256(content).hexdigest()
        for part, following in pairwise(parts):
            first = following.path.read_bytes().split(b"\n")[0]
            assert part.rows == most_rows or part.bytes + len(first) + 1 > most_bytes


@settings(deadline=None, max_examples=50)
@given(st.lists(TEXT | st.builds(lambda text: {"input": text}, TEXT), min_size=1, max_size=10), TEXT, st.data())
def test_the_same_rows_have_the_same_digest_and_others_another(rows: list[Any], text: str, data: st.DataObject) -> None:
    def digest(rows: list[Any]) -> str:
        with TemporaryDirectory() as folder:
            parts = write(rows, Path(folder), limits=replace(limits_of("openai"), rows=3))
            return ",".join(part.sha256 for part in parts)

    place = data.draw(st.integers(0, len(rows) - 1))
    others = [*rows[:place], {"input": text}, *rows[place + 1 :]]
    assert digest(rows) == digest(list(rows))
    assert (digest(others) == digest(rows)) is (others == rows)
    assert digest(rows[:-1]) != digest(rows)


@settings(deadline=None, max_examples=50)
@given(
    rows=st.lists(st.text(max_size=20) | st.builds(lambda text: {"input": text}, st.text(max_size=20)), max_size=10),
    most_rows=st.integers(1, 6),
    most_bytes=st.integers(400, 2000),
)
def test_the_digest_of_an_input_does_not_depend_on_how_it_is_split(
    rows: list[Any], most_rows: int, most_bytes: int
) -> None:
    small = replace(limits_of("openai"), rows=most_rows, bytes=most_bytes)
    with TemporaryDirectory() as folder:
        whole = written(rows, Path(folder)).digest
        split = written(rows, Path(folder), limits=small)
        content = b"".join(part.path.read_bytes() for part in split.parts)
    assert split.digest == whole == hashlib.sha256(content).hexdigest()


def test_the_digest_survives_rows_that_are_moved_into_a_last_part_that_is_too_small(tmp_path: Path) -> None:
    rows = [f"Hi {number}" for number in range(103)]
    limits = replace(limits_of("bedrock"), rows=50, min_rows=10)
    moved = written(rows, tmp_path, provider="bedrock", limits=limits)
    assert [part.rows for part in moved.parts] == [50, 43, 10]
    assert moved.digest == written(rows, tmp_path, provider="bedrock").digest


def test_the_digest_tells_other_rows_another_order_and_another_endpoint(tmp_path: Path) -> None:
    inputs = [["a", "b"], ["b", "a"], ["a"], ["a", "b", "b"], ["a", {"x": "b"}], []]
    digests = {
        written(rows, tmp_path, endpoint=endpoint).digest for rows in inputs for endpoint in (CHAT, "/v1/responses")
    }
    assert len(digests) == 2 * len(inputs) - 1  # no rows have no endpoint
