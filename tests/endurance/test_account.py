"""The account finds each anomaly, and nothing in a clean run."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.tokens import Sighting

from endurance.account import account, causes
from endurance.evidence import (
    Batch,
    Evidence,
    Job,
    LoggedError,
    OutputFile,
    Sample,
    SentRow,
    TaskEnd,
    Window,
)

PROMPTS = ("job j row 1", "!flaky 503 job j row 2")
JOB = Job("j", "run", "openai", PROMPTS, output="/out/j.jsonl")
FIRST = Batch("b1", "openai", 10.0, (SentRow("1", PROMPTS[0]), SentRow("2", PROMPTS[1], "failed")))
SECOND = Batch("b2", "openai", 20.0, (SentRow("2", PROMPTS[1]),))
ROWS = tuple({"outcome": "succeeded", "text": f"echo: {prompt}", "error": None} for prompt in PROMPTS)


def clean() -> Evidence:
    return Evidence(
        [JOB],
        batches=[FIRST, SECOND],
        tasks=[TaskEnd("j", "run", -1, "success", 2)],
        outputs={"j": OutputFile(ROWS)},
        returned={"j": {"batches": [{"batch_id": "b1"}, {"batch_id": "b2"}]}},
        progress={"j.run": {"total": 2, "completed": 1, "failed": 1, "percent": 100}},
    )


def kinds(evidence: Evidence) -> list[str]:
    return [anomaly.kind for anomaly in account(evidence)]


def error(kind: str, *files: str, job: str = "j", at: float = 0.0) -> LoggedError:
    return LoggedError("attempt=1.log", at, job, kind, "message", files, "line")


def samples(grow: float) -> list[Sample]:
    """One sample a minute for half an hour, of a component that grows by so many bytes a minute."""
    return [Sample("triggerer-1", 1, minute * 60.0, int(1e8 + minute * grow)) for minute in range(30)]


def test_a_clean_run_has_no_anomaly() -> None:
    assert kinds(clean()) == []


def test_a_row_that_an_earlier_batch_answers_was_paid_twice() -> None:
    evidence = clean()
    evidence.batches.append(Batch("b3", "openai", 30.0, (SentRow("1", PROMPTS[0]),)))
    evidence.returned["j"]["batches"].append({"batch_id": "b3"})
    assert kinds(evidence) == ["a row was paid twice"]


def test_a_batch_that_its_job_does_not_name_is_orphaned() -> None:
    evidence = clean()
    evidence.returned["j"] = {"batches": [{"batch_id": "b1"}]}
    assert kinds(evidence) == ["a batch is orphaned"]


def test_a_batch_that_the_gateway_does_not_have_is_lost_with_its_rows() -> None:
    evidence = clean()
    evidence.batches = [FIRST]
    evidence.jobs = [replace(JOB, prompts=(*PROMPTS, "job j row 3"))]
    evidence.outputs["j"] = OutputFile((*ROWS, {"outcome": "succeeded", "text": "echo: job j row 3"}))
    assert kinds(evidence) == ["a batch is lost", "rows were never sent"]


def test_a_batch_id_may_be_all_that_a_task_returns() -> None:
    evidence = clean()
    evidence.returned["j"] = "b1"
    assert kinds(evidence) == ["a batch is orphaned"]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("the rows of a batch are not known", {"batches": [replace(FIRST, readable=False), SECOND]}),
        ("a batch was cancelled", {"batches": [FIRST, SECOND, Batch("b9", "openai", 5.0, (), cancelled=True)]}),
        ("a task failed", {"tasks": [TaskEnd("j", "run", -1, "failed", 2)]}),
        ("a task failed", {"tasks": [TaskEnd("j", "run", -1, "upstream_failed", 0)]}),
        ("a task failed", {"tasks": [TaskEnd("j", "run", -1, "skipped", 1)]}),
        ("a task is stuck", {"tasks": [TaskEnd("j", "run", -1, "deferred", 2)]}),
        ("a task is stuck", {"tasks": [TaskEnd("j", "run", -1, None, 0)]}),
        ("a task is stuck", {"tasks": []}),
        ("a task succeeded without its file", {"outputs": {}}),
        ("a task succeeded without its file", {"outputs": {"j": OutputFile(None, "line 2 is not JSON")}}),
        ("a file is not complete", {"outputs": {"j": OutputFile(ROWS[:1])}}),
        ("a file is not complete", {"outputs": {"j": OutputFile((*ROWS, ROWS[0]))}}),
        ("a paid row is missing", {"outputs": {"j": OutputFile(({"outcome": "missing"}, ROWS[1]))}}),
        ("a row did not succeed", {"outputs": {"j": OutputFile(({"outcome": "failed"}, ROWS[1]))}}),
        ("a progress is impossible", {"progress": {"j.run": {"total": 2, "completed": 2, "failed": 1}}}),
        ("a progress is impossible", {"progress": {"j.run": {"percent": 140}}}),
        ("an attempt was lost", {"errors": [error("BifrostUnavailable", "airflow/sdk/x.py")]}),
        ("an attempt was lost", {"errors": [error("KeyError", "airflow/sdk/x.py", "lib/airflow_bifrost/y.py")]}),
        ("a traceback is in a log", {"errors": [error("KeyError", "airflow_bifrost/y.py", job="")]}),
        ("the token is in clear", {"sightings": [Sighting("scheduler.log", "base64")]}),
        ("a temporary file was left", {"leftovers": ["/tmp/bifrost-run-x"]}),
        ("a component's memory grows", {"samples": samples(4 << 20)}),
    ],
)
def test_the_account_finds(kind: str, change: dict[str, object]) -> None:
    assert kinds(replace(clean(), **change)) == [kind]  # type: ignore[arg-type]


def test_rows_in_another_order_are_each_an_anomaly() -> None:
    evidence = clean()
    evidence.outputs["j"] = OutputFile(ROWS[::-1])
    assert kinds(evidence) == ["a file is not in the order of its input"] * 2


def test_an_exception_that_airflow_raised_below_the_package_is_not_the_packages() -> None:
    evidence = clean()
    evidence.errors = [error("ServerResponseError", "lib/airflow_bifrost/worker/wait.py", "airflow/sdk/api/client.py")]
    assert kinds(evidence) == []
    assert causes(evidence) == {"ServerResponseError": 1}


@pytest.mark.parametrize(
    ("what", "kind"), [("delete_connection", "BifrostConfigurationError"), ("fill_disk", "OSError")]
)
def test_no_task_can_work_without_its_connection_or_on_a_full_disk(what: str, kind: str) -> None:
    evidence = clean()
    evidence.windows = [Window(what, "", 100.0, 110.0)]
    evidence.errors = [error(kind, "airflow_bifrost/x.py", at=105.0)]
    assert kinds(evidence) == []
    evidence.errors = [error(kind, "airflow_bifrost/x.py", at=205.0)]
    assert kinds(evidence) == ["an attempt was lost"]


def test_memory_that_settles_does_not_grow() -> None:
    evidence = clean()
    evidence.samples = samples(1 << 18)
    assert kinds(evidence) == []


@pytest.mark.parametrize(
    ("provider", "found"),
    [("gemini", []), ("openai", ["a task failed", "an attempt was lost", "a temporary file was left"])],
)
def test_a_task_may_stop_if_its_provider_does_not_say_whose_a_batch_is(provider: str, found: list[str]) -> None:
    evidence = clean()
    evidence.jobs = [replace(JOB, provider=provider)]
    evidence.tasks = [TaskEnd("j", "run", -1, "failed", 2)]
    evidence.errors = [error("SubmissionInDoubt", "airflow_bifrost/x.py")]
    evidence.leftovers = ["out/j.jsonl.bifrost-abc-parts/1.jsonl"]
    del evidence.returned["j"]
    assert kinds(evidence) == found
