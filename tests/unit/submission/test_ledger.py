"""The ledger against a gateway in memory: one rule per test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.batch_api import BatchApi

from airflow_bifrost.exceptions import BifrostUnavailable, ResultsUnavailable, SubmissionInDoubt
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.submission.ledger import (
    BatchInput,
    Deployment,
    Ledger,
    LedgerTiming,
    Origin,
    Policy,
    Submission,
    read_records,
)
from airflow_bifrost.submission.ledger.record import DIGEST_LENGTH, SubmissionRecord

DIGEST = "1" * 64
POLICY = Policy()
ORIGIN = Origin("dag", "task", "run")
OWN_IDS = ("doc-7", "doc-8")


class Killed(BaseException):
    """The worker got SIGKILL."""


SIX_SENDS = 6 * 300.0  # seconds; what a gateway with max_retries 2 may take for a create


@dataclass
class Store:
    values: dict[str, str] = field(default_factory=dict)
    after_set: Callable[[Any], None] = lambda _: None

    def get(self, key: str) -> Any:
        return json.loads(self.values[key]) if key in self.values else None

    def set(self, key: str, value: Any) -> None:
        self.values[key] = json.dumps(value)
        self.after_set(value)


@dataclass
class Task:
    """One task instance, whose attempts are made one after another."""

    provider: str = "openai"
    custom_ids: tuple[str, ...] = OWN_IDS
    api: BatchApi = field(default_factory=BatchApi)
    store: Store = field(default_factory=Store)
    clock_is_off: float = 0.0
    lines_are_lost: bool = False

    def __post_init__(self) -> None:
        self.api.keeps_metadata = self.provider == "openai"

    @property
    def record(self) -> SubmissionRecord:
        return read_records(self.store, 1)[DIGEST[:DIGEST_LENGTH]]

    def ledger(
        self, policy: Policy = POLICY, result_ids: Callable[[str], Iterable[str]] | None = None, **options: Any
    ) -> Ledger:
        self.api.clock_offset = -self.clock_is_off
        timing = LedgerTiming(
            sleep=self.api.sleep,
            now=lambda: self.api.now + self.clock_is_off,
            clock=lambda: self.api.now,
            settle=SIX_SENDS,
        )
        return Ledger(
            ORIGIN,
            self.api,  # type: ignore[arg-type]
            provider=self.provider,
            store=self.store,
            deployment=Deployment.named("production"),
            policy=policy,
            result_ids=result_ids or self.api.result_ids,
            timing=timing,
            **options,
        )

    def source(self) -> BatchInput:
        def create(file_id: str | None, metadata: dict[str, str], key: str) -> Batch:
            return self.api.create(metadata, input_file_id=file_id, custom_ids=self.custom_ids)

        upload = self.api.upload if self.provider == "openai" else None
        return BatchInput(create, upload, rows=2, custom_ids=lambda: None if self.lines_are_lost else self.custom_ids)

    def submit(self, policy: Policy = POLICY, **options: Any) -> Submission:
        return self.ledger(policy, **options).submit(DIGEST, self.source())

    def killed_after_the_create(self) -> None:
        def die(value: Any) -> None:
            if any(record["state"] == "intent" for record in value.values()):
                self.store.after_set = lambda _: None
                self.api.make(custom_ids=self.custom_ids)
                raise Killed

        self.store.after_set = die
        with pytest.raises(Killed):
            self.submit()
        self.api.now += 700

    def end_batches(self, status: str = "completed") -> None:
        for made in self.api.batches:
            made.status = status


def unavailable(batch_id: str) -> list[str]:
    raise ResultsUnavailable(f"{batch_id} has no results")


# Candidates


def test_a_candidate_without_results_is_neither_adopted_nor_excluded() -> None:
    task = Task("anthropic")
    task.killed_after_the_create()
    assert not task.submit().confirmed
    task.end_batches("failed")
    with pytest.raises(SubmissionInDoubt, match="cannot be compared with this input"):
        task.submit(result_ids=unavailable)
    with pytest.raises(SubmissionInDoubt, match="batch_1"):
        task.submit(result_ids=unavailable)


def test_the_users_word_stands_if_the_results_do_not_contradict_it() -> None:
    task = Task("anthropic")
    task.killed_after_the_create()
    assert task.submit(Policy(adopt="batch_1", can_wait=False)).batch_id == "batch_1"
    task.end_batches("failed")
    submission = task.submit(result_ids=unavailable)
    assert (submission.batch_id, submission.confirmed) == ("batch_1", True)


# Two workers on one attempt


def killed_with_a_rival(task: Task) -> None:
    """Two workers have created a batch each. The second was killed when it had recorded both, and before it chose one."""

    def before(call: str) -> None:
        if call == "create":
            task.api.before = lambda _: None
            task.submit()

    def die(value: Any) -> None:
        if any(record["rivals"] for record in value.values()):
            task.store.after_set = lambda _: None
            raise Killed

    task.api.before, task.store.after_set = before, die
    with pytest.raises(Killed):
        task.submit()
    assert len(task.api.paid()) == 2


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_the_batch_of_another_worker_is_settled_by_the_next_attempt_if_this_one_dies(provider: str) -> None:
    task = Task(provider)
    killed_with_a_rival(task)
    kept = task.submit().batch_id
    assert task.api.paid() == [kept]
    assert task.record.rivals == []


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_create_that_was_not_sent_does_not_forget_the_batch_of_another_worker(provider: str) -> None:
    task = Task(provider)
    others: list[str] = []

    def before(call: str) -> None:
        if call == "create":
            task.api.before = lambda _: None
            others.append(task.submit().batch_id)
            raise BifrostUnavailable("The connection was refused.", sent=False)

    task.api.before = before
    assert [task.submit().batch_id] == others == task.api.paid()


def test_a_recorded_batch_is_kept_if_the_provider_knows_neither_it_nor_that_of_another_worker() -> None:
    task = Task("anthropic")
    killed_with_a_rival(task)
    batch_id = task.record.batch_id
    task.api.batches.clear()
    assert task.submit().batch_id == batch_id


# Clocks


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_wrong_by_an_hour_does_not_end_the_quiet_time(hours: int) -> None:
    """The gateway's clock is the same for all workers."""
    task = Task(clock_is_off=hours * 3600.0)

    def die(call: str) -> None:
        if call == "list":
            task.api.before = lambda _: None
            raise Killed

    task.api.create_as, task.api.before = ["late"], die
    with pytest.raises(Killed):
        task.submit()
    task.clock_is_off = 0.0
    kept = task.submit().batch_id
    assert task.api.paid() == [kept]


# Keys


def test_the_key_that_the_client_took_up_during_the_create_is_the_one_that_is_remembered() -> None:
    """The gateway refused the create under the old key, so only the list under the new one matters."""
    task = Task()

    def rotate(call: str) -> None:
        if call == "create":
            task.api.key_id = "new"

    task.api.key_id, task.api.before, task.api.create_as = "old", rotate, ["closed"]
    with pytest.raises(BifrostUnavailable):
        task.submit()
    assert (task.record.state, task.record.key) == ("refused", "new")


def test_a_batch_that_is_listed_under_another_key_is_found() -> None:
    task = Task()
    task.killed_after_the_create()
    task.api.key_id = "new"
    task.api.batches[0].input_file_id = task.record.input_file_id
    assert task.submit().batch_id == "batch_1"


# Lines that are lost


def test_a_candidate_is_never_forgotten_because_the_lines_to_compare_are_lost() -> None:
    task = Task("anthropic")
    task.killed_after_the_create()
    assert not task.submit().confirmed
    task.end_batches()
    task.lines_are_lost = True
    with pytest.raises(SubmissionInDoubt, match="batch_1"):
        task.submit()
    assert task.submit(Policy(adopt="batch_1")).batch_id == "batch_1"
    assert task.submit().confirmed


def test_a_batch_that_the_user_named_is_kept_although_the_lines_to_compare_are_lost() -> None:
    task = Task("anthropic")
    task.killed_after_the_create()
    assert not task.submit(Policy(adopt="batch_1", can_wait=False)).confirmed
    task.end_batches()
    task.lines_are_lost = True
    assert task.submit().confirmed


# Twins


def test_only_one_batch_is_paid_for_if_the_gateway_sends_a_create_six_times() -> None:
    task = Task()
    task.api.create_as = ["six times, lost"]
    kept = task.submit().batch_id
    assert len(task.api.batches) == 6
    assert task.api.paid() == [kept]


def test_a_possible_twin_is_named_but_never_cancelled_if_batches_carry_no_metadata(
    caplog: pytest.LogCaptureFixture,
) -> None:
    task = Task("anthropic")
    task.api.make("theirs", rows=2)
    task.api.now += 3600
    task.api.create_as = ["twice"]
    assert task.submit().batch_id == "batch_3"
    assert task.api.paid() == ["batch_2", "batch_3"]
    [warning] = [record.getMessage() for record in caplog.records if "batch_2" in record.getMessage()]
    assert "batch_1" not in warning
    assert "cancel" in warning


def test_two_batches_of_one_lost_create_are_both_named_if_batches_carry_no_metadata() -> None:
    task = Task("anthropic")
    task.api.create_as = ["twice, lost"]
    with pytest.raises(SubmissionInDoubt, match=r"batch_2.*batch_1.*cancel the others") as raised:
        task.submit()
    assert "adopt" in str(raised.value)
    assert task.submit(Policy(adopt="batch_2")).batch_id == "batch_2"
