"""Results in any order become one row for each row of the input, in the order of the input."""

from __future__ import annotations

import json
import tracemalloc
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator
from support.result_lines import failed, jsonl, succeeded

from airflow_bifrost.results.reader import read_rows
from airflow_bifrost.results.rows import RowError, RowOutcome, Usage
from airflow_bifrost.results.tally import Tally
from airflow_bifrost.results.writer import ResultsWriter


def write(ids: Sequence[str], *sources: bytes, uri: str) -> tuple[list[dict[str, Any]], Tally]:
    with ResultsWriter() as results:
        for source in sources:
            results.add_lines([source])
        tally = results.write(ids, uri)
    return list(read_rows(uri)), tally


def test_rows_are_kept_in_unnamed_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    with ResultsWriter() as results:
        results.add(succeeded(f"row-{number}", "x" * 10_000) for number in range(1000))
        assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        tracemalloc.start()
        with ResultsWriter() as results:
            results.add_lines(jsonl(succeeded(f"row-{number}", "x" * 1000)) for number in range(rows))
            results.write((f"row-{number}" for number in range(rows)), tmp_path / "out.jsonl")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return int(peak)

    peak(10)
    assert peak(5000) < peak(500) + 200_000


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_chunks_may_be_split_anywhere(size: int, tmp_path: Path) -> None:
    source = (
        jsonl(succeeded("a", "é\u2028✓"), b"\n", b"  \r\n", succeeded("b"))[:-1] + b"\r\n" + jsonl(succeeded("c"))[:-1]
    )
    with ResultsWriter() as results:
        results.add_lines(source[start : start + size] for start in range(0, len(source), size))
        tally = results.write("abc", tmp_path / "out.jsonl")
    assert (tally.succeeded, tally.unreadable) == (3, 0)
    assert next(read_rows(tmp_path / "out.jsonl"))["text"] == "é\u2028✓"


def test_lines_that_are_not_results_are_counted_and_left_out(tmp_path: Path) -> None:
    odd = (b"this line is not json\n", b"[]\n", b"7\n", b'{"custom_id": null}\n', b"\xff\xfe\n", b"[" * 10**5 + b"\n")
    rows, tally = write(["a"], jsonl(*odd, succeeded("a")), uri=f"{tmp_path}/out.jsonl")
    assert [row["outcome"] for row in rows] == ["succeeded"]
    assert tally.unreadable == len(odd)


def test_a_row_that_the_gateway_invents_is_not_counted(tmp_path: Path) -> None:
    said = "Batch completed with state: BATCH_STATE_SUCCEEDED. No results available."
    with ResultsWriter() as results:
        results.add([{"custom_id": "info", "response": {"status_code": 200, "body": {"message": said}}}])
        tally = results.write(["a", "info"], tmp_path / "out.jsonl")
    assert (tally.missing, tally.unreadable, tally.unknown) == (2, 0, 0)


def test_lone_surrogates_are_replaced(tmp_path: Path) -> None:
    line = b'{"custom_id": "\\ud83d!", "response": {"status_code": 200, "body": {"text": "\\ude00 \\ud83d\\ude00", "x": NaN}}}\n'
    rows, tally = write(["\ud83d!", "\udfff"], line, uri=f"{tmp_path}/out.jsonl")
    assert [(row["custom_id"], row["outcome"], row["text"]) for row in rows] == [
        ("?!", "succeeded", "? 😀"),
        ("?", "missing", None),
    ]
    assert tally.unreadable == 0


def test_lone_surrogates_in_native_results_are_replaced(tmp_path: Path) -> None:
    with ResultsWriter() as results:
        results.add([succeeded("\ud83d", "\ud83d", model="\udfff"), succeeded("b", model="\udfff")])
        tally = results.write(["\ud83d", "b"], tmp_path / "out.jsonl")
    assert [row["text"] for row in read_rows(tmp_path / "out.jsonl")] == ["?", "Hi"]
    assert tally.succeeded == 2


def test_the_first_success_counts_of_several_results_for_a_row(tmp_path: Path) -> None:
    lines = [failed("a", "first"), succeeded("a", "second"), succeeded("a", "third"), failed("a", "fourth")]
    rows, tally = write(["a"], jsonl(*lines), uri=f"{tmp_path}/out.jsonl")
    assert (rows[0]["text"], tally.duplicates, tally.succeeded) == ("second", 3, 1)


def test_the_last_counts_of_several_failures_of_a_row(tmp_path: Path) -> None:
    rows, tally = write(["a"], jsonl(failed("a", "first")), jsonl(failed("a", "second")), uri=f"{tmp_path}/out.jsonl")
    assert (rows[0]["error"]["code"], tally.duplicates) == ("second", 1)


def test_results_of_unknown_rows_are_not_written_but_their_tokens_count(tmp_path: Path) -> None:
    lines = [succeeded("x", usage={"total_tokens": 5}), succeeded("a"), succeeded("y"), failed("y")]
    rows, tally = write(["a"], jsonl(*lines), uri=f"{tmp_path}/out.jsonl")
    assert [row["custom_id"] for row in rows] == ["a"]
    assert (tally.unknown, tally.duplicates, tally.usage) == (2, 1, Usage(0, 0, 5))


class Away(Exception):
    """Raised when the source of the chunks breaks off."""


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2000), st.booleans())
def test_a_source_that_breaks_off_and_is_read_again_counts_once(cut: int, tokens: bool) -> None:
    usage = {"usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}} if tokens else {}
    source = jsonl(
        failed("a"), succeeded("b", model="m", **usage), b"broken\n", succeeded("c", model="m", **usage), failed("a")
    )

    def breaking() -> Iterator[bytes]:
        yield source[:cut]
        raise Away

    once, twice = f"memory://{uuid.uuid4().hex}/out.jsonl", f"memory://{uuid.uuid4().hex}/out.jsonl"
    with ResultsWriter() as whole, ResultsWriter() as broken:
        whole.add_lines([source])
        with pytest.raises(Away):
            broken.add_lines(breaking())
        assert broken.received() == {}
        broken.add_lines([source])
        assert broken.received() == whole.received() == {"failed": 2, "succeeded": 2}
        assert broken.write("abc", twice) == whole.write("abc", once)
    assert list(read_rows(twice)) == list(read_rows(once))
    MemoryFileSystem.store.clear()


def test_a_row_that_was_set_as_absent_is_not_a_duplicate(tmp_path: Path) -> None:
    with ResultsWriter() as results:
        results.add([failed("a", "own")])
        results.add_absent("abc", RowOutcome.EXPIRED, RowError("expired"))
        assert results.received() == {"failed": 1}
        tally = results.write("abc", tmp_path / "out.jsonl")
    assert [row["error"]["code"] for row in read_rows(tmp_path / "out.jsonl")] == ["own", "expired", "expired"]
    assert (tally.failed, tally.expired, tally.duplicates, tally.unknown) == (1, 2, 0, 0)


def test_an_invalid_answer_counts_as_a_success_of_the_provider(tmp_path: Path) -> None:
    with ResultsWriter(output_type=int) as results:
        results.add([succeeded("a", "1"), succeeded("b", "one")])
        assert results.received() == {"succeeded": 2}
        tally = results.write("ab", tmp_path / "out.jsonl")
    assert (tally.succeeded, tally.failed) == (1, 1)


def test_no_rows_give_an_empty_file(tmp_path: Path) -> None:
    rows, tally = write([], uri=f"{tmp_path}/out.jsonl")
    assert (rows, tally) == ([], Tally())


def test_retryable_rows_are_reported_in_the_order_of_the_input(tmp_path: Path) -> None:
    with ResultsWriter() as results:
        assert list(results.retryable("ab")) == []
        results.add([succeeded("a"), failed("b"), failed("c", "invalid_request"), failed("d")])
        results.add([succeeded("d")])
        results.add_absent("e", RowOutcome.CANCELLED, RowError("cancelled"))
        results.add_absent("f", RowOutcome.EXPIRED, RowError("expired"))
        assert list(results.retryable("fedcbax")) == [True, False, False, False, True, False, False]
        assert list(results.retryable("fe", cancelled=True)) == [True, True]
        assert list(results.retryable("fe", failed=False, cancelled=True)) == [False, True]
        assert list(results.retryable("fe", failed=False)) == []


def test_a_validator_that_crashes_is_an_error_that_names_the_row() -> None:
    def broken(value: int) -> int:
        return {}[value]

    with (
        ResultsWriter(output_type=Annotated[int, AfterValidator(broken)]) as results,
        pytest.raises(KeyError) as caught,
    ):
        results.add([succeeded("a", "1")])
    assert "row 'a'" in caught.value.__notes__[0]


def test_large_rows_do_not_accumulate_in_memory(tmp_path: Path) -> None:
    def write(rows: int) -> int:
        with ResultsWriter() as results:
            for number in range(rows):
                results.add([succeeded(f"row-{number}", "x" * 2**20)])
            tracemalloc.start()
            results.write((f"row-{number}" for number in range(rows)), tmp_path / "out.jsonl")
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return int(peak)

    assert write(40) < write(4) + 2**20


def test_usage_is_summed_by_model_and_rows_that_were_cut_off_are_counted(tmp_path: Path) -> None:
    cut = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "length"}]}
    lines = [
        succeeded("a", model="m1", usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}),
        succeeded("b", model="m2", usage={"prompt_tokens": 10, "total_tokens": 10}),
        succeeded("c", model="m1", usage={"prompt_tokens": 100, "completion_tokens": 200}, **cut),
        succeeded("d", usage={"total_tokens": 7}),
        succeeded("e", model="m3"),
    ]
    _, tally = write("abcde", jsonl(*lines), uri=f"{tmp_path}/out.jsonl")
    assert tally.usage_by_model == {"m1": Usage(101, 202, 303), "m2": Usage(10, 0, 10), "unknown": Usage(0, 0, 7)}
    assert tally.usage == Usage(111, 202, 320)
    assert tally.cut_off == 1


IDS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True, max_size=12)


@settings(deadline=None, max_examples=100)
@given(st.data(), IDS)
def test_any_results_in_any_order_give_one_row_per_row_of_the_input(data: st.DataObject, ids: list[str]) -> None:
    known = data.draw(st.lists(st.tuples(st.sampled_from(ids), st.booleans()), max_size=30)) if ids else []
    strange = data.draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=3))
    strange = [f"strange {custom_id}" for custom_id in strange if f"strange {custom_id}" not in ids]
    texts = [succeeded(i, str(n)) if ok else failed(i, f"error {n}") for n, (i, ok) in enumerate(known)]
    lines = data.draw(st.permutations([*texts, *(succeeded(custom_id) for custom_id in strange)]))
    source = b"".join(json.dumps(line, ensure_ascii=data.draw(st.booleans())).encode() + b"\n" for line in lines)
    uri = f"memory://{uuid.uuid4().hex}/out.jsonl"
    rows, tally = write(ids, source, uri=uri)
    MemoryFileSystem.store.clear()

    assert [row["custom_id"] for row in rows] == ids
    for row in rows:
        own = [line for line in lines if line["custom_id"] == row["custom_id"]]
        won = next((line for line in own if line["response"]), own[-1] if own else None)
        if won is None:
            assert row["outcome"] == "missing"
        elif won["response"]:
            assert (row["outcome"], row["text"]) == (
                "succeeded",
                won["response"]["body"]["choices"][0]["message"]["content"],
            )
        else:
            assert (row["outcome"], row["error"]["code"]) == ("failed", won["error"]["code"])
    assert tally.total == len(ids)
    assert tally.duplicates == len(lines) - len({line["custom_id"] for line in lines})
    assert tally.unknown == len(set(strange))


@settings(deadline=None, max_examples=100)
@given(st.text())
def test_any_text_is_written_unchanged(text: str) -> None:
    uri = f"memory://{uuid.uuid4().hex}/out.jsonl"
    rows, _ = write(["a"], jsonl(succeeded("a", text)), uri=uri)
    MemoryFileSystem.store.clear()
    assert rows[0]["text"] == text
