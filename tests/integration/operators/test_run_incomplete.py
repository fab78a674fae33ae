"""With allow_incomplete, a batch whose results are gone does not block the results of the others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.airflow import End, Store
from support.providers import small_batches
from support.runs import outcomes, run

from airflow_bifrost.exceptions import BatchFailed, BatchNotFound
from airflow_bifrost.results import collect, read_rows
from airflow_bifrost.testing import Fault, LocalGateway


@pytest.fixture
def gateway(quick_gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch) -> LocalGateway:
    small_batches(monkeypatch, "openai", rows=1)
    monkeypatch.setattr(collect, "POLICY", collect.ReadPolicy(pause=0.0, grace=0.01))
    return quick_gateway


class Submits(Store):
    """Does something with the batches of a run as soon as both are recorded."""

    def __init__(self, gateway: LocalGateway, meddle: Callable[[LocalGateway, str], None], **stored: Any) -> None:
        super().__init__(**stored)
        self.gateway, self.meddle, self.done = gateway, meddle, False

    def set(self, key: str, value: Any) -> None:
        super().set(key, value)
        if len(self.gateway.batches) == 2 and not self.done:
            self.done = True
            self.meddle(self.gateway, self.gateway.batches[-1]["id"])


def forget(gateway: LocalGateway, batch_id: str) -> None:
    gateway.inject(Fault(status=404, path_contains=f"/batches/{batch_id}", times=None))


def hide_file(gateway: LocalGateway, batch_id: str) -> None:
    counts = {"total": 1, "completed": 1, "failed": 0}
    gateway.set_batch(batch_id, status="completed", output_file_id=None, error_file_id=None, request_counts=counts)


def delete_file(gateway: LocalGateway, batch_id: str) -> None:
    gateway.set_batch(batch_id, output_file_id="file-gone")


GONE = {"the batch": forget, "its file": delete_file, "the name of its file": hide_file}
gone = pytest.mark.parametrize("meddle", GONE.values(), ids=GONE)


def incomplete(output: str, store: Store, **arguments: Any) -> End:
    given: dict[str, Any] = {"allow_incomplete": True, "not_found_grace": 0.01, "results_grace": 0.01}
    return run(output, ["a", "b"], store=store, **given | arguments)


@pytest.mark.parametrize("deferrable", [True, False])
@gone
def test_rows_of_a_batch_whose_results_are_gone_are_missing_and_the_others_are_written(
    gateway: LocalGateway,
    output: str,
    caplog: pytest.LogCaptureFixture,
    meddle: Callable[[LocalGateway, str], None],
    deferrable: bool,
) -> None:
    caplog.set_level(logging.WARNING)
    end = incomplete(output, Submits(gateway, meddle), deferrable=deferrable)
    assert end.state == "success", end.error
    assert outcomes(output) in (["succeeded", "missing"], ["missing", "succeeded"])
    assert len(end.value["batches"]) == len(gateway.batches) == 2
    assert "allow_incomplete" in caplog.text


@gone
def test_without_allow_incomplete_nothing_is_written(
    gateway: LocalGateway, output: str, meddle: Callable[[LocalGateway, str], None]
) -> None:
    end = incomplete(output, Submits(gateway, meddle), allow_incomplete=False)
    assert end.state == "failed"
    assert "allow_incomplete=True" in str(end.error)
    assert not Path(output).exists()


def test_a_clear_reads_the_results_of_a_batch_that_can_be_found_again(gateway: LocalGateway, output: str) -> None:
    store = Submits(gateway, forget)
    assert incomplete(output, store).value["rows"]["missing"] == 1
    gateway.clear_faults()
    end = incomplete(output, Store(store), try_number=2)
    assert end.state == "success", end.error
    assert [row["text"] for row in read_rows(output)] == ["echo: a", "echo: b"]
    assert len(gateway.batches) == 2


@pytest.mark.parametrize("provider", ["anthropic", "gemini"])
def test_a_clear_after_an_incomplete_success_needs_no_list_of_batches_if_the_state_is_lost(
    gateway: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    small_batches(monkeypatch, provider, rows=1)
    given = {"provider": provider, "request_params": {"max_tokens": 9}}
    first = incomplete(output, Submits(gateway, forget), **given)
    assert (first.state, first.value["rows"]["missing"]) == ("success", 1)
    gateway.clear_faults()
    end = incomplete(output, Store(), try_number=2, **given)  # clear_on_success has deleted the state
    assert end.state == "success", end.error
    assert [row["text"] for row in read_rows(output)] == ["echo: a", "echo: b"]
    assert len(gateway.batches) == 2


def test_a_clear_never_replaces_an_output_by_one_with_fewer_answers(gateway: LocalGateway, output: str) -> None:
    store = Submits(gateway, forget)
    first = incomplete(output, store)
    gateway.inject(Fault(status=404, path_contains="/v1/batches/", times=None))
    end = incomplete(output, Store(store), try_number=2)
    assert end.state == "success", end.error
    assert end.value["rows"] == first.value["rows"]
    assert sorted(outcomes(output)) == ["missing", "succeeded"]


def test_a_run_that_finds_none_of_its_batches_fails(gateway: LocalGateway, output: str) -> None:
    def forget_all(gateway: LocalGateway, _: str) -> None:
        gateway.inject(Fault(status=404, path_contains="/v1/batches/", times=None))

    store = Submits(gateway, forget_all)
    assert isinstance(incomplete(output, store).error, BatchFailed | BatchNotFound)
    gateway.clear_faults()
    assert incomplete(output, Store(store), try_number=2).state == "success"
    assert outcomes(output) == ["succeeded", "succeeded"]


UNREADABLE: dict[str, Any] = {"call": "file_content", "status": 200, "times": None}
ANY_OUTCOME = ("succeeded", "partial", "failed")
unreadable = pytest.mark.parametrize("body", [b"\x00 not a file", b""], ids=["garbage", "empty"])


@unreadable
def test_a_clear_reads_results_that_could_not_be_read(gateway: LocalGateway, output: str, body: bytes) -> None:
    store = Store()
    gateway.inject(Fault(body=body, **UNREADABLE))
    # The local gateway makes its results from the input.
    first = incomplete(output, store, accept=ANY_OUTCOME, cleanup="never")
    assert first.value["rows"]["missing"] == 2
    gateway.clear_faults()
    assert incomplete(output, Store(store), try_number=2, cleanup="never").state == "success"
    assert outcomes(output) == ["succeeded", "succeeded"]
    assert len(gateway.batches) == 2


@unreadable
def test_results_that_could_not_be_read_are_not_deleted(gateway: LocalGateway, output: str, body: bytes) -> None:
    gateway.inject(Fault(body=body, **UNREADABLE))
    end = incomplete(output, Store(), accept=ANY_OUTCOME, cleanup="all")
    assert end.state == "success", end.error
    deleted = {request.path.rpartition("/")[2] for request in gateway.requests if request.method == "DELETE"}
    assert deleted == {batch["input_file_id"] for batch in gateway.batches}
