"""BatchRunOperator over real HTTP: rows in, rows out."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from integration.conftest import End, FakeTI, Store, run_to_its_end
from pydantic import BaseModel

from airflow_bifrost import BatchRunOperator, BifrostHook
from airflow_bifrost._compat import AirflowFailException
from airflow_bifrost.exceptions import BatchFailed, BatchInputError, BifrostProtocolError, BifrostRateLimited
from airflow_bifrost.results import read_rows, source
from airflow_bifrost.submission import ledger, limits
from airflow_bifrost.tasks import run as run_module
from airflow_bifrost.tasks.wait import BatchWait
from airflow_bifrost.testing import Fault, LocalGateway, UpstreamAnswer
from airflow_bifrost.waiting import decision

CREATE = {"method": "POST", "path_contains": "/v1/batches"}


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalGateway]:
    """Its batches end after a moment."""
    monkeypatch.setattr(decision, "MIN_POLL_INTERVAL", 0.0)
    monkeypatch.setattr(ledger, "SETTLE", 0.0)
    monkeypatch.setattr(source, "PAUSE", 0.0)
    with LocalGateway(batch_seconds=0.2) as running:
        monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", running.connection_json(token="sk-bf-good"))
        yield running


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(tmp_path / "out.jsonl")


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch takes three rows."""
    for provider, given in limits.LIMITS.items():
        monkeypatch.setitem(limits.LIMITS, provider, replace(given, rows=3, min_rows=0))


def run(
    output: str,
    rows: Any = None,
    *,
    store: Store | None = None,
    try_number: int = 1,
    remembering: bool = True,
    **arguments: Any,
) -> End:
    given = {"model": "echo-1", "poll_interval": 0.05} | arguments
    if rows is not None:
        given["rows"] = rows
    ti = FakeTI(task_id="run", try_number=try_number)
    return run_to_its_end(
        lambda: BatchRunOperator(task_id="run", output_path=output, **given),
        ti=ti,
        store=store,
        remembering=remembering,
    )


def outcomes(output: str) -> list[str]:
    return [row["outcome"] for row in read_rows(output)]


def test_each_row_has_its_result_in_the_order_of_the_input(gateway: LocalGateway, output: str) -> None:
    prompts = [f"prompt {number}" for number in range(20)]
    end = run(output, prompts)
    assert end.state == "success", end.error
    rows = list(read_rows(output))
    assert [row["text"] for row in rows] == [f"echo: {prompt}" for prompt in prompts]
    assert end.value["output_path"] == output
    assert end.value["rows"]["total"] == end.value["rows"]["succeeded"] == 20
    assert end.value["usage"]["total_tokens"] == sum(row["usage"]["total_tokens"] for row in rows)
    assert list(end.value["usage_by_model"]) == ["echo-1"]
    assert [summary["outcome"] for summary in end.value["batches"]] == ["succeeded"]
    assert end.deferrals == 1


@pytest.mark.parametrize("provider", ["azure", "anthropic", "gemini"])
def test_it_is_the_same_for_other_upstreams(gateway: LocalGateway, output: str, provider: str) -> None:
    params = {"max_tokens": 50} if provider == "anthropic" else None
    end = run(output, ["a", "b"], provider=provider, request_params=params)
    assert end.state == "success", end.error
    assert [row["custom_id"] for row in read_rows(output)] == ["row-000000001", "row-000000002"]
    assert all(row["text"] for row in read_rows(output))


def test_it_works_in_the_worker_too(gateway: LocalGateway, output: str) -> None:
    end = run(output, ["a"], deferrable=False)
    assert (end.state, end.deferrals, outcomes(output)) == ("success", 0, ["succeeded"])


def test_nothing_but_the_output_is_left(gateway: LocalGateway, output: str) -> None:
    run(output, ["a"])
    assert [path.name for path in Path(output).parent.rglob("*")] == ["out.jsonl"]


@pytest.mark.usefixtures("small_parts")
def test_a_large_input_is_split_into_batches_of_which_only_some_are_on_their_way(
    gateway: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once: list[int] = []
    submit = run_module.submit_part

    def counting(*args: Any, **kwargs: Any) -> Any:
        result = submit(*args, **kwargs)
        at_once.append(sum(batch["status"] in ("validating", "in_progress") for batch in gateway.batches))
        return result

    monkeypatch.setattr(run_module, "submit_part", counting)
    end = run(output, [str(number) for number in range(20)], max_parallel_batches=2)
    assert end.state == "success", end.error
    assert [row["text"] for row in read_rows(output)] == [f"echo: {number}" for number in range(20)]
    assert len(gateway.batches) == len(end.value["batches"]) == 7
    assert max(at_once) <= 2


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("deferrable", [True, False])
def test_a_batch_takes_the_place_of_any_that_has_ended_while_a_slow_one_runs_on(
    gateway: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    submit, submitted = run_module.submit_part, []

    def submit_part(*args: Any, **kwargs: Any) -> Any:
        submission = submit(*args, **kwargs)
        submitted.append(submission.batch_id)
        if len(submitted) == 1:
            gateway.set_batch(submission.batch_id, status="in_progress")
        if len(submitted) == 5:
            gateway.set_batch(submitted[0], status=None)
        return submission

    monkeypatch.setattr(run_module, "submit_part", submit_part)
    rows = [str(number) for number in range(14)]
    end = run(output, rows, max_parallel_batches=2, deferrable=deferrable, timeout=30)
    assert end.state == "success", end.error
    assert [row["text"] for row in read_rows(output)] == [f"echo: {row}" for row in rows]


def test_rows_that_failed_for_a_passing_reason_are_sent_again_and_others_are_not(
    gateway: LocalGateway, output: str
) -> None:
    end = run(output, ["fine", "!flaky 503", "!fail 400", "!expire"], max_row_attempts=3)
    assert end.state == "success", end.error
    assert outcomes(output)[:3] == ["succeeded", "succeeded", "failed"]
    assert [batch["rows"] for batch in gateway.batches][:2] == [4, 2]
    assert len(gateway.batches) <= 3


def test_a_row_is_sent_at_most_so_often(gateway: LocalGateway, output: str) -> None:
    end = run(output, ["fine", "!fail 503"], max_row_attempts=2)
    assert end.state == "success"
    assert outcomes(output) == ["succeeded", "failed"]
    assert [batch["rows"] for batch in gateway.batches] == [2, 1]


def test_rows_that_never_came_back_are_missing_and_said(
    gateway: LocalGateway, output: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run(output, ["a", "!missing", "b"])
    assert outcomes(output) == ["succeeded", "missing", "succeeded"]
    assert "1 rows that never came back" in caplog.text


def test_without_any_success_the_task_fails_and_the_output_is_there(gateway: LocalGateway, output: str) -> None:
    end = run(output, ["!fail 400", "!fail 422"])
    assert isinstance(end.error, BatchFailed)
    assert "2 failed" in str(end.error)
    assert outcomes(output) == ["failed", "failed"]
    assert end.xcoms["rows"]["failed"] == 2


def test_what_is_accepted_is_the_users_choice(gateway: LocalGateway, output: str) -> None:
    assert isinstance(run(output, ["a", "!fail 400"], accept=["succeeded"]).error, BatchFailed)
    assert run(output, ["!fail 400"], accept=["failed"]).state == "success"
    assert run(output, ["!fail 400"], soft_fail=True).state == "skipped"


def test_rows_of_a_batch_that_is_cancelled_are_cancelled(gateway: LocalGateway, output: str) -> None:
    class Cancelling(Store):
        def set(self, key: str, value: Any) -> None:
            super().set(key, value)
            for batch in gateway.batches:
                gateway.set_batch(batch["id"], status="cancelled", output_file_id=None, error_file_id=None)

    store = Cancelling()
    end = run(output, ["a", "b"], store=store)
    assert isinstance(end.error, BatchFailed)
    assert outcomes(output) == ["cancelled", "cancelled"]
    again = Store(store)  # a clear
    assert run(output, ["a", "b"], store=again, try_number=2).state == "success"
    assert outcomes(output) == ["succeeded", "succeeded"]


def test_a_task_that_was_ended_and_cancelled_is_run_again_by_a_clear(gateway: LocalGateway, output: str) -> None:
    store = Store()
    gateway.inject(
        Fault(status=400, method="GET", path_contains="/v1/batches/")
    )  # the try ends with its batch on the way
    assert run(output, ["a", "b"], store=store, deferrable=False).state == "failed"
    gateway.set_batch(gateway.batches[0]["id"], status="cancelled", output_file_id=None, error_file_id=None)
    end = run(output, ["a", "b"], store=store, try_number=2, max_row_attempts=1)
    assert end.state == "success", end.error
    assert outcomes(output) == ["succeeded", "succeeded"]
    assert [batch["rows"] for batch in gateway.batches] == [2, 2]


def test_no_rows_are_a_skip_and_no_batch(gateway: LocalGateway, output: str) -> None:
    assert run(output, []).state == "skipped"
    assert not gateway.batches
    assert not Path(output).exists()


def test_a_wrong_row_is_named_before_anything_is_sent(gateway: LocalGateway, output: str) -> None:
    end = run(output, ["a", 7])
    assert isinstance(end.error, BatchInputError)
    assert end.error.errors[0][0] == 2
    assert not gateway.requests


def test_a_clear_after_success_finds_the_output_or_reads_again_and_submits_nothing(
    gateway: LocalGateway, output: str
) -> None:
    store = Store()
    first = run(output, ["a", "b"], store=store)
    assert run(output, ["a", "b"], store=store, try_number=2).value == first.value
    Path(output).unlink()
    assert run(output, ["a", "b"], store=store, try_number=2).state == "success"
    assert outcomes(output) == ["succeeded", "succeeded"]
    assert len(gateway.batches) == 1


def test_without_the_memory_of_airflow_a_file_beside_the_output_remembers(gateway: LocalGateway, output: str) -> None:
    for number in (1, 2):
        assert run(output, ["a"], remembering=False, try_number=number).state == "success"
    assert len(gateway.batches) == 1


@pytest.mark.usefixtures("small_parts")
def test_changed_input_is_submitted_and_the_old_batches_are_cancelled_if_so_said(
    gateway: LocalGateway, output: str
) -> None:
    store = Store()
    gateway.inject(Fault(status=400, method="GET", path_contains="/v1/batches/", times=None))
    assert run(output, [str(number) for number in range(7)], store=store, deferrable=False).state == "failed"
    gateway.clear_faults()
    old = {batch["id"] for batch in gateway.batches}
    for batch_id in old:
        gateway.set_batch(batch_id, status="in_progress")
    end = run(output, ["other"], store=store, try_number=2, on_changed_input="cancel")
    assert end.state == "success", end.error
    assert len(old) == 3
    assert {batch["status"] for batch in gateway.batches if batch["id"] in old} <= {"cancelling", "cancelled"}
    assert len(gateway.batches) == 4


@pytest.mark.usefixtures("small_parts")
def test_input_that_is_changed_back_has_its_rows_again_and_costs_nothing(gateway: LocalGateway, output: str) -> None:
    store, rows = Store(), [str(number) for number in range(7)]
    for number, given in enumerate((rows, ["other"], rows), start=1):
        end = run(output, given, store=store, try_number=number)
        assert end.state == "success", end.error
        assert [row["text"] for row in read_rows(output)] == [f"echo: {row}" for row in given]
    assert len(gateway.batches) == 4


@pytest.mark.usefixtures("small_parts")
def test_rows_whose_batches_were_cancelled_for_another_input_are_answered_when_they_come_back(
    gateway: LocalGateway, output: str
) -> None:
    store, rows = Store(), [str(number) for number in range(7)]
    gateway.inject(Fault(status=400, method="GET", path_contains="/v1/batches/", times=None))
    assert run(output, rows, store=store, deferrable=False).state == "failed"
    gateway.clear_faults()
    old = [batch["id"] for batch in gateway.batches]
    for batch_id in old:
        gateway.set_batch(batch_id, status="in_progress")
    changed = {"store": store, "on_changed_input": "cancel"}
    assert run(output, ["other"], try_number=2, **changed).state == "success"
    for batch_id in old:
        gateway.set_batch(batch_id, status="cancelled", output_file_id=None, error_file_id=None)
    end = run(output, rows, try_number=3, **changed)
    assert end.state == "success", end.error
    assert outcomes(output) == ["succeeded"] * 7


@pytest.mark.usefixtures("small_parts")
def test_at_a_changed_input_every_old_batch_is_cancelled_at_once_also_one_of_which_the_run_has_no_record(
    gateway: LocalGateway, output: str
) -> None:
    class Dies(Store):
        """When the last batch is submitted, and the run is about to note it."""

        def set(self, key: str, value: Any) -> None:
            if key == run_module.MEMORY_KEY and all(piece["batch_id"] for piece in value["pieces"]):
                raise ValueError("killed")
            super().set(key, value)

    store = Dies()
    assert run(output, [str(number) for number in range(7)], store=store).error.args == ("killed",)
    old = {batch["id"] for batch in gateway.batches}
    for batch_id in old:
        gateway.set_batch(batch_id, status="in_progress")
    gateway.inject(Fault(status=400, method="POST", path_contains="/files"))
    end = run(output, ["other"], store=Store(store), try_number=2, on_changed_input="cancel")
    assert end.kind == "BifrostRequestError"
    assert {batch["status"] for batch in gateway.batches if batch["id"] in old} <= {"cancelling", "cancelled"}
    assert len(old) == 3


def test_a_row_whose_second_attempt_a_user_has_cancelled_is_sent_again(
    gateway: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, submitted = run_module.submit_part, []

    def submit_part(*args: Any, **kwargs: Any) -> Any:
        submission = submit(*args, **kwargs)
        submitted.append(submission.batch_id)
        if len(submitted) == 2:
            gateway.inject(Fault(status=400, method="GET", path_contains="/v1/batches/", times=None))
        return submission

    monkeypatch.setattr(run_module, "submit_part", submit_part)
    again = {"store": Store(), "max_row_attempts": 2, "deferrable": False}
    assert run(output, ["fine", "!flaky 503"], **again).state == "failed"
    gateway.clear_faults()
    gateway.set_batch(submitted[1], status="cancelled", output_file_id=None, error_file_id=None)
    assert run(output, ["fine", "!flaky 503"], **again, try_number=2).state == "success"
    assert outcomes(output) == ["succeeded", "succeeded"]


def test_rows_that_are_sent_again_are_split_by_what_the_gateway_takes(
    monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.setattr(decision, "MIN_POLL_INTERVAL", 0.0)
    with LocalGateway(batch_seconds=0.2, max_body_mb=1) as gateway:
        monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", gateway.connection_json(token="sk-bf-good"))
        rows = [f"!flaky 503 {number} " + "x" * 300_000 for number in range(6)]
        end = run(output, rows, max_request_body_size_mb=1)
        assert end.state == "success", end.error
        assert [batch["rows"] for batch in gateway.batches] == [3, 3, 3, 3]


def test_rows_that_are_done_and_that_no_file_has_are_looked_for_again_by_a_retry(
    gateway: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = run_module.submit_part
    done = {"status": "completed", "request_counts": {"total": 1, "completed": 1, "failed": 0}}

    def submit_part(*args: Any, **kwargs: Any) -> Any:
        submission = submit(*args, **kwargs)
        gateway.set_batch(submission.batch_id, output_file_id="", **done)
        return submission

    monkeypatch.setattr(run_module, "submit_part", submit_part)
    store = Store()
    end = run(output, ["a"], store=store)
    assert isinstance(end.error, BifrostProtocolError)
    assert not isinstance(end.error, AirflowFailException)
    assert not Path(output).exists()
    [batch] = gateway.batches
    gateway.set_batch(batch["id"], output_file_id="later", error_file_id=None)
    end = run(output, ["a"], store=store, try_number=2)
    assert "later" in str(end.error)  # where it looked
    assert len(gateway.batches) == 1


def test_the_input_is_not_taken_for_the_output(gateway: LocalGateway, output: str) -> None:
    Path(output).write_text('"a"\n')
    end = run(output, input_path=output)
    assert "the rows would be lost" in str(end.error)
    assert Path(output).read_text() == '"a"\n'
    assert not gateway.requests


@pytest.mark.parametrize("path", ["", "{folder}", "{folder}/new/", "foo://bucket/out.jsonl"])
def test_an_output_that_cannot_be_written_is_an_error_before_anything_is_submitted(
    gateway: LocalGateway, tmp_path: Path, path: str
) -> None:
    end = run(path.format(folder=tmp_path), ["a"])
    assert isinstance(end.error, ValueError)
    assert not gateway.requests


def test_an_output_that_another_has_replaced_is_written_again(gateway: LocalGateway, output: str) -> None:
    store = Store()
    run(output, ["a"], store=store)
    Path(output).write_text("another's\n")
    assert run(output, ["a"], store=store, try_number=2).state == "success"
    assert outcomes(output) == ["succeeded"]
    assert len(gateway.batches) == 1


def test_doubt_is_no_skip(gateway: LocalGateway, output: str) -> None:
    store = Store()
    again = {"store": store, "provider": "anthropic", "request_params": {"max_tokens": 9}, "soft_fail": True}
    gateway.inject(Fault(status=504, applied=True, **CREATE))
    run(output, ["a"], **again)
    end = run(output, ["a"], **again, try_number=2)
    assert (end.state, end.kind) == ("failed", "SubmissionInDoubt")


FULL = UpstreamAnswer(
    status=429,
    body={"error": {"message": "Enqueued token limit reached for echo-1.", "code": "token_limit_exceeded"}},
)


@pytest.fixture
def refuse_create(gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the n-th create meet a full queue."""

    def refuse(number: int) -> None:
        calls = count(1)
        submit = run_module.submit_part

        def submit_part(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == number:
                gateway.inject(Fault(upstream=FULL, **CREATE))
            return submit(*args, **kwargs)

        monkeypatch.setattr(run_module, "submit_part", submit_part)

    return refuse


@pytest.mark.usefixtures("small_parts")
def test_a_part_that_a_full_queue_refuses_waits_for_its_siblings(
    gateway: LocalGateway, output: str, refuse_create: Callable[[int], None]
) -> None:
    refuse_create(2)
    end = run(output, ["a", "b", "c", "d"], max_row_attempts=1)
    assert end.state == "success", end.error
    assert outcomes(output) == ["succeeded"] * 4
    assert (len(gateway.batches), end.deferrals) == (2, 2)


def test_a_part_that_is_alone_in_a_full_queue_is_halved(
    gateway: LocalGateway, output: str, refuse_create: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "WORTH_HALVING", 4)
    refuse_create(1)
    prompts = [str(number) for number in range(5)]
    end = run(output, prompts, max_row_attempts=1)
    assert end.state == "success", end.error
    assert [row["text"] for row in read_rows(output)] == [f"echo: {prompt}" for prompt in prompts]
    assert sorted(batch["rows"] for batch in gateway.batches) == [2, 3]


def test_a_part_too_small_to_be_halved_is_submitted_by_the_next_try(
    gateway: LocalGateway, output: str, refuse_create: Callable[[int], None]
) -> None:
    store = Store()
    refuse_create(1)
    assert isinstance(run(output, ["a"], store=store).error, BifrostRateLimited)
    assert run(output, ["a"], store=store, try_number=2).state == "success"
    assert len(gateway.batches) == 1


def test_a_batch_that_fails_at_a_full_queue_is_submitted_again_without_a_rows_attempt(
    gateway: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = run_module.submit_part

    def submit_part(*args: Any, **kwargs: Any) -> Any:
        submission = submit(*args, **kwargs)
        if len(gateway.batches) == 1:
            errors = {"object": "list", "data": [{"code": "token_limit_exceeded", "message": "Enqueued token limit"}]}
            counts = {"total": 0, "completed": 0, "failed": 0}
            gateway.set_batch(submission.batch_id, status="failed", errors=errors, request_counts=counts)
        return submission

    monkeypatch.setattr(run_module, "submit_part", submit_part)
    store = Store()
    assert isinstance(run(output, ["a", "b"], store=store, max_row_attempts=1).error, BifrostRateLimited)
    end = run(output, ["a", "b"], store=store, try_number=2, max_row_attempts=1)
    assert end.state == "success", end.error
    assert outcomes(output) == ["succeeded", "succeeded"]
    assert [batch["rows"] for batch in gateway.batches] == [2, 2]


def test_input_that_is_changed_back_is_known_though_it_was_halved(
    gateway: LocalGateway, output: str, refuse_create: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "WORTH_HALVING", 4)
    refuse_create(1)
    store, rows = Store(), [*map(str, range(4)), "!flaky 503"]
    for number, given in enumerate((rows, ["other"], rows), start=1):
        end = run(output, given, store=store, try_number=number)
        assert end.state == "success", end.error
    assert [batch["rows"] for batch in gateway.batches] == [2, 3, 1, 1]
    assert outcomes(output) == ["succeeded"] * 5


class DiesWith(Store):
    """The worker dies when it is about to note a batch of the run."""

    def set(self, key: str, value: Any) -> None:
        if key == run_module.MEMORY_KEY and value["pieces"][-1]["batch_id"]:
            raise ValueError("killed")
        super().set(key, value)


def cancel(gateway: LocalGateway, *batch_ids: str) -> None:
    for batch_id in batch_ids:
        gateway.set_batch(batch_id, status="cancelled", output_file_id=None, error_file_id=None)


@pytest.mark.usefixtures("small_parts")
def test_rows_that_were_cancelled_for_another_input_are_answered_also_after_a_crash(
    gateway: LocalGateway, output: str
) -> None:
    store, rows = Store(), ["0", "1", "2"]
    gateway.inject(Fault(status=400, method="GET", path_contains="/v1/batches/", times=None))
    assert run(output, rows, store=store, deferrable=False).state == "failed"
    gateway.clear_faults()
    [old] = [batch["id"] for batch in gateway.batches]
    gateway.set_batch(old, status="in_progress")
    changed = {"on_changed_input": "cancel"}
    assert run(output, ["other"], try_number=2, store=store, **changed).state == "success"
    cancel(gateway, old)
    dying = DiesWith(store)
    assert run(output, rows, try_number=3, store=dying, **changed).error.args == ("killed",)
    assert run(output, rows, try_number=4, store=Store(dying), **changed).state == "success"
    assert outcomes(output) == ["succeeded"] * 3


@pytest.mark.usefixtures("small_parts")
def test_of_a_round_that_was_cancelled_in_part_the_rows_that_ran_have_had_their_attempt(
    gateway: LocalGateway, output: str
) -> None:
    store, rows = Store(), ["!flaky 503", "!flaky 503", "!flaky 503", "a", "b", "c"]
    once = {"store": store, "deferrable": False, "max_row_attempts": 1}
    gateway.inject(Fault(status=400, method="GET", path_contains="/v1/batches/", times=None))
    assert run(output, rows, **once).state == "failed"
    gateway.clear_faults()
    cancel(gateway, gateway.batches[1]["id"])
    run(output, rows, **once, try_number=2)
    assert outcomes(output)[3:] == ["succeeded"] * 3
    assert [batch["rows"] for batch in gateway.batches] == [3, 3, 3]


def test_a_refusal_of_which_nobody_knows_what_came_is_no_reason_to_halve(
    gateway: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "WORTH_HALVING", 4)
    monkeypatch.setattr(ledger, "MOST_LISTED", 0)
    body = {"error": FULL.body["error"], "extra_fields": {"provider": "openai"}}
    gateway.inject(Fault(status=429, body=body, applied=True, **CREATE))
    end = run(output, [str(number) for number in range(5)])
    assert isinstance(end.error, BifrostRateLimited)
    assert [batch["rows"] for batch in gateway.batches] == [5]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("which", [0, -1])
def test_a_queue_full_of_others_batches_is_tried_once_with_each_that_is_on_its_way(
    gateway: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    def one_has_met_it(self: BatchWait, context: Any, task: Any) -> list[dict[str, Any]]:
        summary = {"batch_id": self.batch_ids[which], "status": "failed", "provider": "openai", "outcome": "failed"}
        return [summary | {"request_counts": {}, "errors": [{"code": "token_limit_exceeded", "message": "full"}]}]

    monkeypatch.setattr(BatchWait, "run", one_has_met_it)
    end = run(output, [str(number) for number in range(60)], max_parallel_batches=8, deferrable=False)
    assert isinstance(end.error, BifrostRateLimited)
    assert len(gateway.batches) == 8


def test_a_large_batch_that_fails_at_a_full_queue_is_halved(
    gateway: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "WORTH_HALVING", 4)
    submit = run_module.submit_part

    def submit_part(*args: Any, **kwargs: Any) -> Any:
        submission = submit(*args, **kwargs)
        if len(gateway.batches) == 1:
            errors = {"object": "list", "data": [{"code": "token_limit_exceeded", "message": "Enqueued token limit"}]}
            gateway.set_batch(submission.batch_id, status="failed", errors=errors, request_counts={})
        return submission

    monkeypatch.setattr(run_module, "submit_part", submit_part)
    store, prompts = Store(), [str(number) for number in range(5)]
    end = run(output, prompts, store=store, max_row_attempts=1)
    assert end.state == "success", end.error
    assert [row["text"] for row in read_rows(output)] == [f"echo: {prompt}" for prompt in prompts]
    assert [batch["rows"] for batch in gateway.batches] == [5, 2, 3]
    Path(output).unlink()  # a clear: the halves are gone, the input is not
    assert run(output, prompts, store=store, try_number=2, max_row_attempts=1).state == "success"
    assert outcomes(output) == ["succeeded"] * 5
    assert len(gateway.batches) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "give one of rows, input_path"),
        ({"rows": ["a"], "input_path": "b"}, "give one of rows, input_path"),
        ({"rows": ["a"], "max_parallel_batches": 0}, "max_parallel_batches must be a whole number"),
        ({"rows": ["a"], "max_row_attempts": True}, "max_row_attempts must be a whole number"),
        ({"rows": ["a"], "accept": ["fine"]}, "accept has 'fine'"),
    ],
    ids=str,
)
def test_wrong_arguments_are_an_error_when_the_dag_is_parsed(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BatchRunOperator(task_id="run", output_path="out.jsonl", **arguments)


class Verdict(BaseModel):
    good: bool
    words: list[str]


def test_answers_become_validated_objects(gateway: LocalGateway, output: str) -> None:
    end = run(output, ['!say {"good": true, "words": ["a"]}', "!say no JSON"], output_type=Verdict, max_row_attempts=2)
    assert end.state == "success", end.error
    good, bad = read_rows(output)
    assert (good["outcome"], good["output"]) == ("succeeded", {"good": True, "words": ["a"]})
    assert (bad["outcome"], bad["error"]["code"], bad["text"]) == ("failed", "invalid_output", "no JSON")
    spent = good["usage"]["total_tokens"] + 2 * bad["usage"]["total_tokens"]  # each answer is paid for
    assert end.value["usage"]["total_tokens"] == spent
    assert [batch["rows"] for batch in gateway.batches] == [2, 1]


def test_a_request_carries_the_schema_beside_what_else_is_asked_for(gateway: LocalGateway, output: str) -> None:
    end = run(
        output, ["hi"], output_type=Verdict, request_params={"temperature": 0}, accept=["failed"], max_row_attempts=1
    )
    assert end.state == "success", end.error
    with BifrostHook() as hook, hook.file_content(gateway.batches[0]["input_file_id"]) as chunks:
        body = json.loads(b"".join(chunks))["body"]
    assert body["temperature"] == 0
    assert set(body["response_format"]["json_schema"]["schema"]["properties"]) == {"good", "words"}


def test_a_parameter_in_the_place_of_the_schema_is_an_error(gateway: LocalGateway, output: str) -> None:
    end = run(output, ["hi"], output_type=Verdict, request_params={"response_format": "text"})
    assert "request_params has response_format" in str(end.error)


def test_batches_that_the_gateway_made_beside_the_one_that_counts_stand_in_the_manifest(
    gateway: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.inject(Fault(drop=True, applied=True, **CREATE))
    listed = ledger.Ledger._listed

    def with_a_twin(self: Any, provider: str) -> Any:
        [batch] = gateway.batches
        gateway.add_batch(status="in_progress", metadata=batch["metadata"], created_at=batch["created_at"] + 1)
        return listed(self, provider)

    monkeypatch.setattr(ledger.Ledger, "_listed", with_a_twin)
    end = run(output, ["a"])
    assert end.state == "success", end.error
    [twin] = end.value["duplicates"]
    assert {batch["id"]: batch["status"] for batch in gateway.batches}[twin] in ("cancelling", "cancelled")


def test_counts_that_differ_from_those_of_the_batches_are_said(
    gateway: LocalGateway, output: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = run_module.submit_part

    def submit_part(*args: Any, **kwargs: Any) -> Any:
        submission = submit(*args, **kwargs)
        gateway.set_batch(submission.batch_id, request_counts={"total": 9, "completed": 9, "failed": 0})
        return submission

    monkeypatch.setattr(run_module, "submit_part", submit_part)
    caplog.set_level(logging.WARNING)
    assert run(output, ["a"]).state == "success"
    [batch] = gateway.batches
    assert f"The counts differ. Batch {batch['id']}: total: the batch counts 9" in caplog.text


def test_any_unicode_and_a_megabyte_in_a_row_come_back_as_they_went(gateway: LocalGateway, output: str) -> None:
    prompts = ["\u2028 line\u2029 separators \x85", "😀 \U0001f9d1\u200d\U0001f680", "\u0000 null", "é" * 500_000]
    end = run(output, prompts)
    assert end.state == "success", end.error
    assert [row["text"] for row in read_rows(output)] == [f"echo: {prompt}" for prompt in prompts]


def test_two_hundred_thousand_rows_come_back_in_order(gateway: LocalGateway, tmp_path: Path, output: str) -> None:
    path = tmp_path / "in.jsonl"
    with path.open("w") as file:
        file.writelines(f'"prompt {number}"\n' for number in range(200_000))
    end = run(output, input_path=str(path), max_row_attempts=1)
    assert end.state == "success", end.error
    assert len(gateway.batches) == 4
    assert all(row["text"] == f"echo: prompt {number}" for number, row in enumerate(read_rows(output)))
    assert end.value["rows"]["succeeded"] == 200_000
