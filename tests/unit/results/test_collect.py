"""``collect`` returns all results of a batch, or raises an error. The answers are scripted: no HTTP, no real time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.scripts import Clock, Script, counted, line, read

from airflow_bifrost.exceptions import (
    BatchNotFound,
    BifrostAuthError,
    BifrostProtocolError,
    BifrostUnavailable,
    ResultsUnavailable,
)
from airflow_bifrost.results.collect import collect
from airflow_bifrost.results.ids import CustomIds
from airflow_bifrost.results.raw import RawLines
from airflow_bifrost.results.writer import ResultsWriter

AWAY = BifrostUnavailable("The download broke off.")
GONE = BatchNotFound("There is no such file.")


def native(*ids: str, batch_id: str = "b1", **members: Any) -> bytes:
    results = [{"custom_id": i, "result": {"type": "succeeded", "message": {"content": [{"text": i}]}}} for i in ids]
    return json.dumps({"batch_id": batch_id, "results": results, **members}).encode()


@pytest.fixture
def clock() -> Clock:
    return Clock()


# Reading again

BAD: dict[str, Any] = {
    "empty": b"",
    "garbage": b"\x00\xff",
    "half": line("a")[:-20],
    "one of two": line("a"),
    "an error": b'{"error": {"message": "no"}}',
    "broken off": AWAY,
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_an_incomplete_answer_is_read_again_after_increasing_pauses(bad: Any, clock: Clock) -> None:
    script = Script([counted(2)], {"out": [bad, bad, bad, line("a") + line("b")]})
    assert read(script, clock) == ["a", "b"]
    assert clock.pauses == [5.0, 10.0, 20.0]


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_an_incomplete_answer_in_the_last_attempt_is_a_transient_error(bad: Any, clock: Clock) -> None:
    script = Script([counted(2)], {"out": [bad]})
    with pytest.raises((BifrostProtocolError, BifrostUnavailable)) as caught:
        read(script, clock)
    assert caught.value.transient
    assert script.opened == ["out"] * 4


def test_a_permanent_error_is_raised_at_once(clock: Clock) -> None:
    script = Script([counted(2)], {"out": [BifrostAuthError("refused")]})
    with pytest.raises(BifrostAuthError):
        read(script, clock)
    assert clock.pauses == []


@pytest.mark.parametrize("sink", [ResultsWriter, RawLines, CustomIds])
def test_rows_of_an_incomplete_answer_are_dropped(sink: Callable[[], Any], clock: Clock, tmp_path: Path) -> None:
    answers = [line("a") + b"garbage\n", AWAY, line("a") + line("b")]
    taken = sink()
    collect(Script([counted(2)], {"out": answers}), "b1", "openai", taken, policy=clock.policy())  # type: ignore[arg-type]
    if isinstance(taken, ResultsWriter):
        tally = taken.write(taken.custom_ids(), tmp_path / "out.jsonl")
        assert (tally.total, tally.succeeded, tally.duplicates, tally.unreadable) == (2, 2, 0, 0)
    elif isinstance(taken, RawLines):
        with (tmp_path / "out.jsonl").open("wb") as file:
            taken.copy_to(file)
        assert (tmp_path / "out.jsonl").read_bytes() == line("a") + line("b")
    else:
        assert taken.ids == ["a", "b"]


def test_results_are_complete_if_each_row_has_one_even_if_the_batch_counts_more(clock: Clock) -> None:
    script = Script([counted(9)], {"out": [line("a") + b"garbage\n" + line("b")]})
    assert read(script, clock, rows=2) == ["a", "b"]
    with pytest.raises(BifrostProtocolError):
        read(script, clock, rows=3)


def test_incomplete_results_are_accepted_after_the_last_attempt_if_allowed(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script([counted(3)], {"out": [line("a") + b"garbage\n"]})
    assert read(script, clock, policy=clock.policy(allow_incomplete=True)) == ["a"]
    assert len(script.opened) == 4
    assert "1 results can be read, but the batch counts 3. 1 lines cannot be read." in caplog.text


def test_results_are_read_again_if_the_counts_do_not_say_whether_rows_are_missing(
    clock: Clock,
) -> None:
    batch = {"status": "completed", "output_file_id": "out", "error_file_id": "err"}
    half, whole = line("b"), line("b") + line("c")
    assert read(Script([batch], {"out": [line("a")], "err": [half, whole]}), clock, rows=3) == ["a", "b", "c"]
    assert read(Script([batch], {"out": [line("a")], "err": [half]}), clock, rows=3) == ["a", "b"]  # then c is missing
    assert clock.pauses == [5.0, 5.0, 10.0, 20.0]


def test_rows_of_a_batch_that_ended_early_need_no_result(clock: Clock) -> None:
    script = Script([counted(1, status="expired")], {"out": [line("a")]})
    assert read(script, clock, rows=3) == ["a"]
    assert clock.pauses == []


def test_several_results_of_one_row_count_once(clock: Clock) -> None:
    """Otherwise a repeated line would hide that another row's line is missing."""
    script = Script([counted(2)], {"out": [line("a") * 2, line("a") + line("b")]})
    assert read(script, clock) == ["a", "b"]
    with pytest.raises(BifrostProtocolError, match="1 results can be read, but the batch counts 2"):
        read(Script([counted(2)], {"out": [line("a") * 2]}), clock)
    both = counted(1, 1, error_file_id="err")
    with pytest.raises(BifrostProtocolError, match="0 results can be read, but the batch counts 1"):
        read(Script([both], {"out": [line("a")], "err": [line("a")]}), clock)


def test_the_file_of_another_batch_is_read_again(clock: Clock) -> None:
    other, own = line("x") + line("y"), line("a") + line("b")
    wanted: dict[str, Any] = {"rows": 2, "ids": ["a", "b"]}
    assert read(Script([counted(2)], {"out": [other, own]}), clock, **wanted) == ["a", "b"]
    for batch in (counted(2), counted(0, status="expired"), {"status": "completed", "output_file_id": "out"}):
        with pytest.raises(BifrostProtocolError, match="2 results belong to rows that are not in the batch") as caught:
            read(Script([batch], {"out": [other]}), clock, **wanted)
        assert caught.value.transient


def test_results_of_other_rows_do_no_harm_if_each_row_has_its_own(clock: Clock) -> None:
    script = Script([counted(1)], {"out": [line("info") + line("a")]})
    assert read(script, clock, rows=1, ids=["a"]) == ["info", "a"]


def test_counts_of_fewer_rows_than_the_batch_has_prove_nothing(clock: Clock) -> None:
    script = Script([counted(1)], {"out": [line("a"), line("a") + line("b")]})
    assert read(script, clock, rows=2) == ["a", "b"]


def test_results_of_which_the_counts_do_not_say_whether_they_are_all_are_not_complete(clock: Clock) -> None:
    script = Script([counted(1)], {"out": [line("a")]})
    found = collect(script, "b1", "openai", CustomIds(), rows=2, policy=clock.policy())  # type: ignore[arg-type]
    assert not found.complete
    assert script.opened == ["out"] * 4


# The error file


def test_an_error_file_that_is_named_late_is_read(clock: Clock) -> None:
    late = counted(1, 1)
    script = Script([late, late, late | {"error_file_id": "err"}], {"out": [line("a")], "err": [line("b")]})
    assert read(script, clock, rows=2) == ["a", "b"]
    assert clock.pauses == [15.0]


def test_an_error_file_that_never_appears_does_not_block_the_output(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    assert read(Script([counted(1, 1)], {"out": [line("a")]}), clock, rows=2) == ["a"]
    assert clock.time == 600
    assert "counts failed rows, but has not named its error file" in caplog.text


def test_no_error_file_is_awaited_if_the_output_file_has_the_failed_rows(clock: Clock) -> None:
    assert read(Script([counted(1, 1)], {"out": [line("a") + line("b")]}), clock, rows=2) == ["a", "b"]
    assert clock.pauses == []


def test_a_deleted_error_file_is_left_out(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    script = Script([counted(1, 1, error_file_id="err")], {"out": [line("a")], "err": [GONE]})
    assert read(script, clock) == ["a"]
    assert "They were not billed" in caplog.text


def test_an_error_file_that_appears_late_is_read(clock: Clock) -> None:
    script = Script([counted(1, 1, error_file_id="err")], {"out": [line("a")], "err": [GONE, line("b")]})
    assert read(script, clock) == ["a", "b"]


def test_a_deleted_error_file_is_an_error_if_it_may_hold_all_results(clock: Clock) -> None:
    batch: dict[str, Any] = {"status": "completed", "error_file_id": "err"}
    with pytest.raises(BatchNotFound):
        read(Script([batch], {"err": [GONE]}), clock)
    proof = {"request_counts": {"total": 1, "completed": 0, "failed": 1}}
    assert read(Script([batch | proof], {"err": [GONE]}), clock) == []


# Files that are late


@pytest.mark.parametrize("status", ["completed", "expired", "cancelled", "failed"])
def test_a_batch_is_polled_until_it_names_its_output(status: str, clock: Clock) -> None:
    late = counted(1, status=status, output_file_id=None)
    script = Script([late, late, late | {"output_file_id": "out"}], {"out": [line("a")]})
    assert read(script, clock) == ["a"]
    assert clock.pauses == [15.0, 15.0]


def test_a_batch_that_never_names_its_output_is_an_error_after_the_grace(clock: Clock) -> None:
    script = Script([counted(1, output_file_id=None)])
    with pytest.raises(BifrostProtocolError, match=r"but has not named .* within 20 s") as caught:
        read(script, clock, policy=clock.policy(grace=20.0))
    assert caught.value.transient
    assert clock.pauses == [15.0, 5.0]


ERRORS_ONLY: dict[str, Any] = {"status": "completed", "error_file_id": "err"}


def test_an_error_file_that_is_named_before_the_output_file_is_not_the_whole_result(clock: Clock) -> None:
    script = Script(
        [ERRORS_ONLY] * 3 + [ERRORS_ONLY | {"output_file_id": "out"}], {"out": [line("a")], "err": [line("b")]}
    )
    assert read(script, clock, rows=2) == ["a", "b"]


def test_an_error_file_alone_is_the_whole_result_only_if_it_has_every_row(clock: Clock) -> None:
    whole = {"err": [line("a") + line("b")]}
    assert read(Script([ERRORS_ONLY], whole), clock, rows=2) == ["a", "b"]
    for rows in (3, None):
        with pytest.raises(BifrostProtocolError, match="has not named its output file within 600 s") as caught:
            read(Script([ERRORS_ONLY], whole), clock, rows=rows)
        assert caught.value.transient


def test_without_an_output_file_the_rows_of_the_error_file_are_accepted_if_allowed(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    policy = clock.policy(allow_incomplete=True)
    assert read(Script([ERRORS_ONLY], {"err": [line("a")]}), clock, policy=policy) == ["a"]
    assert read(Script([{"status": "completed"}]), clock, policy=policy) == []
    assert "has not named its output file within 600 s" in caplog.text


@pytest.mark.parametrize("status", ["expired", "cancelled", "failed"])
def test_a_batch_that_ended_early_without_counts_may_have_no_output_file(status: str, clock: Clock) -> None:
    assert read(Script([ERRORS_ONLY | {"status": status}], {"err": [line("a")]}), clock, rows=2) == ["a"]
    assert clock.time == 600


def test_a_running_batch_has_no_results_yet(clock: Clock) -> None:
    with pytest.raises(ResultsUnavailable, match="Wait for it first"):
        read(Script([counted(1, status="in_progress")]), clock)


# Native results


def ended(*ids: str, **members: Any) -> dict[str, Any]:
    counts = {"total": len(ids), "completed": len(ids), "succeeded": len(ids), "failed": 0}
    return {"status": "ended", "request_counts": counts, **members}


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"<html>",
        native("a", "b")[:-30],
        native("a"),
        b'{"results": null}',
        native("a", extra_fields={"parse_errors": [{"line": 2}]}),
        native("a", "b", batch_id="another"),
    ],
    ids=["empty", "web page", "half", "one of two", "null", "lines left out", "another batch"],
)
def test_native_results_that_are_incomplete_or_of_another_batch_are_read_again(bad: bytes, clock: Clock) -> None:
    assert read(Script([ended("a", "b")], {"native": [bad, native("a", "b")]}), clock, "anthropic") == ["a", "b"]
    with pytest.raises(BifrostProtocolError) as caught:
        read(Script([ended("a", "b")], {"native": [bad]}), clock, "anthropic")
    assert caught.value.transient


def test_lines_that_the_gateway_dropped_count_as_unreadable(clock: Clock) -> None:
    answer = native("a", extra_fields={"parse_errors": [{"line": 2}, {"line": 3}]})
    script = Script([{"status": "ended"}], {"native": [answer]})
    with pytest.raises(BifrostProtocolError, match="2 lines cannot be read"):
        read(script, clock, "anthropic")


@pytest.mark.parametrize("batch_id", ["batches-xyz", "batches/xyz", "xyz"])
def test_every_form_of_a_gemini_id_names_the_same_batch(batch_id: str, clock: Clock) -> None:
    ids = CustomIds()
    script = Script([counted(1, output_file_id=None)], {"native": [native("a", batch_id=batch_id)]})
    collect(script, "batches-xyz", "gemini", ids, policy=clock.policy())  # type: ignore[arg-type]
    assert ids.ids == ["a"]


def test_the_results_of_a_cancelled_gemini_batch_may_be_null(clock: Clock) -> None:
    batch = counted(0, 0, "cancelled", output_file_id=None)
    assert read(Script([batch], {"native": [b'{"batch_id": "b1", "results": null}']}), clock, "gemini") == []


def test_a_cancelled_gemini_batch_that_counts_answers_but_returns_no_results_is_an_error(clock: Clock) -> None:
    batch = {"status": "cancelled", "request_counts": {"total": 3, "completed": 3, "succeeded": 2, "failed": 1}}
    with pytest.raises(BifrostProtocolError, match="0 results can be read, but the batch counts 2"):
        read(Script([batch], {"native": [b'{"batch_id": "b1", "results": null}']}), clock, "gemini")


def test_a_row_that_the_gateway_invents_is_not_a_result(clock: Clock) -> None:
    message = "Batch completed with state: BATCH_STATE_SUCCEEDED. No results available."
    row = {"custom_id": "info", "response": {"status_code": 200, "body": {"message": message}}}
    answer = json.dumps({"batch_id": "b1", "results": [row]}).encode()
    with pytest.raises(ResultsUnavailable, match="responsesFile"):
        read(Script([counted(1)], {"native": [answer]}), clock, "gemini")
