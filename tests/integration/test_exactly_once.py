"""A run that is killed, stopped or disturbed at any step, in any order, with retries: no row is paid twice, and each paid result is written.

The machine's rules are what may happen to a task: it is killed or stopped by a user at some step, another worker runs the same attempt, the
gateway loses an answer or is unavailable, lists lie, files are late, clocks jump, the rows, the request or the limits change and change
back, the folder vanishes, the record vanishes or is kept elsewhere, another deployment runs the same DAG with the same rows. The oracle
reads the gateway's own books.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import ClassVar
from unittest import mock

import httpx
import pytest
from fsspec.implementations.local import LocalFileSystem
from support.airflow import FakeTI, Store, run_to_its_end
from support.books import Books
from support.providers import with_rows
from support.steps import Killed, Steps, Turns
from support.walks import World, event, is_nightly, walk

from airflow_bifrost import BatchRunOperator, providers
from airflow_bifrost.exceptions import SubmissionInDoubt
from airflow_bifrost.gateway.retry import RetryPolicy
from airflow_bifrost.hooks import clients
from airflow_bifrost.results import collect, read_rows
from airflow_bifrost.results.spool import Spool
from airflow_bifrost.runs import attempt
from airflow_bifrost.runs.folder import RunFolder
from airflow_bifrost.submission.ledger import LedgerTiming
from airflow_bifrost.testing import Fault, LocalGateway, ProviderBehavior
from airflow_bifrost.waiting import policy
from airflow_bifrost.worker import submit, wait

PROMPTS = [*(f"prompt {number}" for number in range(6)), "!flaky 503"]
OTHERS = ["another input", "another prompt", "a third", "a fourth"]
HOUR = 3600.0
STEPS = range(1, 131)  # an attempt without a fault has some 110
DEPLOYMENT = "AIRFLOW__BIFROST__DEPLOYMENT"
CREATE = {"method": "POST", "path_contains": "/v1/batches"}
FAULTS = {
    "none": None,
    "the answer to a create is lost": Fault(drop=True, applied=True, **CREATE),
    "a create times out at the gateway, and takes effect": Fault(status=504, applied=True, **CREATE),
    "a create takes effect and is refused": Fault(status=429, applied=True, **CREATE),
    "a create does not get through": Fault(status=503, **CREATE),
    "a create is refused": Fault(status=429, **CREATE),
    "an upload breaks off": Fault(drop=True, call="file_upload"),
    "the list is unavailable": Fault(status=503, call="batch_list", times=3),
    "the list is unreadable": Fault(status=200, body="<html>", call="batch_list", times=3),
    "a poll fails": Fault(status=502, call="batch_retrieve"),
    "a download breaks off": Fault(drop=True, call="file_content"),
    "a download is unreadable": Fault(status=200, body="<html>", call="file_content"),
}
OFTEN_NONE = ["none"] * 4 + [*FAULTS]
BEHAVIORS = {
    "the list has more and no cursor": ProviderBehavior(list_page=1, list_lie="no_cursor"),
    "the list repeats its cursor": ProviderBehavior(list_page=1, list_lie="repeated_cursor"),
    "the list has empty pages": ProviderBehavior(list_lie="empty_pages"),
    "the list breaks off": ProviderBehavior(list_page=1, list_lie="unreadable"),
    "files are named late": ProviderBehavior(files_late=2),
    "files are named late, without counts": ProviderBehavior(files_late=2, late_counts=False),
}


@contextmanager
def patched(steps: Steps, now: Callable[[], float], sleep: Callable[[float], None]) -> Iterator[None]:
    """Without real pauses, with small batches, with counted steps, and with the worker's own clock."""
    timing = LedgerTiming(settle=30.0, late=10.0, sleep=sleep, now=now)
    with ExitStack() as stack:
        for patch in (
            mock.patch.object(policy, "PACE", policy.Pace(min_interval=0.0, first_fault=0.02, fault_cap=0.02)),
            mock.patch.object(submit, "TIMING", timing),
            mock.patch.object(collect, "POLICY", collect.ReadPolicy(pause=0.0, grace=1.0, poll_interval=0.0)),
            mock.patch.object(clients, "POLICY", RetryPolicy(base=0.001, cap=0.001)),
            mock.patch.object(attempt, "BatchRun", partial(attempt.BatchRun, clock=now)),
            mock.patch.object(wait, "BatchWait", partial(wait.BatchWait, clock=now)),
            mock.patch.dict(os.environ, {"AIRFLOW__BIFROST__RETRY_BUDGET": "0"}),
            mock.patch.dict(providers.ALL, {name: with_rows(name, 3) for name in providers.ALL}),
            mock.patch.object(httpx.Client, "send", steps.around(httpx.Client.send)),
            mock.patch.object(RunFolder, "keep", steps.around(RunFolder.keep)),
            mock.patch.object(RunFolder, "remove", steps.around(RunFolder.remove)),
            mock.patch.object(LocalFileSystem, "mv", steps.around(LocalFileSystem.mv)),
            mock.patch.object(Spool, "keep", steps.around(Spool.keep)),
            mock.patch.object(Spool, "keep_if_new", steps.around(Spool.keep_if_new)),
            mock.patch.object(Store, "set", steps.around(Store.set)),
        ):
            stack.enter_context(patch)
        yield


class ARun(World):
    """One task instance, from its first attempt to its last."""

    first = "it_begins"
    provider: ClassVar[str] = "openai"
    outcomes: ClassVar[frozenset[str]] = frozenset({"succeeded"})

    def __init__(self) -> None:
        self.at_steps = Steps()
        self.store: Store | None = Store()  # None: an Airflow before 3.3, whose record is next to the output
        self.theirs = Store()
        self.attempts = 0
        self.clears = 0
        self.clock_is_off = 0.0
        self.prompts = PROMPTS
        self.model = "echo-1"
        self.happened: set[str] = set()  # what the oracle must know of
        self.task: BatchRunOperator | None = None
        self.state = "not started"
        self.stack = ExitStack()
        self.folder = Path(self.stack.enter_context(TemporaryDirectory()))
        # They end when the machine says so.
        self.gateway = self.stack.enter_context(LocalGateway(batch_seconds=10 * HOUR))
        self.books = Books(self.gateway)
        connection = self.gateway.connection_json(token="sk-bf-good")
        self.stack.enter_context(mock.patch.dict(os.environ, {"AIRFLOW_CONN_BIFROST_DEFAULT": connection}))
        self.slept = 0.0
        self.stack.enter_context(patched(self.at_steps, self._now, self._sleep))

    @property
    def output(self) -> str:
        return str(self.folder / "out.jsonl")

    @property
    def steps(self) -> int:
        return self.attempts

    @event(has_store=[True, False], has_name=[True, False])
    def it_begins(self, has_store: bool, has_name: bool) -> None:
        if self.attempts:
            return
        self.store = Store() if has_store else None
        if has_name:
            self.stack.enter_context(mock.patch.dict(os.environ, {DEPLOYMENT: "production"}))

    # What happens to attempts

    @event(fault=OFTEN_NONE)
    def an_attempt_goes_on(self, fault: str) -> None:
        self._attempt(fault=fault)

    @event(6, fault=OFTEN_NONE, step=STEPS)
    def an_attempt_is_killed(self, fault: str, step: int) -> None:
        self._attempt(self._kill_at(step), fault=fault)

    @event(fault=OFTEN_NONE, step=STEPS)
    def a_user_stops_an_attempt(self, fault: str, step: int) -> None:
        """Airflow's SIGTERM only calls on_kill. One call may be in progress at that moment."""
        before, known = {batch["id"] for batch in self.gateway.batches}, None

        def stop(taken: int) -> None:
            nonlocal known
            if taken == step:
                assert self.task is not None
                known = len(self.gateway.batches)
                self.task.on_kill()

        def defer() -> None:
            if known is not None:
                _die()  # Airflow does not defer a task that a user has ended
            self.books.move_on()

        self.happened.add("stop")
        self._attempt(stop, fault=fault, before_trigger=defer)
        if known is not None:
            assert len(self.gateway.batches) <= known + 1, "batches are created after the stop"
            if fault == "none" and self.state == "TaskStopped":
                assert not self.books.running() - before, "a batch of a stopped attempt runs on"
            self.clears += 1

    @event(seed=range(10_000), fault=OFTEN_NONE)
    def two_workers_run_the_same_attempt(self, seed: int, fault: str) -> None:
        """A worker is taken for dead, but is alive. Both workers end when they wait, and then a retry settles what they left."""
        self.happened.add("two workers")
        self.attempts += 1
        self._inject(fault)
        order = Turns(Random(seed).choices(range(1, 26), k=12))

        def work(me: int) -> None:
            with self.at_steps.of_this_thread(lambda _: order.step(me), lambda: order.pause(me)):
                order.begin(me)
                try:
                    self._run(before_trigger=_die)
                finally:
                    order.end(me)

        threads = [threading.Thread(target=work, args=(me,)) for me in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.gateway.clear_faults()
        self._attempt()

    @event(name=list(BEHAVIORS), fault=OFTEN_NONE, step=STEPS)
    def the_provider_behaves_oddly_after_an_attempt_was_killed(self, name: str, fault: str, step: int) -> None:
        self.happened.add(name)
        self._attempt(self._kill_at(step), fault=fault)
        self.gateway.behave(self.provider, BEHAVIORS[name])
        self._attempt()
        self.gateway.behave(self.provider, ProviderBehavior())

    # What changes between attempts

    @event()
    def batches_end(self) -> None:
        self.books.move_on()

    @event(hours=[-30, -1, 0, 1, 30])
    def the_next_workers_have_another_clock(self, hours: int) -> None:
        self.clock_is_off = hours * HOUR
        self.happened.add("clock")

    @event()
    def the_input_is_changed_or_changed_back(self) -> None:
        self.prompts = OTHERS if self.prompts is PROMPTS else PROMPTS

    @event()
    def the_dag_file_asks_for_something_else_or_for_the_same_again(self) -> None:
        self.model = "echo-2" if self.model == "echo-1" else "echo-1"
        self._attempt()
        self.clears += 1

    @event(2, rows=[2, 3, 4])
    def the_limits_change(self, rows: int) -> None:
        providers.ALL[self.provider] = with_rows(self.provider, rows)
        self.happened.add("limits")

    @event()
    def the_folder_is_gone(self) -> None:
        for folder in self.folder.glob("*-parts"):
            shutil.rmtree(folder)

    @event()
    def airflow_gets_a_store(self) -> None:
        if self.store is None:
            self.store = Store()

    @event()
    def the_record_is_gone(self) -> None:
        self.happened.add("record")
        if self.store is not None:
            self.store.clear()
        for folder in self.folder.glob("out.jsonl.bifrost-*"):
            if folder.is_dir() and not folder.name.endswith("-parts"):
                shutil.rmtree(folder)

    @event(model=["echo-1", "echo-2"])
    def another_deployment_runs_the_same_dag(self, model: str) -> None:
        self.happened.add("another deployment")
        other = {DEPLOYMENT: "staging"} if DEPLOYMENT in os.environ else {"AIRFLOW__API__BASE_URL": "https://staging"}
        output = str(self.folder / "theirs.jsonl")
        running = self.books.running()
        with mock.patch.dict(os.environ, other), self.books.of_somebody_else():
            ti = FakeTI(task_id="run", try_number=1)
            make = partial(self._make, PROMPTS, model, output)
            end = run_to_its_end(make, ti=ti, store=self.theirs, before_trigger=self.books.move_on)
        assert end.state == "success", end.error
        assert [row["text"] for row in read_rows(output)][:6] == [f"echo: {prompt}" for prompt in PROMPTS[:6]]
        assert not running & {batch["id"] for batch in self.books.batches() if "cancel" in batch["status"]}
        assert max(self.books.paid(others=True).values()) == 1

    # The oracle

    def check(self) -> None:
        """The output is complete or absent."""
        if Path(self.output).exists():
            ids = [row["custom_id"] for row in read_rows(self.output)]
            assert len(ids) in (len(PROMPTS), len(OTHERS))
            assert ids == [f"row-{number:09d}" for number in range(1, len(ids) + 1)]

    def finish(self) -> None:
        self.prompts, self.model, self.clock_is_off = PROMPTS, "echo-1", 0.0
        for _ in range(3):
            self.clears += 1
            self._attempt()
        self.check_the_end()

    def close(self) -> None:
        self.stack.close()

    def check_the_end(self) -> None:
        """Each row is answered once for each input and each requested model, and each answer to this request is written."""
        self.books.move_on()
        paid, sent = self.books.paid(), self.books.sent()
        assert {row: times for row, times in paid.items() if times > 1} == {}, "rows are paid twice"
        if not self.happened & {
            "stop",
            "clock",
            "two workers",
        }:  # rows that were cancelled before they ran are sent again
            again = {row: times for row, times in sent.items() if times > paid[row] + row[1].startswith("!flaky")}
            assert again == {}, "rows are sent twice"
        if self.state == SubmissionInDoubt.__name__ and self._may_be_unclear():
            return
        assert self.state == "success"
        answered = len(PROMPTS) - bool(self._tolerated())
        assert [row["text"] for row in read_rows(self.output)][:answered] == [
            f"echo: {prompt}" for prompt in PROMPTS[:answered]
        ]

    def _tolerated(self) -> set[str]:
        """If files are late, the file that says why the last row failed may come too late for the row to be sent again."""
        return {"failed"} if any("files are named late" in name for name in self.happened) else set()

    def _may_be_unclear(self) -> bool:
        """Whether the task may have to ask a user: there is no record, and the rows are in another split or another task has the same rows."""
        without_name = DEPLOYMENT not in os.environ
        return "record" in self.happened and bool(
            "limits" in self.happened or (without_name and "another deployment" in self.happened)
        )

    # The worker

    def _make(self, prompts: list[str], model: str, output: str) -> BatchRunOperator:
        self.task = BatchRunOperator(
            task_id="run",
            rows=prompts,
            provider=self.provider,
            model=model,
            request_params={"max_tokens": 50},
            output_path=output,
            poll_interval=0.02,
            max_parallel_batches=2,
            cleanup="never",
        )
        return self.task

    def _now(self) -> float:
        """The worker's clock."""
        return time.time() + self.slept + self.clock_is_off

    def _sleep(self, seconds: float) -> None:
        """Time passes, and another worker goes on."""
        self.slept += seconds
        self.at_steps.pause()

    def _kill_at(self, step: int) -> Callable[[int], None]:
        return lambda taken: _die() if taken == step else None

    def _inject(self, fault: str) -> None:
        if (injected := FAULTS[fault]) is not None:
            self.gateway.inject(injected)

    def _attempt(
        self,
        on_step: Callable[[int], None] = lambda _: None,
        *,
        fault: str = "none",
        before_trigger: Callable[[], None] | None = None,
    ) -> None:
        self.attempts += 1
        self._inject(fault)
        with self.at_steps.of_this_thread(on_step):
            self._run(before_trigger=before_trigger or self.books.move_on)
        self.gateway.clear_faults()

    def _run(self, before_trigger: Callable[[], None]) -> None:
        self.slept = 0.0
        ti = FakeTI(task_id="run", try_number=self.attempts, max_tries=self.clears)
        ti.get_task_states = lambda **_: {"run": {"run": "failed"}}  # type: ignore[attr-defined]
        make = partial(self._make, self.prompts, self.model, self.output)
        try:
            end = run_to_its_end(
                make, ti=ti, store=self.store, remembering=self.store is not None, before_trigger=before_trigger
            )
        except Killed:
            self.state = "killed"
        else:
            self.state = end.kind or end.state
            if end.state == "success":
                assert {row["outcome"] for row in read_rows(self.output)} <= self.outcomes | self._tolerated()


def _die() -> None:
    raise Killed


class ARunWithoutTags(ARun):
    """The same on a provider that stores no metadata. If its list proves nothing, the task stops, and nothing is paid for twice."""

    provider = "anthropic"
    outcomes = frozenset({"succeeded", "failed"})  # the gateway does not say why a row failed

    def check_the_end(self) -> None:
        self.books.move_on()
        most = 1 + ("two workers" in self.happened)  # nothing shows that two batches come from one create
        assert {row: times for row, times in self.books.paid().items() if times > most} == {}, "rows are paid twice"
        assert self.state in ("success", SubmissionInDoubt.__name__)
        if self.state == "success":
            assert [row["text"] for row in read_rows(self.output)][:6] == [f"echo: {prompt}" for prompt in PROMPTS[:6]]


@pytest.mark.parametrize("machine", [ARun, ARunWithoutTags])
def test_no_row_is_paid_twice_and_each_paid_result_is_written(machine: type[ARun]) -> None:
    assert walk(machine, orders=300 if is_nightly() else 6, longest=8, shorten=False)
