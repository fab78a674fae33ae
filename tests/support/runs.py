"""Runs of BatchRunOperator, for its tests."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from airflow_bifrost import BatchRunOperator
from airflow_bifrost.results import read_rows
from airflow_bifrost.submission.ledger import Submission
from airflow_bifrost.testing import LocalGateway, ProviderAnswer
from support.airflow import End, FakeTI, Store, run_to_its_end

CREATE = {"method": "POST", "path_contains": "/v1/batches"}


FULL = ProviderAnswer(
    status=429,
    body={"error": {"message": "Enqueued token limit reached for echo-1.", "code": "token_limit_exceeded"}},
)

# Ends an attempt that waits.
UNREADABLE = {
    "status": 400,
    "method": "GET",
    "path_contains": "/v1/batches/",
    "times": None,
}


def run(
    output: str,
    rows: Any = None,
    *,
    store: Store | None = None,
    try_number: int = 1,
    remembering: bool = True,
    **arguments: Any,
) -> End:
    given: dict[str, Any] = {"model": "echo-1", "poll_interval": 0.05, **arguments}
    if rows is not None:
        given["rows"] = rows
    ti = FakeTI(task_id="run", try_number=try_number)
    return run_to_its_end(
        lambda: BatchRunOperator(task_id="run", output_path=output, **given),
        ti=ti,
        store=store,
        remembering=remembering,
    )


def outcomes(output: str) -> list[str]:
    return [row["outcome"] for row in read_rows(output)]


def cancel(gateway: LocalGateway, *batch_ids: str) -> None:
    """Show batches as cancelled before any of their rows was run."""
    for batch_id in batch_ids:
        rows = next(batch["rows"] for batch in gateway.batches if batch["id"] == batch_id)
        counts = {"total": rows, "completed": 0, "failed": 0}
        gateway.set_batch(batch_id, status="cancelled", output_file_id=None, error_file_id=None, request_counts=counts)


class Submissions:
    """What a test does just before and after the run submits a part.

    :param before: called with the number of the submission, from 1.
    :param after: called with the IDs of the batches that were submitted so far.
    """

    def __init__(self) -> None:
        self.before: Callable[[int], None] = lambda _: None
        self.after: Callable[[list[str]], None] = lambda _: None
        self._begun = count(1)
        self._batch_ids: list[str] = []

    def around(self, submit: Callable[..., Submission]) -> Callable[..., Submission]:
        def submit_part(*args: Any, **kwargs: Any) -> Submission:
            self.before(next(self._begun))
            submission = submit(*args, **kwargs)
            self._batch_ids.append(submission.batch_id)
            self.after(list(self._batch_ids))
            return submission

        return submit_part


def attempt(make: Callable[[int], BatchRunOperator], store: Store, *, try_number: int = 1, max_tries: int = 0) -> End:
    """One attempt of a task whose DAG file is read again after each deferral.

    :param make: makes the task, of the number of deferrals so far.
    """
    made: list[BatchRunOperator] = []

    def make_task() -> BatchRunOperator:
        made.append(make(len(made)))
        return made[-1]

    ti = FakeTI(task_id="run", try_number=try_number, max_tries=max_tries)
    return run_to_its_end(make_task, ti=ti, store=store)


def task(output: str, rows: Any, **arguments: Any) -> BatchRunOperator:
    given: dict[str, Any] = {"model": "echo-1", "poll_interval": 0.05, **arguments}
    return BatchRunOperator(task_id="run", output_path=output, rows=rows, **given)


def sizes(gateway: LocalGateway) -> list[int]:
    return [batch["rows"] for batch in gateway.batches]
