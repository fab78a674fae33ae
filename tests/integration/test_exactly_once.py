"""A run that is killed, stopped or disturbed at any step, in any order, with retries: nothing is paid for twice, and each row comes back once.

The machine's rules are what may happen to a task: it is killed or stopped by a user at some step, the gateway loses an answer or is unavailable,
lists lie, files are late, the rows, the request or the limits change and change back, the folder or the record vanishes, another deployment
runs the same DAG, an attempt ends well. A step is whatever leaves a trace outside of the worker (each request, each write of a record, each
file), and each source of results that is read.

What clocks do is tested in tests/unit/runs, and two workers at once in tests/integration/submission.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import httpx
from fsspec.implementations.local import LocalFileSystem
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.airflow import FakeTI, Store, run_to_its_end
from support.providers import with_rows

from airflow_bifrost import BatchRunOperator, BifrostHook, providers
from airflow_bifrost.exceptions import SubmissionInDoubt
from airflow_bifrost.gateway.retry import RetryPolicy
from airflow_bifrost.hooks import clients
from airflow_bifrost.results import collect, read_rows
from airflow_bifrost.results.spool import Spool
from airflow_bifrost.runs.folder import RunFolder
from airflow_bifrost.submission.ledger import TAG_KEY, LedgerTiming
from airflow_bifrost.testing import Fault, LocalGateway, ProviderBehavior
from airflow_bifrost.waiting import decision
from airflow_bifrost.worker import submit

PROMPTS = [*(f"prompt {number}" for number in range(6)), "!flaky 503"]
OTHERS = ["another input", *PROMPTS[1:4]]
THEIRS = ["their prompt", "their other prompt"]  # of another deployment
STEPS = st.integers(1, 130)  # an attempt without a fault has some 110
CREATE = {"method": "POST", "path_contains": "/v1/batches"}
FAULTS = {
    "the answer to a create is lost": Fault(drop=True, applied=True, **CREATE),
    "a create times out at the gateway, and takes effect": Fault(status=504, applied=True, **CREATE),
    "a create does not get through": Fault(status=503, **CREATE),
    "a create is refused": Fault(status=429, **CREATE),
    "an upload breaks off": Fault(drop=True, method="POST", path_contains="/files"),
    "the list is unavailable": Fault(status=503, call="batch_list"),
    "the list is unreadable": Fault(status=200, body="<html>", call="batch_list", times=2),
    "a poll fails": Fault(status=502, method="GET", path_contains="/v1/batches/"),
    "a download breaks off": Fault(drop=True, path_contains="/content"),
    "a download is unreadable": Fault(status=200, body="<html>", call="file_content"),
}
BEHAVIORS = {
    "the list has more and no cursor": ProviderBehavior(list_page=1, list_lie="no_cursor"),
    "the list repeats its cursor": ProviderBehavior(list_page=1, list_lie="repeated_cursor"),
    "the list has empty pages": ProviderBehavior(list_lie="empty_pages"),
    "the list breaks off": ProviderBehavior(list_page=1, list_lie="unreadable"),
    "files are named late": ProviderBehavior(files_late=2),
    "files are named late, without counts": ProviderBehavior(files_late=2, late_counts=False),
}


class Killed(BaseException):
    """The worker got SIGKILL."""


class Steps:
    """Counts the steps of an attempt, and lets something happen at one of them."""

    def __init__(self) -> None:
        self._at: int | None = None
        self._happens: Callable[[], None] = lambda: None
        self._taken = count(1)
        self._worker = threading.current_thread()

    def begin(self, at: int | None = None, happens: Callable[[], None] = lambda: None) -> None:
        self._at, self._happens, self._taken = at, happens, count(1)

    def take(self) -> None:
        if threading.current_thread() is self._worker and next(self._taken) == self._at:
            self._happens()

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A step before and one after."""

        @wraps(function)
        def stepping(*args: Any, **kwargs: Any) -> Any:
            self.take()
            result = function(*args, **kwargs)
            self.take()
            return result

        return stepping


@contextmanager
def patched(steps: Steps) -> Iterator[None]:
    with ExitStack() as stack:
        for patch in (
            mock.patch.object(decision, "PACE", decision.Pace(min_interval=0.0, first_fault=0.02, fault_cap=0.02)),
            mock.patch.object(submit, "TIMING", LedgerTiming(settle=0.0, late=0.0, sleep=lambda _: None)),
            mock.patch.object(collect, "POLICY", collect.ReadPolicy(pause=0.0, grace=1.0, poll_interval=0.02)),
            mock.patch.object(clients, "POLICY", RetryPolicy(base=0.001, cap=0.001)),
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


class ARun(RuleBasedStateMachine):
    """One task instance, from its first attempt to its last."""

    provider = "openai"

    def __init__(self) -> None:
        super().__init__()
        self.steps = Steps()
        self.store = Store()
        self.theirs = Store()
        self.attempts = 0
        self.clears = 0
        self.prompts = PROMPTS
        self.model = "echo-1"
        self.changed: set[str] = set()  # what the DAG file ever changed
        self.task: BatchRunOperator | None = None
        self.state = "not started"
        self.stack = ExitStack()
        self.folder = Path(self.stack.enter_context(TemporaryDirectory()))
        self.gateway = self.stack.enter_context(LocalGateway(batch_seconds=0.05))
        connection = self.gateway.connection_json(token="sk-bf-good")
        self.stack.enter_context(mock.patch.dict("os.environ", {"AIRFLOW_CONN_BIFROST_DEFAULT": connection}))
        self.stack.enter_context(patched(self.steps))

    @property
    def output(self) -> str:
        return str(self.folder / "out.jsonl")

    @initialize(kills=st.lists(STEPS, max_size=2))
    def begin_with(self, kills: list[int]) -> None:
        for step in kills:
            self.an_attempt_is_killed(step)

    @rule(step=STEPS)
    def an_attempt_is_killed(self, step: int) -> None:
        self._attempt(step)

    @rule(name=st.sampled_from(sorted(FAULTS)))
    def something_goes_wrong_in_an_attempt(self, name: str) -> None:
        self.gateway.inject(FAULTS[name])
        self._attempt(None)
        self.gateway.clear_faults()

    @rule(name=st.sampled_from(sorted(FAULTS)), step=STEPS)
    def something_goes_wrong_in_an_attempt_that_is_killed(self, name: str, step: int) -> None:
        self.gateway.inject(FAULTS[name])
        self._attempt(step)
        self.gateway.clear_faults()

    @rule()
    def an_attempt_goes_on(self) -> None:
        self._attempt(None)

    @rule(step=STEPS)
    def a_user_stops_an_attempt(self, step: int) -> None:
        created: list[int] = []

        def stop() -> None:
            assert self.task is not None
            created.append(len(self.gateway.batches))
            self.task.on_kill()

        self.changed.add("stop")
        self._attempt(step, stop)
        if created:
            assert len(self.gateway.batches) <= created[0] + 1  # a call that was under way
            self.clears += 1

    @rule(name=st.sampled_from(sorted(BEHAVIORS)), step=STEPS)
    def the_provider_behaves_oddly_after_an_attempt_was_killed(self, name: str, step: int) -> None:
        self._attempt(step)
        self.gateway.behave(self.provider, BEHAVIORS[name])
        self._attempt(None)
        self.gateway.behave(self.provider, ProviderBehavior())

    @rule()
    def the_input_is_changed_or_changed_back(self) -> None:
        self.prompts = OTHERS if self.prompts is PROMPTS else PROMPTS
        self.changed.add("input")

    @rule()
    def the_dag_file_asks_for_something_else_or_for_the_same_again(self) -> None:
        self.model = "echo-2" if self.model == "echo-1" else "echo-1"
        self.changed.add("request")
        self._attempt(None)
        self.clears += 1

    @rule(rows=st.sampled_from([2, 3, 4]))
    def the_limits_change(self, rows: int) -> None:
        providers.ALL[self.provider] = with_rows(self.provider, rows)
        self.changed.add("limits")

    @rule()
    def the_folder_is_gone(self) -> None:
        for folder in self.folder.glob("*-parts"):
            shutil.rmtree(folder)

    @precondition(lambda self: self.provider == "openai" and not self.changed)
    @rule()
    def the_record_is_gone(self) -> None:
        """The list knows what was submitted, unless something else is asked for at the same time."""
        self.store.clear()
        self.changed.add("record")

    @precondition(lambda self: self.provider == "openai")
    @rule()
    def another_deployment_runs_the_same_dag(self) -> None:
        with mock.patch.dict(os.environ, {"AIRFLOW__BIFROST__DEPLOYMENT": "another"}):
            ti = FakeTI(task_id="run", try_number=1)
            output = str(self.folder / "theirs.jsonl")
            end = run_to_its_end(lambda: self._make(THEIRS, "echo-1", output), ti=ti, store=self.theirs)
        assert end.state == "success", end.error
        assert [row["text"] for row in read_rows(output)] == [f"echo: {prompt}" for prompt in THEIRS]

    @invariant()
    def no_submission_is_made_twice(self) -> None:
        """Each submission has a tag of its own."""
        tags = [tag for batch in self.gateway.batches if (tag := (batch.get("metadata") or {}).get(TAG_KEY))]
        assert len(tags) == len(set(tags))

    @invariant()
    def the_output_is_whole_or_not_there(self) -> None:
        if Path(self.output).exists():
            assert [row["custom_id"] for row in read_rows(self.output)] in [
                [f"row-{number:09d}" for number in range(1, len(prompts) + 1)] for prompts in (PROMPTS, OTHERS)
            ]

    def teardown(self) -> None:
        try:
            self.prompts, self.model = PROMPTS, "echo-1"
            for _ in range(3):
                self.clears += 1
                self._attempt(None)
            self.check_the_end()
        finally:
            self.stack.close()

    def check_the_end(self) -> None:
        assert self.state == "success"
        self._check_what_was_paid()
        assert [row["text"] for row in read_rows(self.output)][:6] == [f"echo: {prompt}" for prompt in PROMPTS[:6]]
        assert {row["outcome"] for row in read_rows(self.output)} == {"succeeded"}

    def _check_what_was_paid(self) -> None:
        """Each row is sent once for each input and each model that was asked for, and answered once."""
        sent: Counter[tuple[str, str]] = Counter()
        answered: Counter[tuple[str, str]] = Counter()
        with BifrostHook() as hook:
            for batch in self.gateway.batches:
                models = {}
                for line in self._lines(hook, batch["input_file_id"]):
                    row = line["body"]["model"], line["body"]["messages"][0]["content"]
                    models[line["custom_id"]] = row
                    sent[row] += 1
                for line in self._lines(hook, hook.get_batch(batch["id"]).output_file_id):
                    answered[models[line["custom_id"]]] += line["response"]["status_code"] == 200
        for (model, prompt), times in answered.items():
            assert times <= 1 + (prompt in OTHERS and prompt in PROMPTS and "input" in self.changed), (model, prompt)
            again = 1 if prompt.startswith("!flaky") else 0
            if "stop" not in self.changed:  # rows that were cancelled before they ran are sent again
                assert sent[model, prompt] <= times + again, (model, prompt)
        assert all(answered["echo-1", prompt] for prompt in PROMPTS)

    def _lines(self, hook: BifrostHook, file_id: str | None) -> list[dict[str, Any]]:
        if file_id is None:
            return []
        with hook.file_content(file_id) as chunks:
            return [json.loads(line) for line in b"".join(chunks).splitlines()]

    def _make(self, prompts: list[str], model: str, output: str) -> BatchRunOperator:
        return BatchRunOperator(
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

    def _attempt(self, at: int | None, happens: Callable[[], None] | None = None) -> None:
        def kill() -> None:
            raise Killed

        def make() -> BatchRunOperator:
            self.task = self._make(self.prompts, self.model, self.output)
            return self.task

        self.attempts += 1
        self.steps.begin(at, happens or kill)
        ti = FakeTI(task_id="run", try_number=self.attempts, max_tries=self.clears)
        ti.get_task_states = lambda **_: {"run": {"run": "failed"}}  # type: ignore[attr-defined]
        try:
            end = run_to_its_end(make, ti=ti, store=self.store)
        except Killed:
            self.state = "killed"
        else:
            self.state = end.kind or end.state
        finally:
            self.steps.begin()


class ARunWithoutTags(ARun):
    """The same where the gateway cannot tell whether a create got through: then the task stops, and nobody pays twice."""

    provider = "anthropic"

    def check_the_end(self) -> None:
        assert self.state in ("success", SubmissionInDoubt.__name__)
        models = 1 + ("request" in self.changed)
        assert sum(batch["rows"] for batch in self.gateway.batches) <= models * (len(PROMPTS) + len(OTHERS)) or (
            "stop" in self.changed
        )
        if self.state == "success":
            assert [row["text"] for row in read_rows(self.output)][:6] == [f"echo: {prompt}" for prompt in PROMPTS[:6]]


# A failure is not made smaller: a run of the machine takes a second.
SETTINGS = settings(
    max_examples=int(os.environ.get("BIFROST_EXACTLY_ONCE_EXAMPLES", "12")),  # more of them at night
    stateful_step_count=5,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.reuse, Phase.generate],
)
TestARun = ARun.TestCase
TestARun.settings = SETTINGS
TestARunWithoutTags = ARunWithoutTags.TestCase
TestARunWithoutTags.settings = SETTINGS
