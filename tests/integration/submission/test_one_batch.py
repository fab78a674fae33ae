"""One input, one batch, whatever happens: through BatchSubmitOperator, over real HTTP. The gateway counts what was paid."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from support.airflow import End, FakeTI, Store, run_to_its_end

from airflow_bifrost import BatchSubmitOperator, BifrostHook
from airflow_bifrost.exceptions import BifrostGatewayError, BifrostRateLimited, SubmissionInDoubt
from airflow_bifrost.submission.ledger import TAG_KEY, LedgerTiming
from airflow_bifrost.testing import Fault, LocalGateway, ProviderBehavior
from airflow_bifrost.worker import submit as module

CREATE = {"method": "POST", "path_contains": "/batches"}
ANTHROPIC = {"provider": "anthropic", "rows": ["a", "b"], "request_params": {"max_tokens": 5}}
RECORD = "bifrost_submission_1"


class Killed(BaseException):
    """The worker got SIGKILL."""


class KillingStore(Store):
    """Kills the worker when it has written a record in this state, or is about to."""

    before: str | None = None
    after: str | None = None

    def set(self, key: str, value: Any) -> None:
        states = {record["state"] for record in value.values()} if key == RECORD else set()
        if self.before in states:
            raise Killed
        super().set(key, value)
        if self.after in states:
            raise Killed


@pytest.fixture(autouse=True)
def slept(gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nothing pauses; this is what would have been slept."""
    slept: list[float] = []
    monkeypatch.setattr(module, "TIMING", LedgerTiming(sleep=slept.append, settle=0.0, late=0.0))
    monkeypatch.setenv("AIRFLOW__BIFROST__DEPLOYMENT", "production")
    return slept


def submit(store: Store | None = None, *, try_number: int = 1, remembering: bool = True, **arguments: Any) -> End:
    arguments = {"rows": ["a", "b"], "model": "echo-1"} | arguments
    ti = FakeTI(task_id="submit", try_number=try_number)
    make = lambda: BatchSubmitOperator(task_id="submit", **arguments)  # noqa: E731
    return run_to_its_end(make, ti=ti, store=store, remembering=remembering)


def killed(store: KillingStore, **arguments: Any) -> KillingStore:
    """The store of an attempt whose worker was killed."""
    with pytest.raises(Killed):
        submit(store, **arguments)
    store.before = store.after = None
    return store


def killed_after_the_create(**arguments: Any) -> KillingStore:
    store = KillingStore()
    store.before = "submitted"
    return killed(store, **arguments)


def killed_before_the_create(**arguments: Any) -> KillingStore:
    store = KillingStore()
    store.after = "intent"
    return killed(store, **arguments)


def statuses(gateway: LocalGateway) -> dict[str, str]:
    return {batch["id"]: batch["status"] for batch in gateway.batches}


# No record is not "never submitted"


def test_an_empty_store_does_not_prove_that_nothing_was_submitted(gateway: LocalGateway) -> None:
    first = submit(Store())
    assert submit(Store(), try_number=2).value == first.value
    assert len(gateway.batches) == 1


def test_an_empty_store_and_a_provider_without_metadata_stop_the_task(gateway: LocalGateway) -> None:
    submit(Store(), **ANTHROPIC)
    assert isinstance(submit(Store(), try_number=2, **ANTHROPIC).error, SubmissionInDoubt)
    assert len(gateway.batches) == 1


def test_a_record_in_a_file_is_found_when_airflow_has_a_store(
    gateway: LocalGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__BIFROST__STATE_PATH", str(tmp_path))
    first = submit(remembering=False, **ANTHROPIC)
    assert submit(Store(), try_number=2, **ANTHROPIC).value == first.value
    assert len(gateway.batches) == 1


def test_a_store_that_knows_the_first_attempt_needs_no_list(gateway: LocalGateway) -> None:
    store = Store()
    gateway.inject(Fault(status=403, method="POST", path_contains="/files"))
    assert submit(store).state == "failed"
    gateway.inject(Fault(status=403, call="batch_list"))
    assert submit(store, try_number=2).state == "success"


# A list that is cut short proves nothing


@pytest.mark.parametrize("lie", ["no_cursor", "repeated_cursor", "empty_pages"])
def test_a_list_that_is_cut_short_proves_nothing(gateway: LocalGateway, lie: str) -> None:
    store = killed_after_the_create()
    for _ in range(3):
        gateway.add_batch()
    gateway.behave("openai", ProviderBehavior(list_page=2, list_lie=lie))
    assert isinstance(submit(store, try_number=2).error, SubmissionInDoubt)
    assert len(gateway.batches) == 4


def test_a_page_that_cannot_be_read_proves_nothing(gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__BIFROST__RETRY_BUDGET", "0.2")  # the page is asked for again until this is over
    store = killed_after_the_create()
    for _ in range(3):
        gateway.add_batch()
    gateway.behave("openai", ProviderBehavior(list_page=2, list_lie="unreadable"))
    assert submit(store, try_number=2).state == "failed"
    assert len(gateway.batches) == 4


# Providers without metadata


def test_a_refusal_may_hide_a_batch(gateway: LocalGateway) -> None:
    store = Store()
    gateway.inject(Fault(status=429, applied=True, body={"error": {"message": "slow down"}}, **CREATE))
    assert submit(store, **ANTHROPIC).state == "failed"
    assert isinstance(submit(store, try_number=2, **ANTHROPIC).error, SubmissionInDoubt)
    assert len(gateway.batches) == 1


def test_a_list_without_a_newer_batch_proves_that_nothing_was_submitted(gateway: LocalGateway) -> None:
    gateway.add_batch(provider="anthropic", rows=2)
    store = killed_before_the_create(**ANTHROPIC)
    assert submit(store, try_number=2, **ANTHROPIC).state == "success"
    assert len(gateway.batches) == 2


def test_a_batch_with_another_number_of_rows_is_not_the_one(gateway: LocalGateway) -> None:
    store = killed_before_the_create(**ANTHROPIC)
    gateway.add_batch(provider="anthropic", rows=7)
    assert submit(store, try_number=2, **ANTHROPIC).state == "success"


def test_default_custom_ids_prove_nothing_so_the_error_names_the_candidate(gateway: LocalGateway) -> None:
    store = killed_after_the_create(**ANTHROPIC)
    [batch] = gateway.batches
    error = submit(store, try_number=2, **ANTHROPIC).error
    assert isinstance(error, SubmissionInDoubt)
    assert batch["id"] in str(error)
    assert "on_unknown={'adopt'" in str(error)


def test_ended_batches_with_other_custom_ids_are_not_in_doubt_even_if_the_tasks_own_prove_nothing(
    gateway: LocalGateway,
) -> None:
    store = killed_before_the_create(**ANTHROPIC)
    for _ in range(2):
        gateway.add_batch(provider="anthropic", rows=2, status="ended")
    end = submit(store, try_number=2, **ANTHROPIC)
    assert end.state == "success", end.error
    assert [batch["id"] for batch in gateway.batches][-1] == end.value
    assert len(gateway.batches) == 3


def test_of_several_candidates_only_those_with_the_tasks_custom_ids_are_in_doubt(gateway: LocalGateway) -> None:
    store = killed_after_the_create(**ANTHROPIC)
    [own] = [batch["id"] for batch in gateway.batches]
    gateway.set_batch(own, status="ended")
    theirs = gateway.add_batch(provider="anthropic", rows=2, status="ended")
    error = submit(store, try_number=2, **ANTHROPIC).error
    assert isinstance(error, SubmissionInDoubt)
    assert own in str(error)
    assert theirs not in str(error)


def own_ids(*ids: str) -> dict[str, Any]:
    body = {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "model": "claude"}
    return ANTHROPIC | {"rows": [{"custom_id": id_, "body": body} for id_ in ids]}


def test_the_only_candidate_is_adopted_when_its_results_have_the_custom_ids(gateway: LocalGateway) -> None:
    arguments = own_ids("doc-1", "doc-2")
    store = killed_after_the_create(**arguments)
    [batch] = gateway.batches
    gateway.set_batch(batch["id"], status="ended")
    assert submit(store, try_number=2, **arguments).value == batch["id"]
    assert len(gateway.batches) == 1


def test_a_candidate_with_other_custom_ids_is_not_adopted(gateway: LocalGateway) -> None:
    arguments = own_ids("doc-1", "doc-2")
    store = killed_before_the_create(**arguments)
    theirs = gateway.add_batch(provider="anthropic", rows=2, status="ended")
    end = submit(store, try_number=2, **arguments)
    assert end.state == "success", end.error
    assert end.value != theirs
    assert len(gateway.batches) == 2


def test_a_running_candidate_is_never_returned_as_the_tasks_own_batch(gateway: LocalGateway) -> None:
    """Its custom IDs can only be compared when it has ended, and this operator does not wait for it."""
    arguments = own_ids("doc-1", "doc-2")
    store = killed_before_the_create(**arguments)
    theirs = gateway.add_batch(provider="anthropic", rows=2, status="in_progress")
    for try_number in (2, 3):
        error = submit(store, try_number=try_number, **arguments).error
        assert isinstance(error, SubmissionInDoubt)
        assert theirs in str(error)
        assert "When it has ended, clear this task" in str(error)
    gateway.set_batch(theirs, status="ended")
    end = submit(store, try_number=4, **arguments)
    assert end.state == "success", end.error
    assert end.value != theirs
    assert len(gateway.batches) == 2


@pytest.mark.parametrize("answer", ["adopt", "resubmit"])
def test_the_user_decides_about_a_running_candidate(gateway: LocalGateway, answer: str) -> None:
    arguments = own_ids("doc-1", "doc-2")
    store = killed_after_the_create(**arguments)
    [batch] = gateway.batches
    gateway.set_batch(batch["id"], status="in_progress")
    on_unknown: Any = {"adopt": batch["id"]} if answer == "adopt" else answer
    end = submit(store, try_number=2, on_unknown=on_unknown, **arguments)
    assert end.state == "success", end.error
    assert (end.value == batch["id"]) == (answer == "adopt")
    assert submit(store, try_number=3, **arguments).value == end.value
    gateway.set_batch(end.value, status="ended")
    assert submit(store, try_number=4, **arguments).value == end.value


def test_other_rows_are_submitted_although_a_candidate_for_the_rows_before_has_ended(gateway: LocalGateway) -> None:
    arguments = own_ids("doc-1", "doc-2")
    store = killed_after_the_create(**arguments)
    [batch] = gateway.batches
    gateway.set_batch(batch["id"], status="in_progress")
    submit(store, try_number=2, **arguments)
    gateway.set_batch(batch["id"], status="ended")
    end = submit(store, try_number=3, **own_ids("doc-3"))
    assert end.state == "success", end.error
    assert end.value != batch["id"]
    assert len(gateway.batches) == 2


# Twins


def test_of_two_batches_of_one_create_the_one_that_lives_is_kept(gateway: LocalGateway) -> None:
    store = killed_after_the_create()
    [failed] = gateway.batches
    gateway.set_batch(failed["id"], status="failed")
    living = gateway.add_batch(
        metadata=failed["metadata"], created_at=failed["created_at"] + 1, rows=2, status="in_progress"
    )
    assert submit(store, try_number=2).value == living
    assert statuses(gateway)[living] == "in_progress"


def test_a_create_that_the_gateway_sent_twice_is_paid_once(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_a_twin(_: float) -> None:
        if len(gateway.batches) == 1:
            [batch] = gateway.batches
            for _ in range(5):  # 1.5.16 sends it six times with max_retries 2
                gateway.add_batch(metadata=batch["metadata"], created_at=batch["created_at"] + 1, status="in_progress")

    monkeypatch.setattr(module, "TIMING", LedgerTiming(sleep=with_a_twin, settle=2.0, late=2.0))
    gateway.inject(Fault(drop=True, applied=True, **CREATE))
    end = submit(Store())
    assert [id_ for id_, status in statuses(gateway).items() if status not in ("cancelling", "cancelled")] == [
        end.value
    ]


def test_two_workers_on_one_attempt_settle_on_one_batch(
    gateway: LocalGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A zombie and its successor both pass the point at which they could see each other's record."""
    monkeypatch.setenv("AIRFLOW__BIFROST__STATE_PATH", str(tmp_path))
    others: list[End] = []

    class Successor(Store):
        def set(self, key: str, value: Any) -> None:
            super().set(key, value)
            if key == RECORD and not others and "intent" in {record["state"] for record in value.values()}:
                others.append(End("running"))
                others[0] = submit(Store())

    end = submit(Successor())
    assert end.value == others[0].value
    assert sorted(status for status in statuses(gateway).values() if status != "validating") in (
        ["cancelling"],
        ["cancelled"],
    )


# Two deployments


def test_another_deployment_with_the_same_names_is_left_alone(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__BIFROST__DEPLOYMENT", "staging")
    staging = submit(remembering=False)
    monkeypatch.setenv("AIRFLOW__BIFROST__DEPLOYMENT", "production")
    other_rows = submit(try_number=2, remembering=False, rows=["other"], on_changed_input="cancel")
    same_rows = submit(try_number=2, remembering=False)
    assert len({staging.value, other_rows.value, same_rows.value}) == 3
    assert statuses(gateway)[staging.value] not in ("cancelling", "cancelled")


def test_where_the_deployment_is_unknown_a_batch_with_the_same_names_is_neither_adopted_nor_absent(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__BIFROST__DEPLOYMENT", "")
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "of-one-worker")
    first = submit(remembering=False)
    assert submit(try_number=2, remembering=False).value == first.value
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "of-another")
    error = submit(try_number=3, remembering=False).error
    assert isinstance(error, SubmissionInDoubt)
    assert first.value in str(error)
    assert len(gateway.batches) == 1


# Metadata


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({f"key{number}": "v" for number in range(16)}, "15 is the maximum"),
        ({"k" * 65: "v"}, "64 is the maximum"),
        ({"k": "v" * 513}, "512 is the maximum"),
        ({TAG_KEY: "mine"}, "rename it"),
    ],
    ids=["pairs", "key", "value", "own key"],
)
def test_metadata_that_the_provider_would_refuse_is_an_error_before_the_upload(
    gateway: LocalGateway, metadata: dict[str, str], words: str
) -> None:
    assert words in str(submit(metadata=metadata).error)
    assert not gateway.requests


def test_fifteen_pairs_and_the_tag_are_sent(gateway: LocalGateway) -> None:
    assert submit(metadata={f"key{number}": "v" for number in range(15)}).state == "success"
    assert len(gateway.batches[0]["metadata"]) == 16


# Files


def uploads(gateway: LocalGateway) -> list[Any]:
    return [request for request in gateway.requests if request.method == "POST" and "/files" in request.path]


def deletes(gateway: LocalGateway) -> list[str]:
    return [request.path for request in gateway.requests if request.method == "DELETE"]


def test_a_file_that_is_pending_is_polled_until_it_is_ready(gateway: LocalGateway) -> None:
    gateway.behave("azure", ProviderBehavior(file_pending=3))
    assert submit(Store(), provider="azure").state == "success"
    assert len(uploads(gateway)) == len(gateway.batches) == 1


def test_a_file_that_stays_pending_is_used_again_by_a_retry(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.behave("azure", ProviderBehavior(file_pending=4))
    timing = LedgerTiming(sleep=lambda _: None, settle=0.0, late=0.0, ready_within=3.0)
    monkeypatch.setattr(module, "TIMING", timing)
    store = Store()
    assert "is still pending" in str(submit(store, provider="azure").error)
    end = submit(store, provider="azure", try_number=2)
    assert end.state == "success", end.error
    assert len(uploads(gateway)) == 1


def test_a_file_that_the_provider_cannot_use_is_an_error_and_is_deleted(gateway: LocalGateway) -> None:
    gateway.behave("azure", ProviderBehavior(file_pending=1, file_fails=True))
    end = submit(Store(), provider="azure")
    assert end.kind == "BatchInputError"
    assert len(deletes(gateway)) == 1


@pytest.mark.parametrize(("cleanup", "number"), [("input", 1), ("never", 0)])
def test_the_file_of_a_refused_create_is_deleted_at_once(gateway: LocalGateway, cleanup: str, number: int) -> None:
    gateway.inject(Fault(status=400, body={"error": {"message": "no such model"}}, **CREATE))
    assert submit(Store(), cleanup=cleanup).state == "failed"
    assert len(deletes(gateway)) == number


@pytest.mark.parametrize("rows", [["other"], []], ids=["other rows", "no rows"])
@pytest.mark.parametrize(
    "failing", [CREATE, {"method": "GET", "path_contains": "/files/"}], ids=["refused", "uploaded"]
)
@pytest.mark.parametrize(("cleanup", "number"), [("input", 1), ("never", 0)])
def test_the_file_of_another_input_that_made_no_batch_is_deleted(
    gateway: LocalGateway, cleanup: str, number: int, failing: dict[str, Any], rows: list[str]
) -> None:
    store = Store()
    gateway.behave("azure", ProviderBehavior(file_pending=1))
    gateway.inject(Fault(status=400, body={"error": {"message": "refused"}}, **failing))
    assert submit(store, provider="azure", cleanup="never").state == "failed"
    end = submit(store, try_number=2, provider="azure", cleanup=cleanup, rows=rows)
    assert end.state == ("success" if rows else "skipped"), end.error
    assert len(deletes(gateway)) == number


# An attempt survives what costs nothing to repeat


def test_a_refused_create_is_repeated_when_it_is_proven_that_nothing_was_submitted(
    gateway: LocalGateway, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__BIFROST__RETRY_BUDGET", "300")
    gateway.inject(Fault(status=429, retry_after="7", body={"error": {"message": "slow down"}}, **CREATE))
    end = submit(Store())
    assert end.state == "success", end.error
    assert len(gateway.batches) == 1
    assert 7 <= sum(slept) < 20
    assert len(uploads(gateway)) == 1


def test_a_full_queue_is_not_waited_for(gateway: LocalGateway) -> None:
    body = {"error": {"message": "Enqueued token limit reached", "code": "token_limit_exceeded"}}
    gateway.inject(Fault(status=429, body=body, **CREATE))
    assert isinstance(submit(Store()).error, BifrostRateLimited)
    assert not gateway.batches


# A person decides


def test_the_batch_that_the_user_names_is_adopted(gateway: LocalGateway) -> None:
    store = killed_after_the_create(**ANTHROPIC)
    [batch] = gateway.batches
    assert submit(store, try_number=2, **ANTHROPIC).kind == "SubmissionInDoubt"
    end = submit(store, try_number=3, on_unknown={"adopt": batch["id"]}, **ANTHROPIC)
    assert end.value == batch["id"]
    assert submit(store, try_number=4, **ANTHROPIC).value == batch["id"]
    assert len(gateway.batches) == 1


def test_a_named_batch_with_another_number_of_rows_is_refused(gateway: LocalGateway) -> None:
    store = killed_after_the_create(**ANTHROPIC)
    other = gateway.add_batch(provider="anthropic", rows=3, status="in_progress")
    error = submit(store, try_number=2, on_unknown={"adopt": {"1": other}}, **ANTHROPIC).error
    assert isinstance(error, SubmissionInDoubt)
    assert "3 rows" in str(error)


def test_a_named_batch_with_other_custom_ids_is_refused_when_it_has_ended(gateway: LocalGateway) -> None:
    arguments = own_ids("doc-1", "doc-2")
    store = killed_after_the_create(**arguments)
    other = gateway.add_batch(provider="anthropic", rows=2, status="ended")
    error = submit(store, try_number=2, on_unknown={"adopt": other}, **arguments).error
    assert isinstance(error, SubmissionInDoubt)
    assert "other custom IDs" in str(error)


def test_a_batch_that_is_known_is_not_replaced_by_the_one_that_the_user_names(gateway: LocalGateway) -> None:
    store = Store()
    first = submit(store)
    other = gateway.add_batch(rows=2)
    assert submit(store, try_number=2, on_unknown={"adopt": other}).value == first.value


def test_the_record_is_json_that_names_the_file(gateway: LocalGateway) -> None:
    store = Store()
    submit(store)
    [record] = json.loads(store[RECORD]).values()
    assert record["input_file_id"] == gateway.batches[0]["input_file_id"]


def test_a_list_that_leaves_out_metadata_shows_the_batch_by_its_file(gateway: LocalGateway) -> None:
    gateway.behave("openai", ProviderBehavior(list_metadata=False))
    store = killed_after_the_create()
    [batch] = gateway.batches
    assert submit(store, try_number=2).value == batch["id"]
    assert len(gateway.batches) == 1


@pytest.mark.parametrize("value", [{1, 2}, float("nan")], ids=["set", "nan"])
def test_a_member_of_the_create_that_json_cannot_hold_is_an_error_before_the_upload(
    gateway: LocalGateway, value: Any
) -> None:
    end = submit(extra_body={"option": value})
    assert end.state == "failed"
    assert "option" in str(end.error)
    assert not gateway.requests


# What an error says about the money


@pytest.mark.parametrize("status", [400, 401, 402, 403, 409])
def test_a_refused_create_says_that_nothing_was_submitted_only_when_that_is_proven(
    gateway: LocalGateway, status: int
) -> None:
    """The gateway repeats requests, so an earlier one may have been accepted."""
    refusal = Fault(status=status, body={"error": {"message": "refused"}}, **CREATE)
    gateway.inject(refusal)
    with BifrostHook() as hook, pytest.raises(BifrostGatewayError) as raised:
        hook.create_batch(input_file_id="file-1", endpoint="/v1/chat/completions", idempotency_key="k")
    assert "a batch may exist" in str(raised.value)
    assert "list_batches" in str(raised.value)
    gateway.inject(refusal)
    error = submit(Store()).error
    assert "Nothing was submitted, and nothing is billed" in str(error)
    assert "may exist" not in str(error)


@pytest.mark.parametrize("fault", [{"drop": True}, {"status": 503}], ids=str)
def test_a_create_without_a_usable_answer_says_that_nothing_was_submitted_if_that_is_proven(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any]
) -> None:
    monkeypatch.setenv("AIRFLOW__BIFROST__RETRY_BUDGET", "0")
    gateway.inject(Fault(**fault, **CREATE))
    error = submit(Store()).error
    assert "Nothing was submitted, and nothing is billed" in str(error)
    assert "may exist" not in str(error)
    assert "Before you submit again" not in str(error)


def test_the_connection_says_how_long_the_gateway_may_repeat_a_create(
    gateway: LocalGateway, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMING", LedgerTiming(sleep=slept.append, settle=math.inf, late=0.0))
    connection = json.loads(gateway.connection_json())
    connection["extra"] = {**connection.get("extra", {}), "settle_time": 1800}
    monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", json.dumps(connection))
    store = killed_before_the_create()
    assert submit(store, try_number=2).state == "success"
    assert sum(slept) == pytest.approx(1800, abs=5)
    assert len(gateway.batches) == 1
