"""A ledger under crashes, lost answers, repeated creates, lists that lie and a second worker: no input is paid for twice.

The gateway and the store are in memory, so thousands of orders of events take seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.batch_api import BatchApi, Made

from airflow_bifrost.exceptions import BifrostGatewayError, SubmissionInDoubt
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.submission.ledger import BatchInput, Deployment, Ledger, LedgerTiming, Origin, Policy, Submission

DIGEST = "1" * 64
CREATES = ["ok", "lost", "late", "twice", "twice, lost", "429, applied", "429", "400", "503", "closed", "unsent"]
LISTS = ["ok", "ok", "ok", "cut", "empty pages", "away", "refused"]
CALLS = ["create", "list", "get_batch", "cancel_batch", "upload", "store"]


class Killed(BaseException):
    """The worker got SIGKILL."""


@dataclass
class Store:
    values: dict[str, str] = field(default_factory=dict)
    before_set: Callable[[str], None] = lambda _: None

    def get(self, key: str) -> Any:
        return json.loads(self.values[key]) if key in self.values else None

    def set(self, key: str, value: Any) -> None:
        self.before_set("store")
        self.values[key] = json.dumps(value)
        self.before_set("store")


class Attempts(RuleBasedStateMachine):
    """The attempts of one task instance whose input stays the same."""

    provider = "openai"
    creates = tuple(CREATES)
    creates_of_the_other = ("ok", "lost", "twice")
    custom_ids = ("row-000000001", "row-000000002")

    def __init__(self) -> None:
        super().__init__()
        self.api = BatchApi(keeps_metadata=self.provider == "openai")
        self.store = Store(before_set=lambda name: self.api.before(name))
        self.attempts = 0
        self.clock_is_off = 0.0
        self.end: Submission | BaseException | None = None

    @initialize(ids=st.booleans(), others=st.integers(0, 2))
    def begin(self, ids: bool, others: int) -> None:
        for _ in range(others):
            self.api.make("theirs")
        self.custom_ids = ("doc-7", "doc-8") if ids else self.custom_ids

    def ledger(self) -> Ledger:
        return Ledger(
            Origin("dag", "task", "run"),
            self.api,  # type: ignore[arg-type]
            provider=self.provider,
            store=self.store,
            deployment=Deployment.named("production"),
            may_be_lost=False,
            policy=Policy(),
            result_ids=self.api.result_ids,
            timing=LedgerTiming(
                sleep=self.api.sleep, now=lambda: self.api.now + self.clock_is_off, clock=lambda: self.api.now
            ),
        )

    def attempt(self) -> None:
        self.api.create_as = [how for how in self.api.create_as if how in self.creates]

        def create(file_id: str | None, metadata: dict[str, str], key: str) -> Batch:
            return self.api.create(metadata, input_file_id=file_id, custom_ids=self.custom_ids)

        upload = self.api.upload if self.provider == "openai" else None
        source = BatchInput(create, upload, rows=2, custom_ids=lambda: self.custom_ids)
        self.attempts += 1
        try:
            self.end = self.ledger().submit(DIGEST, source)
        except (BifrostGatewayError, SubmissionInDoubt, Killed) as error:
            self.end = error
        finally:
            self.api.before = lambda _: None
            self.api.list_as.clear()
            self.api.create_as.clear()

    @rule(create=st.sampled_from(CREATES), lists=st.sampled_from(LISTS))
    def an_attempt_with_faults(self, create: str, lists: str) -> None:
        self.api.create_as, self.api.list_as = [create], [lists] * 100
        self.attempt()

    @rule(
        create=st.sampled_from(CREATES),
        name=st.sampled_from(["store", *CALLS]),
        number=st.integers(1, 4),
        later=st.sampled_from([0.0, 700.0]),
        lists=st.sampled_from(LISTS),
    )
    def an_attempt_is_killed_and_the_next_meets_such_a_list(
        self, create: str, name: str, number: int, later: float, lists: str
    ) -> None:
        self.api.create_as = [create]
        self.api.before = self._at(name, number, self._die)
        self.attempt()
        self.api.now += later
        self.api.list_as = [lists] * 100
        self.attempt()

    @rule(name=st.sampled_from(CALLS), number=st.integers(1, 3), create=st.sampled_from(["ok", "lost", "twice"]))
    def another_worker_makes_the_same_attempt_meanwhile(self, name: str, number: int, create: str) -> None:
        if name == "store" and self.provider != "openai":
            return
        self.api.create_as = [create] if create in self.creates_of_the_other else []
        self.api.before = self._at(name, number, self.attempt)
        self.attempt()

    @rule(seconds=st.sampled_from([1.0, 60.0, 700.0, 90_000.0]))
    def time_passes(self, seconds: float) -> None:
        self.api.now += seconds

    @rule(seconds=st.sampled_from([-100.0, 0.0, 100.0]))
    def the_next_worker_has_another_clock(self, seconds: float) -> None:
        self.clock_is_off = seconds

    @rule()
    def a_batch_ends(self) -> None:
        if len(self.api.paid()) == 1:  # of two, both would be paid for before anybody could know
            for made in self.api.batches:
                made.status = "completed" if made.status == "in_progress" else made.status

    def _at(self, name: str, number: int, do: Callable[[], None]) -> Callable[[str], None]:
        seen = 0

        def before(called: str) -> None:
            nonlocal seen
            if called == name:
                seen += 1
                if seen == number:
                    do()

        return before

    def _die(self) -> None:
        raise Killed

    def teardown(self) -> None:
        self.api.now += 700
        for _ in range(2):
            self.attempt()
        self.check_the_end()

    def check_the_end(self) -> None:
        assert isinstance(self.end, Submission)
        assert self.api.paid() == [self.end.batch_id]

    @invariant()
    def a_batch_that_an_attempt_goes_on_with_is_its_own(self) -> None:
        if isinstance(self.end, Submission) and self.end.confirmed:
            assert self._made(self.end).owner == "mine"

    def _made(self, end: Submission) -> Made:
        return next(made for made in self.api.batches if made.id == end.batch_id)


class AttemptsWithoutMetadata(Attempts):
    """The same for a provider that stores no metadata, with other people's batches in its list.

    Nothing tells that two batches come from one create, so creates are not repeated here. And the other worker gets an answer: while it
    settled a lost one, this worker would stand still for ten minutes between its intent and its create. For the same reason the other
    does not make its whole attempt between a read and a write of the store.
    """

    provider = "anthropic"
    creates = tuple(how for how in CREATES if not how.startswith("twice"))
    creates_of_the_other = ("ok",)

    @rule(rows=st.sampled_from([2, 3]), same_ids=st.booleans())
    def somebody_else_submits(self, rows: int, same_ids: bool) -> None:
        self.api.make("theirs", rows=rows, custom_ids=("row-000000001", "row-000000002") if same_ids else ("x", "y"))

    def check_the_end(self) -> None:
        paid = self.api.paid()
        assert len(paid) <= 1
        assert isinstance(self.end, Submission | SubmissionInDoubt)
        if isinstance(self.end, Submission) and self.end.confirmed:
            assert paid == [self.end.batch_id]


SETTINGS = settings(max_examples=800, stateful_step_count=8, deadline=None, suppress_health_check=list(HealthCheck))
TestAttempts = Attempts.TestCase
TestAttempts.settings = SETTINGS
TestAttemptsWithoutMetadata = AttemptsWithoutMetadata.TestCase
TestAttemptsWithoutMetadata.settings = SETTINGS
