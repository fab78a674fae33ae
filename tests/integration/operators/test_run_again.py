"""BatchRunOperator in another attempt: after an error, a kill, a cancel or a clear, with the same or different rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.airflow import Store
from support.runs import CREATE, Submissions, cancel, outcomes, run

from airflow_bifrost._compat import AirflowFailException
from airflow_bifrost.exceptions import BifrostProtocolError
from airflow_bifrost.results import read_rows
from airflow_bifrost.runs import request
from airflow_bifrost.runs.record import STATE_KEY
from airflow_bifrost.testing import Fault, LocalGateway


@pytest.fixture
def gateway(quick_gateway: LocalGateway) -> LocalGateway:
    return quick_gateway


def test_a_clear_sends_the_rows_of_a_cancelled_batch_again(gateway: LocalGateway, output: str) -> None:
    store = Store()
    gateway.inject(Fault(status=400, call="batch_retrieve"))  # the attempt ends while its batch runs
    assert run(output, ["a", "b"], store=store, deferrable=False).state == "failed"
    cancel(gateway, gateway.batches[0]["id"])
    end = run(output, ["a", "b"], store=store, try_number=2, max_row_attempts=1)
    assert end.state == "success", end.error
    assert outcomes(output) == ["succeeded", "succeeded"]
    assert [batch["rows"] for batch in gateway.batches] == [2, 2]


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


def test_without_a_state_store_in_airflow_a_file_next_to_the_output_holds_the_state(
    gateway: LocalGateway, output: str
) -> None:
    for number in (1, 2):
        assert run(output, ["a"], remembering=False, try_number=number).state == "success"
    assert len(gateway.batches) == 1


def test_an_output_that_was_replaced_is_written_again(gateway: LocalGateway, output: str) -> None:
    store = Store()
    run(output, ["a"], store=store)
    Path(output).write_text("another's\n")
    assert run(output, ["a"], store=store, try_number=2).state == "success"
    assert outcomes(output) == ["succeeded"]
    assert len(gateway.batches) == 1


def test_a_retry_polls_again_for_results_whose_file_was_not_named(
    gateway: LocalGateway, output: str, submissions: Submissions
) -> None:
    done = {"status": "completed", "request_counts": {"total": 1, "completed": 1, "failed": 0}}

    def name_no_file(batch_ids: list[str]) -> None:
        gateway.set_batch(batch_ids[-1], output_file_id="", **done)

    submissions.after = name_no_file
    store = Store()
    end = run(output, ["a"], store=store, results_grace=0.1)
    assert isinstance(end.error, BifrostProtocolError)
    assert not isinstance(end.error, AirflowFailException)
    assert not Path(output).exists()
    [batch] = gateway.batches
    gateway.set_batch(batch["id"], output_file_id="later", error_file_id=None)
    end = run(output, ["a"], store=store, try_number=2, results_grace=0.1)
    assert "later" in str(end.error)  # the file that it tried to read
    assert len(gateway.batches) == 1


def test_an_undetermined_submission_is_not_skipped(gateway: LocalGateway, output: str) -> None:
    store = Store()
    again = {"store": store, "provider": "anthropic", "request_params": {"max_tokens": 9}, "soft_fail": True}
    gateway.inject(Fault(status=504, applied=True, **CREATE))
    run(output, ["a"], **again)
    end = run(output, ["a"], **again, try_number=2)
    assert (end.state, end.kind) == ("failed", "SubmissionInDoubt")


def test_a_row_is_sent_again_if_a_user_cancelled_its_second_attempt(
    gateway: LocalGateway, output: str, submissions: Submissions
) -> None:
    def refuse_to_retrieve_the_second(batch_ids: list[str]) -> None:
        if len(batch_ids) == 2:
            gateway.inject(Fault(status=400, method="GET", path_contains="/v1/batches/", times=None))

    submissions.after = refuse_to_retrieve_the_second
    again = {"store": Store(), "max_row_attempts": 2, "deferrable": False}
    assert run(output, ["fine", "!flaky 503"], **again).state == "failed"
    gateway.clear_faults()
    cancel(gateway, gateway.batches[1]["id"])
    assert run(output, ["fine", "!flaky 503"], **again, try_number=2).state == "success"
    assert outcomes(output) == ["succeeded", "succeeded"]


@pytest.mark.usefixtures("small_parts")
def test_a_partly_cancelled_round_counts_as_an_attempt(gateway: LocalGateway, output: str) -> None:
    store, rows = Store(), ["!flaky 503", "!flaky 503", "!flaky 503", "a", "b", "c"]
    once = {"store": store, "deferrable": False, "max_row_attempts": 1}
    gateway.inject(Fault(status=400, method="GET", path_contains="/v1/batches/", times=None))
    assert run(output, rows, **once).state == "failed"
    gateway.clear_faults()
    cancel(gateway, gateway.batches[1]["id"])
    run(output, rows, **once, try_number=2)
    assert outcomes(output)[3:] == ["succeeded"] * 3
    assert [batch["rows"] for batch in gateway.batches] == [3, 3, 3]


@pytest.mark.usefixtures("small_parts")
def test_changed_input_is_submitted_and_the_old_batches_are_cancelled_if_configured(
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
def test_changing_the_input_back_reuses_its_results_and_costs_nothing(gateway: LocalGateway, output: str) -> None:
    store, rows = Store(), [str(number) for number in range(7)]
    for number, given in enumerate((rows, ["other"], rows), start=1):
        end = run(output, given, store=store, try_number=number)
        assert end.state == "success", end.error
        assert [row["text"] for row in read_rows(output)] == [f"echo: {row}" for row in given]
    assert len(gateway.batches) == 4


def test_changing_the_input_back_reuses_its_results_even_if_its_part_was_halved(
    gateway: LocalGateway, output: str, refuse_create: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request, "MIN_ROWS_TO_HALVE", 4)
    refuse_create(1)
    store, rows = Store(), [*map(str, range(4)), "!flaky 503"]
    for number, given in enumerate((rows, ["other"], rows), start=1):
        end = run(output, given, store=store, try_number=number)
        assert end.state == "success", end.error
    assert [batch["rows"] for batch in gateway.batches] == [3, 2, 1, 1]
    assert outcomes(output) == ["succeeded"] * 5


@pytest.mark.usefixtures("small_parts")
def test_changing_the_input_back_answers_rows_whose_batches_were_cancelled_for_another_input(
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
        cancel(gateway, batch_id)
    end = run(output, rows, try_number=3, **changed)
    assert end.state == "success", end.error
    assert outcomes(output) == ["succeeded"] * 7


class DiesWith(Store):
    """The worker dies just before it records a batch of the run."""

    def set(self, key: str, value: Any) -> None:
        if key == STATE_KEY and value["parts"][-1]["batch_id"]:
            raise ValueError("killed")
        super().set(key, value)


@pytest.mark.usefixtures("small_parts")
def test_rows_that_were_cancelled_for_another_input_are_answered_even_after_a_crash(
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
def test_a_changed_input_cancels_every_old_batch_at_once_even_one_without_a_record(
    gateway: LocalGateway, output: str
) -> None:
    class Dies(Store):
        """The worker dies just before it records the last batch of the run."""

        def set(self, key: str, value: Any) -> None:
            if key == STATE_KEY and all(part["batch_id"] for part in value["parts"]):
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
