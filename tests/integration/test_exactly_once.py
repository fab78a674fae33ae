"""A run that is killed at any step, in any order, with retries: nothing is paid for twice, and each row comes back once.

The machine's rules are what may happen to a task: it is killed at some step, the gateway loses an answer or is unavailable, its input is changed and
changed back, an attempt ends well. A step is whatever leaves a trace outside of the worker (each request, each write of a record, each file),
and each source of results that is read.
"""

from __future__ import annotations

import json
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
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.airflow import FakeTI, Store, run_to_its_end
from support.providers import with_rows

from airflow_bifrost import BatchRunOperator, BifrostHook, providers
from airflow_bifrost.exceptions import SubmissionInDoubt
from airflow_bifrost.gateway.retry import RetryPolicy
from airflow_bifrost.results import collect, read_rows
from airflow_bifrost.results.spool import Spool
from airflow_bifrost.results.writer import ResultsWriter
from airflow_bifrost.runs.folder import RunFolder
from airflow_bifrost.submission.ledger import TAG_KEY, LedgerTiming
from airflow_bifrost.testing import Fault, LocalGateway
from airflow_bifrost.waiting import decision
from airflow_bifrost.worker import submit

PROMPTS = [*(f"prompt {number}" for number in range(6)), "!flaky 503"]
OTHERS = ["another input", *PROMPTS[1:4]]
STEPS = st.integers(1, 130)  # an attempt without a fault has some 110
CREATE = {"method": "POST", "path_contains": "/v1/batches"}
FAULTS = {
    "the answer to a create is lost": Fault(drop=True, applied=True, **CREATE),
    "a create times out at the gateway, and takes effect": Fault(status=504, applied=True, **CREATE),
    "a create does not get through": Fault(status=503, **CREATE),
    "a create is refused": Fault(status=429, **CREATE),
    "an upload breaks off": Fault(drop=True, method="POST", path_contains="/files"),
    "the list is unavailable": Fault(status=503, call="batch_list"),
    "a poll fails": Fault(status=502, method="GET", path_contains="/v1/batches/"),
    "a download breaks off": Fault(drop=True, path_contains="/content"),
}


class Killed(BaseException):
    """The worker got SIGKILL."""


class Steps:
    """Counts the steps of an attempt, and kills it at one of them."""

    def __init__(self) -> None:
        self.killed_at: int | None = None
        self._taken = count(1)

    def take(self) -> None:
        if next(self._taken) == self.killed_at:
            raise Killed

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
            mock.patch.object(RetryPolicy, "delay", return_value=None),
            mock.patch.dict(providers.ALL, {name: with_rows(name, 3) for name in providers.ALL}),
            mock.patch.object(httpx.HTTPTransport, "handle_request", steps.around(httpx.HTTPTransport.handle_request)),
            mock.patch.object(RunFolder, "keep", steps.around(RunFolder.keep)),
            mock.patch.object(RunFolder, "remove", steps.around(RunFolder.remove)),
            mock.patch.object(LocalFileSystem, "mv", steps.around(LocalFileSystem.mv)),
            mock.patch.object(Spool, "keep", steps.around(Spool.keep)),
            mock.patch.object(Spool, "keep_if_new", steps.around(Spool.keep_if_new)),
            mock.patch.object(ResultsWriter, "write", steps.around(ResultsWriter.write)),
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
        self.attempts = 0
        self.prompts = PROMPTS
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
    def an_attempt_runs(self) -> None:
        self._attempt(None)

    @rule()
    def the_input_is_changed_or_changed_back(self) -> None:
        self.prompts = OTHERS if self.prompts is PROMPTS else PROMPTS

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
            self.prompts = PROMPTS
            for _ in range(3):
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
        prompts: Counter[str] = Counter()
        with BifrostHook() as hook:
            for batch in self.gateway.batches:
                with hook.file_content(batch["input_file_id"]) as chunks:
                    for line in b"".join(chunks).splitlines():
                        prompts[json.loads(line)["body"]["messages"][0]["content"]] += 1
        once = Counter({prompt: 2 if prompt.startswith("!flaky") else 1 for prompt in PROMPTS})
        assert once <= prompts
        # What was begun of the other input is paid for, too; once, and its parts are the same in each attempt.
        assert prompts - once in (Counter(), Counter(OTHERS[:3]), Counter(OTHERS[3:]), Counter(OTHERS))

    def _attempt(self, killed_at: int | None) -> None:
        self.attempts += 1
        self.steps.killed_at, self.steps._taken = killed_at, count(1)
        ti = FakeTI(task_id="run", try_number=self.attempts)
        try:
            end = run_to_its_end(
                lambda: BatchRunOperator(
                    task_id="run",
                    rows=self.prompts,
                    provider=self.provider,
                    model="echo-1",
                    request_params={"max_tokens": 50},
                    output_path=self.output,
                    poll_interval=0.02,
                    max_parallel_batches=2,
                    cleanup="never",
                ),
                ti=ti,
                store=self.store,
            )
        except Killed:
            self.state = "killed"
        else:
            self.state = end.kind or end.state
        finally:
            self.steps.killed_at = None


class ARunInDoubt(ARun):
    """The same where the gateway cannot tell whether a create got through: then the task stops, and nobody pays twice."""

    provider = "anthropic"

    def check_the_end(self) -> None:
        assert self.state in ("success", SubmissionInDoubt.__name__)
        assert sum(batch["rows"] for batch in self.gateway.batches) <= len(PROMPTS) + len(OTHERS)
        if self.state == "success":
            assert [row["text"] for row in read_rows(self.output)][:6] == [f"echo: {prompt}" for prompt in PROMPTS[:6]]


# A failure is not made smaller: a run of the machine takes a second.
SETTINGS = settings(
    max_examples=12,
    stateful_step_count=5,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.reuse, Phase.generate],
)
TestARun = ARun.TestCase
TestARun.settings = SETTINGS
TestARunInDoubt = ARunInDoubt.TestCase
TestARunInDoubt.settings = SETTINGS
