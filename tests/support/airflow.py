"""Runs a task through its attempts without a database: what a worker, a triggerer and a scheduler do, in one process.

HTTP is real (the local gateway). The trigger is rebuilt from its serialized form, and the task object is created again after
each deferral, as Airflow does. ``dag.test()`` and the end-to-end tests use Airflow itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import XComArg

from airflow_bifrost._compat import (
    AirflowException,
    AirflowRescheduleException,
    AirflowSkipException,
    AirflowTaskTimeout,
)

try:
    from airflow.sdk.exceptions import TaskDeferred  # Airflow 3.2 and later
except ImportError:
    from airflow.exceptions import TaskDeferred  # type: ignore[no-redef]


class Store(dict[str, Any]):
    """``task_state_store`` of Airflow 3.3: JSON values that survive attempts."""

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self[key]) if key in self else default

    def set(self, key: str, value: Any) -> None:
        self[key] = json.dumps(value)
        assert json.loads(self[key]) == value  # Airflow accepts JSON types only: no tuples


class TaskOutput(XComArg):
    """The output of another task."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def iter_references(self) -> Any:
        return iter(())

    def resolve(self, context: Any) -> Any:
        return self.value


@dataclass
class FakeTI:
    """The part of a RuntimeTaskInstance that the package touches."""

    dag_id: str = "dag"
    task_id: str = "wait"
    run_id: str = "run"
    map_index: int = -1
    max_tries: int = 0
    try_number: int = 1
    start_date: datetime = field(default_factory=lambda: datetime.now(UTC))
    first_reschedule_date: datetime | None = None
    xcoms: dict[str, Any] = field(default_factory=dict)
    pushes: list[str] = field(default_factory=list)
    broken_xcoms: tuple[str, ...] = ()

    def xcom_push(self, key: str, value: Any) -> None:
        if key in self.broken_xcoms:
            raise RuntimeError(f"{key} cannot be written today")
        self.pushes.append(key)
        json.dumps(value)  # fails where Airflow would
        self.xcoms[key] = value

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        return self.first_reschedule_date


@dataclass
class End:
    """How a task ended: ``success``, ``failed`` or ``skipped``; with its value or its error, and the XComs."""

    state: str
    value: Any = None
    error: BaseException | None = None
    xcoms: dict[str, Any] = field(default_factory=dict)
    deferrals: int = 0
    defer_timeout: float | None = None
    reschedules: int = 0

    @property
    def kind(self) -> str:
        return type(self.error).__name__ if self.error else ""


def run_to_its_end(
    make_task: Callable[[], Any],
    *,
    ti: FakeTI | None = None,
    store: Store | None = None,
    remembering: bool = True,
    resume_from: Callable[[Any], tuple[str, dict[str, Any]]] | None = None,
    before_trigger: Callable[[], None] = lambda: None,
    context: dict[str, Any] | None = None,
) -> End:
    """Run one attempt of a task, through deferrals and reschedules, to its end.

    :param resume_from: the method, and its arguments, with which Airflow resumes the task after a trigger's deferral; None: the trigger fires.
    :param context: additional members of the task's context.
    :param before_trigger: called before a trigger runs.
    """
    ti = ti or FakeTI()
    store = Store() if store is None else store
    context = {**(context or {}), "ti": ti}
    if remembering:
        context["task_state_store"] = store
    end = End("running", xcoms=ti.xcoms)
    resume: tuple[str, dict[str, Any]] | None = None
    while True:
        task = make_task()
        try:
            end.value = task.resume_execution(*resume, context) if resume else task.execute(context)
            end.state = "success"
        except TaskDeferred as deferred:
            end.deferrals += 1
            end.defer_timeout = deferred.timeout.total_seconds()
            before_trigger()
            resume = (
                resume_from(deferred.trigger)
                if resume_from is not None
                else (deferred.method_name, {**(deferred.kwargs or {}), "event": fire(deferred.trigger)})
            )
            continue
        except AirflowRescheduleException as rescheduled:
            end.reschedules += 1
            now = datetime.now(UTC)
            ti.first_reschedule_date = ti.first_reschedule_date or now
            asyncio.run(asyncio.sleep(max(0.0, (rescheduled.reschedule_date - now).total_seconds())))
            continue
        except AirflowSkipException as error:
            end.state, end.error = "skipped", error
        except (AirflowException, AirflowTaskTimeout, ValueError) as error:
            end.state, end.error = "failed", error
        return end


def rebuilt(trigger: Any) -> Any:
    """A trigger as the triggerer gets it: from its serialized form, as JSON."""
    _, kwargs = trigger.serialize()
    return type(trigger)(**json.loads(json.dumps(kwargs)))


def fire(trigger: Any) -> Any:
    """The payload of a trigger's first event."""

    async def first() -> Any:
        async for event in rebuilt(trigger).run():
            return event.payload
        raise AssertionError("the trigger ended without an event")

    return json.loads(json.dumps(asyncio.run(first())))
