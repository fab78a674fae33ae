"""The operators' arguments: their defaults, their checks, and the code that all waiting tasks share.

This is the only module of ``worker`` that a DAG file loads. Modules that are slow to import (the HTTP client, the waiting) are imported in
methods that run in a worker. Templated arguments are checked when the task runs, the others when the DAG file is parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from airflow.sdk import BaseOperator

from airflow_bifrost._compat import AirflowSensorTimeout, TaskDeferralError, TaskDeferralTimeout
from airflow_bifrost.exceptions import BatchFailed

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_bifrost.worker.wait import BatchWait

    _Operator = BaseOperator
else:
    _Operator = object  # a mixin of BaseOperator would get an __init__ from Airflow's metaclass, and skip the sensor's

Result = TypeVar("Result")

OUTCOMES = ("succeeded", "partial", "failed", "expired", "cancelled")  # the values of providers.statuses.Outcome
DEFAULT_ACCEPT = ("succeeded", "partial")
ON_UNKNOWN = ("fail", "resubmit")
ON_CHANGED_INPUT = ("leave", "cancel")
ON_CHANGED_REQUEST = ("fail", "continue")
ON_BARE_BODY = ("fail", "send")
CLEANUP = ("never", "input", "all")

DEFAULT_TIMEOUT = 25 * 3600.0  # seconds: the providers' window of 24 hours, and an hour for clocks that differ
DEFAULT_POLL_INTERVAL = 60.0  # seconds
DEFAULT_NOT_FOUND_GRACE = 300.0  # seconds
DEFAULT_DOWNLOAD_TIMEOUT = 600.0  # seconds
DEFAULT_RESULTS_GRACE = 600.0  # seconds


def is_resolved_later(value: Any) -> bool:
    """Whether Airflow resolves a value when the task runs: a task's output, an argument of a mapped task group, or a DAG parameter."""
    # Airflow's own templates leave paths out, too.
    return callable(getattr(value, "resolve", None)) and not isinstance(value, PathLike)


def batch_ids_of(value: Any) -> list[str]:
    """The IDs in ``batch_id``: one ID, or an iterable of IDs such as a list or the output of a mapped task.

    :raises ValueError: an ID is missing or malformed. The message says which.
    """
    from airflow_bifrost.gateway.ids import checked_id

    if value is None or value == "None":  # the text that Jinja renders for None
        raise ValueError("batch_id is None: the task that it comes from pushed no XCom")
    if isinstance(value, str) and value.startswith("["):
        raise ValueError(
            f"batch_id {value[:80]!r} is a list that Jinja rendered to text: pass the task's output (`submit.output`), or set"
            " render_template_as_native_obj=True on the DAG"
        )
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | dict):
        return [checked_id(item, f"batch_id[{index}]") for index, item in enumerate(value)]
    return [checked_id(value)]


def provider_of(value: Any) -> str | None:
    """The provider in ``provider``; None (for ``None`` or an empty string) stands for the connection's provider.

    :raises ValueError: it is not a string, or a None that Jinja rendered to text.
    """
    if value == "None":
        raise ValueError("provider is None, which Jinja rendered to text: the task that it comes from pushed no XCom")
    if value is not None and not isinstance(value, str):
        raise ValueError(f"provider must be a string, not {type(value).__name__}")
    return value or None


def checked_accept(accept: Collection[str], name: str = "accept") -> tuple[str, ...]:
    """``accept`` as a tuple.

    :raises ValueError: it is a string, or names an unknown outcome.
    """
    if isinstance(accept, str):
        raise ValueError(f"{name} must be a collection of outcomes, such as ({accept!r},), not a string")
    if unknown := sorted(set(accept) - set(OUTCOMES)):
        raise ValueError(f"{name} has the unknown outcome {unknown[0]!r}; outcomes are {', '.join(OUTCOMES)}")
    return tuple(accept)


def one_of(name: str, value: str, allowed: Sequence[str]) -> str:
    """Return ``value`` if it is one of ``allowed``.

    :raises ValueError: it is not.
    """
    if value not in allowed:
        raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}, not {value!r}")
    return value


def checked_on_unknown(value: str | Mapping[str, Any]) -> str | Mapping[str, Any]:
    """Return ``value`` if it is ``"fail"``, ``"resubmit"``, or ``{"adopt": ...}`` with one batch ID or with a dict of IDs by part number.

    :raises ValueError: it is not.
    """
    if isinstance(value, Mapping):
        adopt = value.get("adopt")
        by_part = isinstance(adopt, Mapping) and all(
            str(part).isdecimal() and int(part) > 0 and isinstance(batch_id, str) and batch_id
            for part, batch_id in adopt.items()
        )
        if set(value) == {"adopt"} and adopt and (by_part or isinstance(adopt, str)):
            return value
    elif value in ON_UNKNOWN:
        return value
    raise ValueError(
        f"on_unknown must be 'fail', 'resubmit', {{'adopt': '<batch ID>'}} or {{'adopt': {{<part number>: '<batch ID>'}}}}, not {value!r}"
    )


def seconds_of(name: str, value: float | timedelta) -> float:
    """A duration in seconds.

    :raises ValueError: it is negative, or neither a number nor a timedelta.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ValueError(f"{name} must be a timedelta or a number of seconds, 0 or more, not {value!r}")
    return float(value)


def whole_number(name: str, value: int) -> int:
    """Return ``value`` if it is a whole number of 1 or more.

    :raises ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number, 1 or more, not {value!r}")
    return value


def share_of(name: str, value: float) -> float:
    """Return ``value`` if it is a share: a number from 0 to 1.

    :raises ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be a number from 0 to 1, not {value!r}")
    return float(value)


def columns_of(keep: Sequence[str]) -> tuple[str, ...]:
    """``keep`` as a tuple of names.

    :raises ValueError: it is a string, or holds something that is not a name.
    """
    if isinstance(keep, str) or not all(isinstance(name, str) and name for name in keep):
        raise ValueError(
            f"keep must be a list of column names, such as [{keep!r}], not {keep!r}"
            if isinstance(keep, str)
            else f"keep must be a list of column names, not {keep!r}"
        )
    return tuple(keep)


def rows_or_share(name: str, value: float) -> float:
    """Return ``value`` if it is a number of rows (an int) or a share of them (a float from 0 to 1).

    :raises ValueError: it is not.
    """
    if isinstance(value, bool) or not (
        value >= 0 if isinstance(value, int) else isinstance(value, float) and 0 <= value <= 1
    ):
        raise ValueError(
            f"{name} must be a number of rows (an int), or a share of them from 0.0 to 1.0 (a float), not {value!r}"
        )
    return value


def only_one_of(**arguments: Any) -> None:
    """
    :raises ValueError: none of the arguments is given, or more than one.
    """
    if sum(value is not None for value in arguments.values()) != 1:
        raise ValueError(f"give exactly one of {', '.join(arguments)}")


class WaitsForBatches(_Operator):
    """Mixin of the sensor and of the operators that wait: the arguments of a wait, and the code that uses them.

    A subclass sets the attributes below, and implements :meth:`_current_wait` and :meth:`execute_complete`.
    """

    provider: str | None
    bifrost_conn_id: str
    deferrable: bool
    poll_interval: float | None
    poll_backoff: bool
    timeout: Any  # seconds; Airflow's sensor declares a different type
    not_found_grace: float
    results_grace: float
    cancel_on_kill: bool
    soft_fail: bool = False
    never_fail: bool = False
    _context: Context | None = None  # of the running task; on_kill() gets none

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """Continue after the deferral, with the trigger's event."""
        raise NotImplementedError

    def _current_wait(self, context: Context) -> BatchWait:
        """The wait of this task, as its arguments and its state say."""
        raise NotImplementedError

    def _wait_mode(self) -> Literal["deferrable", "poke", "reschedule"]:
        return "deferrable" if self.deferrable else "poke"

    def _wait_for(
        self, batch_ids: Sequence[str], provider: str | None, *, any_ended: bool = False, state_folder: str = ""
    ) -> BatchWait:
        """A wait for the given batches, with this task's arguments.

        :param any_ended: end the wait as soon as one batch has ended.
        :param state_folder: see :func:`airflow_bifrost.worker.state_store.open_state_store`.
        """
        from airflow_bifrost.worker.wait import BatchWait

        return BatchWait(
            batch_ids=batch_ids,
            provider=provider,
            conn_id=self.bifrost_conn_id,
            mode=self._wait_mode(),
            poll_interval=self.poll_interval,
            timeout=float(self.timeout),
            execution_timeout=self.execution_timeout,
            not_found_grace=self.not_found_grace,
            results_grace=self.results_grace,
            cancel_on_kill=self.cancel_on_kill,
            poll_backoff=self.poll_backoff,
            any_ended=any_ended,
            state_folder=state_folder,
        )

    def _skipping(self) -> AbstractContextManager[None]:
        from airflow_bifrost.worker.verdict import skipping

        return skipping(soft_fail=self.soft_fail, never_fail=self.never_fail)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume the task. If Airflow ended the deferral instead of the trigger (no triggerer was running at the deadline, or the trigger
        failed), the worker polls once more to find out what happened."""
        with self._skipping():
            try:
                # Not super(): Airflow's sensor would turn these errors into a bare "Trigger timeout".
                return BaseOperator.resume_execution(self, next_method, next_kwargs, context)
            except (TaskDeferralTimeout, TaskDeferralError) as error:
                return self.execute_complete(context, self._current_wait(context).last_poll(context, error))

    def on_kill(self) -> None:
        """Cancel the batches if ``cancel_on_kill`` is set and a user ended the task."""
        if not self.cancel_on_kill or self._context is None:
            return
        from airflow_bifrost.worker.kill import cancel_if_a_user_ended_it

        wait = self._current_wait(self._context)
        cancel_if_a_user_ended_it(
            self._context["ti"], wait.batch_ids, provider=wait.provider, conn_id=self.bifrost_conn_id
        )

    def _returned(self, context: Context, result: Result, raise_unless_accepted: Callable[[], None]) -> Result:
        """Return ``result`` if it is accepted. If not, push it as XComs before the task fails, so that users can investigate."""
        try:
            raise_unless_accepted()
        except (BatchFailed, AirflowSensorTimeout):
            if self.do_xcom_push:
                members = result if self.multiple_outputs and isinstance(result, Mapping) else {}
                for key, value in (*members.items(), ("return_value", result)):
                    context["ti"].xcom_push(key, value)
            raise
        return result
