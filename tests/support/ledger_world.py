"""The attempts of one task whose input stays the same, with a gateway, a store and clocks in memory: crashes, lost answers, repeated creates,
lists that lie, and a second worker."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from airflow_bifrost.exceptions import BifrostGatewayError, SubmissionInDoubt
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.submission.ledger import BatchInput, Deployment, Ledger, LedgerTiming, Origin, Submission
from airflow_bifrost.worker.state_store import is_remembering
from support.airflow import FakeTI
from support.batch_api import BatchApi
from support.walks import World, event

DIGEST = "1" * 64
TWINS = ["twice", "twice, lost", "six times, lost"]
CREATES = ["ok", "lost", "late", *TWINS, "429, applied", "429", "400", "503", "closed", "unsent"]
LISTS = ["ok", "ok", "ok", "cut", "empty pages", "away", "refused"]
CALLS = ["create", "list", "get_batch", "cancel_batch", "upload", "store"]


class Killed(BaseException):
    """The worker got SIGKILL."""


@dataclass
class MemoryStore:
    """A task state store whose writes are seen and may be interrupted."""

    values: dict[str, str] = field(default_factory=dict)
    before_set: Callable[[str], None] = lambda _: None

    def get(self, key: str) -> Any:
        return json.loads(self.values[key]) if key in self.values else None

    def set(self, key: str, value: Any) -> None:
        self.before_set("store")
        self.values[key] = json.dumps(value)
        self.before_set("store")


class LedgerWorld(World):
    """A provider that stores metadata."""

    first = "it_begins"
    provider: ClassVar[str] = "openai"
    creates: ClassVar[tuple[str, ...]] = tuple(CREATES)
    creates_of_the_other: ClassVar[tuple[str, ...]] = ("ok", "lost", "twice")

    def __init__(self) -> None:
        self.custom_ids: tuple[str, ...] = ("row-000000001", "row-000000002")
        self.api = BatchApi(keeps_metadata=self.provider == "openai")
        self.store = MemoryStore(before_set=lambda name: self.api.before(name))
        self.theirs = MemoryStore()
        self.attempts = 0
        self.clock_is_off = 0.0
        self.end: Submission | BaseException | None = None
        self.lost_a_record = False

    @property
    def steps(self) -> int:
        return len(self.api.calls)

    # An attempt

    def ledger(self, deployment: str, store: MemoryStore) -> Ledger:
        context = {"ti": FakeTI(try_number=self.attempts)}
        return Ledger(
            Origin("dag", "task", "run"),
            self.api,  # type: ignore[arg-type]
            provider=self.provider,
            store=store,
            deployment=Deployment.named(deployment),
            may_be_lost=not is_remembering(store, context),
            result_ids=self.api.result_ids,
            timing=LedgerTiming(
                sleep=self.api.sleep,
                now=lambda: self.api.now + self.clock_is_off,
                clock=lambda: self.api.now,
                settle=6 * 300.0,  # what a gateway with max_retries 2 may take for a create
            ),
        )

    def attempt(self) -> None:
        self.attempts += 1
        self.run()

    def run(self) -> None:
        self.end = self.submission("production", self.store)

    def submission(self, deployment: str, store: MemoryStore) -> Submission | BaseException:
        self.api.create_as = [how for how in self.api.create_as if how in self.creates]
        owner = "mine" if deployment == "production" else deployment

        def create(file_id: str | None, metadata: dict[str, str], key: str) -> Batch:
            self.api.owner = owner
            return self.api.create(metadata, input_file_id=file_id, custom_ids=self.custom_ids)

        upload = self.api.upload if self.provider == "openai" else None
        source = BatchInput(create, upload, rows=2, custom_ids=lambda: self.custom_ids)
        try:
            return self.ledger(deployment, store).submit(DIGEST, source)
        except (BifrostGatewayError, SubmissionInDoubt, Killed) as error:
            return error
        finally:
            self.api.before = lambda _: None
            self.api.list_as.clear()
            self.api.create_as.clear()

    # Events

    @event(ids=[True, False], others=[0, 1, 2])
    def it_begins(self, ids: bool, others: int) -> None:
        if not self.attempts:  # it may be drawn again later
            self.custom_ids = ("doc-7", "doc-8") if ids else self.custom_ids
            for _ in range(others):
                self.api.make("theirs")

    @event(2, create=CREATES, lists=LISTS)
    def an_attempt_with_faults(self, create: str, lists: str) -> None:
        self.api.create_as, self.api.list_as = [create], [lists] * 100
        self.attempt()

    @event(4, create=CREATES, name=["store", *CALLS], number=[1, 2, 3, 4], later=[0.0, 700.0], lists=LISTS)
    def an_attempt_is_killed_and_the_next_meets_such_a_list(
        self, create: str, name: str, number: int, later: float, lists: str
    ) -> None:
        self.api.create_as = [create]
        self.api.before = self._at(name, number, _die)
        self.attempt()
        self.api.now += later
        self.api.list_as = [lists] * 100
        self.attempt()

    @event(4, name=CALLS, number=[1, 2, 3, 4], create=["ok", "lost", "twice"])
    def another_worker_makes_the_same_attempt_meanwhile(self, name: str, number: int, create: str) -> None:
        if name == "store" and self.provider != "openai":
            return
        self.api.create_as = [create] if create in self.creates_of_the_other else []
        self.api.before = self._at(name, number, self.run)
        self.attempt()

    @event(seconds=[1.0, 60.0, 700.0, 90_000.0])
    def time_passes(self, seconds: float) -> None:
        self.api.now += seconds

    @event(seconds=[-3600.0, -100.0, 0.0, 100.0, 3600.0])
    def the_next_worker_has_another_clock(self, seconds: float) -> None:
        self.clock_is_off = seconds
        self.api.clock_offset = -seconds  # the gateway's answers have a date

    @event()
    def a_batch_ends(self) -> None:
        if len(self.api.paid()) == 1:  # of two, both would be paid for before anybody could know
            for made in self.api.batches:
                made.status = "completed" if made.status == "in_progress" else made.status

    @event()
    def the_record_is_gone(self) -> None:
        self.store.values.clear()
        self.lost_a_record = True
        self.api.now += 1500  # what was sent before is listed by now

    @event(create=["ok", "lost", "429"])
    def another_deployment_runs_the_same_dag(self, create: str) -> None:
        self.api.create_as = [create]
        self.submission("staging", self.theirs)

    # The oracle

    def check(self) -> None:
        end = self.end
        if isinstance(end, Submission) and end.confirmed:
            assert self.owner_of(end) == "mine", "another task's batch is taken for this task's"
        for made in self.api.batches:
            assert made.owner == "mine" or "cancel" not in made.status, "another task's batch is cancelled"

    def owner_of(self, end: Submission) -> str:
        return next(made.owner for made in self.api.batches if made.id == end.batch_id)

    def finish(self) -> None:
        self.api.now += 700
        for _ in range(2):
            self.attempt()
            self.check()
        self.check_the_end()

    def check_the_end(self) -> None:
        assert isinstance(self.end, Submission), self.end
        assert self.api.paid() == [self.end.batch_id]

    def _at(self, name: str, number: int, do: Callable[[], None]) -> Callable[[str], None]:
        seen = 0

        def before(called: str) -> None:
            nonlocal seen
            if called == name:
                seen += 1
                if seen == number:
                    do()

        return before


class LedgerWorldWithoutMetadata(LedgerWorld):
    """A provider that stores no metadata, with other people's batches in its list.

    Nothing shows that two batches come from one create, so creates are not repeated here. The other worker always gets an answer. Otherwise
    this worker would wait for ten minutes between its intent and its create, while the other settles the lost answer. For the same reason,
    the other worker does not make its whole attempt between a read and a write of the store.
    """

    provider = "anthropic"
    creates = tuple(how for how in CREATES if how not in TWINS)
    creates_of_the_other = ("ok",)

    @event(2, rows=[2, 3], same_ids=[True, False])
    def somebody_else_submits(self, rows: int, same_ids: bool) -> None:
        self.api.make("theirs", rows=rows, custom_ids=("row-000000001", "row-000000002") if same_ids else ("x", "y"))

    def check_the_end(self) -> None:
        paid = self.api.paid()
        assert len(paid) <= 1, "paid twice"
        assert isinstance(self.end, Submission | SubmissionInDoubt)
        if isinstance(self.end, Submission) and self.end.confirmed:
            assert paid == [self.end.batch_id]


def _die() -> None:
    raise Killed
