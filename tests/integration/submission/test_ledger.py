"""Submitting exactly once, against the local gateway, which counts what was paid."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_bifrost.exceptions import BifrostBudgetExceeded, BifrostUnavailable, SubmissionInDoubt
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.gateway.retry import NO_RETRY
from airflow_bifrost.submission import ledger as module
from airflow_bifrost.submission.ledger import TAG, Attempt, Create, Ledger, Submission, Tag
from airflow_bifrost.testing import Fault, LocalGateway

ATTEMPT = Attempt("dag", "submit", "run")
ONE, OTHER = "1" * 64, "2" * 64  # digests
LOST = {"method": "POST", "path_contains": "/batches", "applied": True}  # the batch is created, its answer is lost


class Crash(BaseException):
    """The worker is killed."""


class Store(dict[str, Any]):
    """Airflow's store; dies at the ``dies_at``-th write, before or after it."""

    dies_at: int | None = None
    writes = 0

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self[key]) if key in self else default

    def set(self, key: str, value: Any) -> None:
        self.writes += 1
        if self.writes == self.dies_at:
            raise Crash
        self[key] = json.dumps(value)


@pytest.fixture
def client(gateway: LocalGateway) -> Iterator[GatewayClient]:
    config = GatewayConfig(base_url=gateway.url, token="sk-bf-good")
    with GatewayClient(config, retry=NO_RETRY) as client:
        yield client


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    return []


@pytest.fixture
def submit(client: GatewayClient, slept: list[float]) -> Callable[..., Submission]:
    def submit(
        store: Store | None,
        digest: str = ONE,
        *,
        provider: str = "openai",
        first_try: bool = True,
        through: GatewayClient = client,
        **options: Any,
    ) -> Submission:
        def prepare() -> Create:
            def create(metadata: dict[str, str], key: str) -> Batch:
                body = {"model": "echo-1", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
                line = {"custom_id": "1", "params": body, "method": "POST", "url": "/v1/chat/completions", "body": body}
                return through.create_batch(
                    provider=provider,
                    requests=[line],
                    endpoint="/v1/chat/completions",
                    metadata=metadata,
                    idempotency_key=key,
                )

            return create

        ledger = Ledger(
            options.pop("attempt", ATTEMPT),
            through,
            provider=provider,
            memory=store,
            first_try=first_try,
            sleep=slept.append,
            **options,
        )
        return ledger.submit(digest, prepare)

    return submit


Submit = Callable[..., Submission]


def crashed(submit: Submit, provider: str = "openai") -> Store:
    """What a try leaves that was killed between the call and its record."""
    store = Store()
    store.dies_at = 2
    with pytest.raises(Crash):
        submit(store, provider=provider)
    store.dies_at = None
    return store


def test_a_first_submission_makes_one_batch_that_carries_its_tag(gateway: LocalGateway, submit: Submit) -> None:
    submission = submit(Store())
    [batch] = gateway.batches
    assert submission == Submission(batch["id"], new=True)
    assert batch["metadata"][TAG] == str(Tag(ATTEMPT.key, ONE[:32], 1)) == batch["idempotency_key"]


def test_a_retry_goes_on_with_the_batch_of_the_first_try(gateway: LocalGateway, submit: Submit) -> None:
    store = Store()
    first = submit(store)
    assert submit(store, first_try=False) == Submission(first.batch_id, new=False)
    assert len(gateway.batches) == 1


def test_another_task_instance_or_part_is_another_submission(gateway: LocalGateway, submit: Submit) -> None:
    others = [Attempt("dag", "submit", "run", 0), Attempt("dag", "submit", "run", part=2), Attempt("dag", "a", "run")]
    ids = {submit(Store(), attempt=attempt).batch_id for attempt in (ATTEMPT, *others)}
    assert len(ids) == len(gateway.batches) == 4


def test_a_crash_between_the_call_and_the_record_is_found_by_the_tag(gateway: LocalGateway, submit: Submit) -> None:
    store = Store()
    store.dies_at = 2
    with pytest.raises(Crash):
        submit(store)
    [batch] = gateway.batches
    assert submit(store, first_try=False) == Submission(batch["id"], new=False)
    assert len(gateway.batches) == 1


def test_a_crash_before_the_call_submits_once_the_list_shows_nothing(gateway: LocalGateway, submit: Submit) -> None:
    store = Store()
    gateway.inject(Fault(status=503, method="POST", path_contains="/batches"))
    with pytest.raises(BifrostUnavailable):
        submit(store)
    assert submit(store, first_try=False).new
    assert len(gateway.batches) == 1


def test_before_it_looks_a_retry_lets_the_gateway_end_its_own_repeats(
    gateway: LocalGateway, submit: Submit, slept: list[float]
) -> None:
    store = Store()
    store.dies_at = 2
    with pytest.raises(Crash):
        submit(store)
    submit(store, first_try=False)
    assert slept[0] == pytest.approx(module.SETTLE, abs=10)


@pytest.mark.parametrize("fault", [{"status": 504}, {"drop": True}, {"garbage": True}], ids=str)
def test_an_answer_that_is_lost_costs_no_second_batch(
    gateway: LocalGateway, submit: Submit, fault: dict[str, Any]
) -> None:
    gateway.inject(Fault(**fault, **LOST))
    submission = submit(Store())
    [batch] = gateway.batches
    assert submission.batch_id == batch["id"]


def test_of_batches_that_the_gateway_has_created_twice_one_is_kept(gateway: LocalGateway, submit: Submit) -> None:
    store = Store()
    first = submit(store)
    [original] = gateway.batches
    twin = gateway.add_batch(metadata=original["metadata"], created_at=original["created_at"] + 1)
    [(digest, record)] = store.get("bifrost_submission_1").items()
    store["bifrost_submission_1"] = json.dumps({digest: record | {"state": "intent", "at": 0.0}})
    assert submit(store, first_try=False).batch_id == first.batch_id
    states = {batch["id"]: batch["status"] for batch in gateway.batches}
    assert states[twin] in ("cancelling", "cancelled")
    assert states[first.batch_id] not in ("cancelling", "cancelled")


def test_a_clear_refusal_leaves_no_doubt(gateway: LocalGateway, submit: Submit, slept: list[float]) -> None:
    store = Store()
    gateway.inject(Fault(status=402, method="POST", path_contains="/batches"))
    with pytest.raises(BifrostBudgetExceeded):
        submit(store, provider="anthropic")
    assert submit(store, provider="anthropic", first_try=False).new
    assert len(gateway.batches) == 1
    assert not slept


def test_a_call_that_found_nobody_listening_leaves_no_doubt(gateway: LocalGateway, submit: Submit) -> None:
    store = Store()
    config = GatewayConfig(base_url="http://127.0.0.1:9", token="sk-bf-good")
    with GatewayClient(config, retry=NO_RETRY) as nobody, pytest.raises(BifrostUnavailable):
        submit(store, provider="anthropic", through=nobody)
    assert submit(store, provider="anthropic", first_try=False).new
    assert len(gateway.batches) == 1


def test_a_refusal_of_a_repeated_call_is_no_proof_that_the_first_did_not_get_through(
    gateway: LocalGateway, submit: Submit
) -> None:
    gateway.inject(Fault(status=429, **LOST))
    submission = submit(Store())
    [batch] = gateway.batches
    assert submission == Submission(batch["id"], new=False)


def test_doubt_that_the_provider_cannot_resolve_stops_the_task(gateway: LocalGateway, submit: Submit) -> None:
    store = Store()
    gateway.inject(Fault(status=504, **LOST))
    with pytest.raises(BifrostUnavailable, match="may exist"):
        submit(store, provider="anthropic")
    for _ in range(2):
        with pytest.raises(SubmissionInDoubt, match=r"anthropic keeps no note.*on_unknown='resubmit'"):
            submit(store, provider="anthropic", first_try=False)
    assert len(gateway.batches) == 1


def test_who_decides_to_submit_in_doubt_gets_a_second_batch(gateway: LocalGateway, submit: Submit) -> None:
    store = Store()
    store.dies_at = 2
    with pytest.raises(Crash):
        submit(store, provider="anthropic")
    assert submit(store, provider="anthropic", first_try=False, on_unknown="resubmit").new
    assert len(gateway.batches) == 2


def test_a_list_that_is_refused_is_no_proof_of_absence(gateway: LocalGateway, submit: Submit) -> None:
    store = Store()
    store.dies_at = 2
    with pytest.raises(Crash):
        submit(store)
    gateway.inject(Fault(status=403, method="GET", path_contains="/batches", times=None))
    with pytest.raises(SubmissionInDoubt, match="the list of openai cannot be read"):
        submit(store, first_try=False)
    assert len(gateway.batches) == 1


def test_a_list_that_is_away_for_a_while_is_asked_again_by_a_retry(gateway: LocalGateway, submit: Submit) -> None:
    store = Store()
    store.dies_at = 2
    with pytest.raises(Crash):
        submit(store)
    gateway.inject(Fault(status=503, method="GET", path_contains="/batches"))
    with pytest.raises(BifrostUnavailable):
        submit(store, first_try=False)
    assert not submit(store, first_try=False).new
    assert len(gateway.batches) == 1


def test_a_list_without_an_end_in_sight_proves_nothing(
    gateway: LocalGateway, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_LISTED", 3)
    store = Store()
    store.dies_at = 2
    with pytest.raises(Crash):
        submit(store)
    for _ in range(4):
        gateway.add_batch()
    with pytest.raises(SubmissionInDoubt, match="longer than 3 batches"):
        submit(store, first_try=False)


def test_the_batch_is_found_on_whatever_page_of_the_list_it_stands(gateway: LocalGateway, submit: Submit) -> None:
    store = Store()
    store.dies_at = 2
    with pytest.raises(Crash):
        submit(store)
    [mine] = [batch["id"] for batch in gateway.batches]
    for _ in range(250):
        gateway.add_batch(status="completed")
    assert submit(store, first_try=False).batch_id == mine


def test_changed_input_is_a_new_batch_and_the_old_one_is_left(gateway: LocalGateway, submit: Submit) -> None:
    store = Store()
    old = submit(store)
    new = submit(store, OTHER, first_try=False)
    assert new.new
    assert [batch["status"] for batch in gateway.batches if batch["id"] == old.batch_id] != ["cancelling"]
    assert submit(store, OTHER, first_try=False).batch_id == new.batch_id
    assert len(gateway.batches) == 2


def test_changed_input_can_cancel_the_old_batch(gateway: LocalGateway, submit: Submit) -> None:
    store = Store()
    old = submit(store)
    submit(store, OTHER, first_try=False, on_changed_input="cancel")
    states = {batch["id"]: batch["status"] for batch in gateway.batches}
    assert states[old.batch_id] in ("cancelling", "cancelled")


def test_input_that_is_changed_back_goes_on_with_its_first_batch(gateway: LocalGateway, submit: Submit) -> None:
    store = Store()
    first = submit(store)
    second = submit(store, OTHER, first_try=False)
    again = submit(store, first_try=False)
    assert (again.batch_id, again.new) == (first.batch_id, False)
    assert submit(store, first_try=False).batch_id == first.batch_id
    assert submit(store, OTHER, first_try=False).batch_id == second.batch_id
    assert len(gateway.batches) == 2


def test_a_crash_between_the_cancel_and_its_record_does_not_bring_the_cancelled_batch_back(
    gateway: LocalGateway, submit: Submit
) -> None:
    store = Store()
    first = submit(store)
    store.dies_at = store.writes + 1
    with pytest.raises(Crash):
        submit(store, OTHER, first_try=False, on_changed_input="cancel")
    store.dies_at = None
    assert submit(store, first_try=False, on_changed_input="cancel").batch_id != first.batch_id


def test_what_the_gateway_made_twice_is_cancelled_also_when_another_input_has_come(
    gateway: LocalGateway, submit: Submit
) -> None:
    store = crashed(submit)
    [original] = gateway.batches
    twin = gateway.add_batch(metadata=original["metadata"], created_at=original["created_at"] + 1)
    submit(store, OTHER, first_try=False)
    states = {batch["id"]: batch["status"] for batch in gateway.batches}
    assert states[twin] in ("cancelling", "cancelled")
    assert states[original["id"]] not in ("cancelling", "cancelled")
    assert submit(store, first_try=False) == Submission(original["id"], new=False, duplicates=[twin])


def test_without_a_memory_a_retry_waits_once_for_the_gateway(
    gateway: LocalGateway, submit: Submit, slept: list[float]
) -> None:
    submit(None, first_try=False)
    assert slept == [module.SETTLE]


def test_input_that_is_changed_back_is_submitted_again_if_its_batch_was_cancelled(
    gateway: LocalGateway, submit: Submit
) -> None:
    store = Store()
    first = submit(store)
    submit(store, OTHER, first_try=False, on_changed_input="cancel")
    again = submit(store, first_try=False)
    assert again.new
    assert again.batch_id != first.batch_id
    assert len(gateway.batches) == 3


def test_input_that_is_changed_back_is_found_though_its_record_was_lost(gateway: LocalGateway, submit: Submit) -> None:
    store = crashed(submit)
    [old] = [batch["id"] for batch in gateway.batches]
    submit(store, OTHER, first_try=False)
    assert submit(store, first_try=False).batch_id == old


def test_doubt_is_not_forgotten_while_another_input_is_there(gateway: LocalGateway, submit: Submit) -> None:
    store = crashed(submit, "anthropic")
    assert submit(store, OTHER, provider="anthropic", first_try=False).new
    with pytest.raises(SubmissionInDoubt):
        submit(store, provider="anthropic", first_try=False)
    assert len(gateway.batches) == 2


def test_a_list_that_is_refused_once_is_asked_again_when_the_input_comes_back(
    gateway: LocalGateway, submit: Submit
) -> None:
    store = crashed(submit)
    [old] = [batch["id"] for batch in gateway.batches]
    gateway.inject(Fault(status=403, method="GET", path_contains="/batches"))
    submit(store, OTHER, first_try=False)
    assert submit(store, first_try=False).batch_id == old


def test_without_a_memory_input_that_is_changed_back_is_found_in_the_list(
    gateway: LocalGateway, submit: Submit
) -> None:
    first = submit(None)
    submit(None, OTHER, first_try=False)
    assert submit(None, first_try=False).batch_id == first.batch_id


def test_a_batch_that_is_gone_when_its_input_comes_back_is_a_doubt(gateway: LocalGateway, submit: Submit) -> None:
    store = Store()
    submit(store)
    submit(store, OTHER, first_try=False)
    gateway.inject(Fault(status=404, method="GET", path_contains="/batches/", times=None))
    with pytest.raises(SubmissionInDoubt, match="is gone"):
        submit(store, first_try=False)
    assert submit(store, first_try=False, on_unknown="resubmit").new


def test_an_answer_that_is_lost_and_a_list_that_cannot_tell_are_the_error_of_the_call(
    gateway: LocalGateway, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_LISTED", 3)
    for _ in range(4):
        gateway.add_batch()
    gateway.inject(Fault(status=504, **LOST))
    with pytest.raises(BifrostUnavailable, match="A batch may exist and be billed"):
        submit(Store())


def test_changed_input_finds_also_an_old_batch_whose_record_was_lost(gateway: LocalGateway, submit: Submit) -> None:
    store = Store()
    store.dies_at = 2
    with pytest.raises(Crash):
        submit(store)
    [old] = [batch["id"] for batch in gateway.batches]
    submit(store, OTHER, first_try=False, on_changed_input="cancel")
    states = {batch["id"]: batch["status"] for batch in gateway.batches}
    assert states.pop(old) in ("cancelling", "cancelled")
    assert len(states) == 1


def test_doubt_about_another_input_does_not_stop_this_one(gateway: LocalGateway, submit: Submit) -> None:
    store = Store()
    store.dies_at = 2
    with pytest.raises(Crash):
        submit(store, provider="anthropic")
    assert submit(store, OTHER, provider="anthropic", first_try=False).new


def test_without_a_memory_a_retry_finds_its_batch_in_the_list(gateway: LocalGateway, submit: Submit) -> None:
    first = submit(None)
    assert submit(None, first_try=False) == Submission(first.batch_id, new=False)
    assert submit(None, OTHER, first_try=False).new
    assert len(gateway.batches) == 2


def test_without_a_memory_an_provider_that_keeps_no_note_leaves_a_retry_in_doubt(
    gateway: LocalGateway, submit: Submit
) -> None:
    submit(None, provider="anthropic")
    with pytest.raises(SubmissionInDoubt):
        submit(None, provider="anthropic", first_try=False)


@pytest.mark.parametrize("remembers", [True, False], ids=["remembered", "not remembered"])
def test_an_earlier_batch_is_submitted_again_if_its_outcome_says_so(
    gateway: LocalGateway, submit: Submit, remembers: bool
) -> None:
    store = Store() if remembers else None
    first = submit(store)
    again = {"first_try": False, "resubmit": ("failed",)}
    assert submit(store, **again).batch_id == first.batch_id
    gateway.set_batch(first.batch_id, status="failed")
    second = submit(store, **again)
    assert second.new
    assert submit(store, **again).batch_id == second.batch_id
    assert len(gateway.batches) == 2


def test_a_crash_of_the_second_submission_is_not_taken_for_the_first(gateway: LocalGateway, submit: Submit) -> None:
    store = Store()
    first = submit(store)
    gateway.set_batch(first.batch_id, status="failed")
    store.dies_at = store.writes + 2
    with pytest.raises(Crash):
        submit(store, first_try=False, resubmit=("failed",))
    [second] = [batch["id"] for batch in gateway.batches if batch["id"] != first.batch_id]
    assert submit(store, first_try=False, resubmit=("failed",)).batch_id == second


def test_a_record_that_cannot_be_read_is_an_error_and_never_none(gateway: LocalGateway, submit: Submit) -> None:
    class Broken(Store):
        def get(self, key: str, default: Any = None) -> Any:
            raise OSError("the store is away")

    with pytest.raises(OSError, match="away"):
        submit(Broken())
    assert not gateway.batches
