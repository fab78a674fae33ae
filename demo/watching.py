"""Shows the progress of a task that waits for batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from support.local_airflow import FINISHED, LocalAirflow


class DemoError(RuntimeError):
    """The demo cannot continue, or a result is not as promised. The message is for the user."""


@dataclass(frozen=True)
class Run:
    """A DAG run whose progress the demo shows.

    :param tasks: IDs of its tasks. The first one waits and pushes the XCom ``progress``.
    """

    airflow: LocalAirflow
    dag_id: str
    run_id: str
    tasks: Sequence[str]
    console: Console

    @property
    def url(self) -> str:
        return self.airflow.run_url(self.dag_id, self.run_id)

    def waiter(self) -> dict[str, Any]:
        """The task that waits, as Airflow's API describes it."""
        return self.airflow.task_instance(self.dag_id, self.run_id, self.tasks[0])

    def is_over(self) -> bool:
        return self.airflow.dag_run(self.dag_id, self.run_id)["state"] in FINISHED

    def follow(self, until: Callable[[], bool], what: str, patience: float) -> None:
        """Show states and progress until a condition is true.

        :param what: the condition in words, for messages.
        :param patience: seconds.
        :raises DemoError: the run ended before the condition was true.
        """
        shown = ""
        bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        rows = bar.add_task("", total=None)

        def reached() -> bool:
            nonlocal shown
            states = {task_id: self._state(task_id) for task_id in self.tasks}
            progress = self.airflow.xcom(self.dag_id, self.run_id, self.tasks[0], key="progress") or {}
            tasks = ", ".join(f"{task_id} {_in_words(state)}" for task_id, state in states.items() if state)
            text = "; batches ".join(filter(None, [tasks or "no task started", progress.get("status")]))
            bar.update(rows, description=text, total=progress.get("total"), completed=_processed(progress))
            line = f"{text}: {_processed(progress):,} of {progress['total']:,} rows" if progress.get("total") else text
            if line != shown and not self.console.is_terminal:
                self.console.print(line, markup=False)
            shown = line
            if until():
                return True
            if self.is_over():
                self.must_have_succeeded()
                raise DemoError(f"the run ended before this happened: {what}")
            return False

        with bar:
            self.airflow.until(reached, what, patience)

    def must_have_succeeded(self) -> None:
        """:raises DemoError: a task did not succeed."""
        for task_id in self.tasks:
            if (state := self._state(task_id)) != "success":
                logs = self.airflow.logs(self.dag_id, self.run_id, task_id)
                raise DemoError(f"the task {task_id} is {state}\n{logs}")

    def show_xcoms(self) -> None:
        """Print the XComs of the tasks."""
        table = Table("task", "key", "value", title="XComs", title_justify="left")
        for task_id in self.tasks:
            for key, value in sorted(self.airflow.xcoms(self.dag_id, self.run_id, task_id).items()):
                table.add_row(task_id, key, value if isinstance(value, str) else json.dumps(value))
            table.add_section()
        self.console.print(table, markup=False, soft_wrap=False)

    def _state(self, task_id: str) -> str | None:
        state: str | None = self.airflow.task_instance(self.dag_id, self.run_id, task_id)["state"]
        return state


def _processed(progress: dict[str, Any]) -> int:
    return (progress.get("completed") or 0) + (progress.get("failed") or 0)


def _in_words(state: str) -> str:
    return "deferred to the triggerer" if state == "deferred" else state.replace("_", " ")
