"""How a task waits for batches: in the triggerer, in the worker, or by being rescheduled. Shared by the sensor and the operators.

The task polls once in the worker, and again as :mod:`airflow_bifrost.waiting.decision` says, until all batches have ended. In every mode the
same situation ends with the same result or the same error.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from airflow_bifrost._compat import (
    AirflowRescheduleException,
    AirflowTaskTimeout,
    TaskDeferralTimeout,
)
from airflow_bifrost.exceptions import BifrostConfigurationError, BifrostError
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.retry import NO_RETRY, RetryPolicy
from airflow_bifrost.hooks.bifrost import BifrostHook
from airflow_bifrost.triggers.batch import BatchTrigger
from airflow_bifrost.triggers.event import BatchEvent, ErrorInEvent
from airflow_bifrost.waiting.decision import WaitState
from airflow_bifrost.waiting.policy import WaitPolicy
from airflow_bifrost.worker.arguments import DEFAULT_POLL_INTERVAL, DEFAULT_RESULTS_GRACE
from airflow_bifrost.worker.poller import Poller
from airflow_bifrost.worker.progress import ProgressXCom
from airflow_bifrost.worker.state_store import open_state_store
from airflow_bifrost.worker.verdict import names_of, timeout_error

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from airflow_bifrost.submission.ledger import TaskStateStore

Mode = Literal["deferrable", "poke", "reschedule"]

BACKSTOP = 300.0  # seconds after the end of the wait; then Airflow ends the deferral if the trigger has not
FIRST_POLLS_WITHIN = (
    60.0  # seconds for the polls before a deferral; with a long list and a slow gateway the triggerer does the rest
)
WAIT_KEY = "bifrost_wait"

log = logging.getLogger("airflow.task")


@dataclass(frozen=True, slots=True)
class BatchWait:
    """What to wait for, and how.

    :param batch_ids: IDs as :func:`airflow_bifrost.worker.arguments.batch_ids_of` returns them.
    :param provider: the provider; None: the connection's provider.
    :param poll_interval: seconds between two polls of a batch; None: as the connection or ``[bifrost] poll_interval`` says.
    :param timeout: seconds from the start of the first attempt. A retry does not extend it; clearing the task starts it again.
    :param execution_timeout: the task's. Airflow does not enforce it while a task is deferred.
    :param not_found_grace: seconds for which a 404 is tolerated.
    :param results_grace: seconds for which a batch that has ended is polled again until it names its results.
    :param cancel_on_kill: passed on to the trigger, see :class:`airflow_bifrost.triggers.batch.BatchTrigger`.
    :param any_ended: end the wait as soon as one batch has ended.
    :param deadline: Unix seconds at which the wait gives up; None: ``timeout`` after the start of the first attempt.
    :param may_cancel: with ``cancel_on_kill``, the batches that the trigger may cancel; None: all of them.
    :param uncancelled: with ``cancel_on_kill``, URI of a file for the batches that the trigger could not cancel.
    :param resume_with: additional arguments for the method that resumes the task after a deferral.
    :param state_folder: see :func:`airflow_bifrost.worker.state_store.open_state_store`.
    :param clock: returns Unix seconds.
    """

    batch_ids: Sequence[str]
    provider: str | None
    conn_id: str
    mode: Mode
    poll_interval: float | None
    timeout: float
    execution_timeout: timedelta | None
    not_found_grace: float
    cancel_on_kill: bool
    poll_backoff: bool
    results_grace: float = DEFAULT_RESULTS_GRACE
    any_ended: bool = False
    state_folder: str = ""
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], object] = time.sleep
    deadline: float | None = None
    may_cancel: Sequence[str] | None = None
    uncancelled: str | None = None
    resume_with: Mapping[str, Any] = field(default_factory=dict)

    def run(self, context: Mapping[str, Any], task: BaseOperator) -> list[dict[str, Any]]:
        """Wait, and return the summaries of all ended batches, in the order of the IDs.

        :raises BifrostError: waiting longer cannot help.
        :raises AirflowSensorTimeout: the timeout has passed.
        :raises TaskDeferred: the wait continues in the triggerer. (With ``mode="reschedule"``: ``AirflowRescheduleException``.)
        """
        if not self.batch_ids:
            log.warning("batch_id is an empty list: there is nothing to wait for")
            return []
        store = open_state_store(context, folder=self.state_folder)
        deadline, states = self._recall(context, store)
        policy = self._policy(deadline)
        progress = ProgressXCom(context["ti"])
        with Poller(self._opener(NO_RETRY), self.provider, policy, states, clock=self.clock) as poller:
            while True:
                poller.poll(within=FIRST_POLLS_WITHIN if self.mode == "deferrable" else None)
                done = self._is_over(poller)
                progress.offer(poller.progress(), last=done)
                if done:
                    return self._summaries(poller)
                if poller.timed_out:
                    raise timeout_error(poller.waiting, self.timeout)
                if self.mode == "deferrable":
                    self._defer(task, context, policy, poller.states)
                if self.mode == "reschedule":
                    self._remember(context, store, deadline, poller.states)
                    raise AirflowRescheduleException(datetime.fromtimestamp(poller.last_due_at, UTC))
                self.sleep(max(0.0, poller.first_due_at - self.clock()))

    def resume(self, context: Mapping[str, Any], event: Any) -> list[dict[str, Any]]:
        """Return or raise what :meth:`run` does, from the trigger's event."""
        read = BatchEvent.read(event)
        ProgressXCom(context["ti"]).offer(read.progress, last=True)
        if read.error is not None:
            raise read.error.to_exception()
        if read.kind == "timeout":
            raise timeout_error(read.waiting, self.timeout)
        if read.kind == "execution_timeout":
            raise AirflowTaskTimeout(
                f"execution_timeout ({self.execution_timeout}) passed while waiting for {names_of(read.waiting)}."
                " The batches continue to run and are billed; a retry waits for them again."
            )
        return read.summaries

    def last_poll(self, context: Mapping[str, Any], failure: Exception) -> dict[str, Any]:
        """Poll each batch once more, because Airflow ended the deferral instead of the trigger.

        :param failure: ``TaskDeferralTimeout`` if no triggerer ended the wait in time; any other error: the trigger failed.
        :return: the event that the trigger should have fired, for :meth:`resume`.
        """
        log.warning("Airflow ended the deferral (%s): the worker polls once more", failure)
        states = {batch_id: WaitState(batch_id, worked=True) for batch_id in self.batch_ids}
        policy = self._policy(self.clock())  # this poll is the last
        error: BifrostError | None = None
        with Poller(self._opener(None, worked_before=True), self.provider, policy, states, clock=self.clock) as poller:
            try:
                poller.poll()
            except BifrostError as reason:
                error = reason
            over = error is None and self._is_over(poller)
            if not over and error is None and not isinstance(failure, TaskDeferralTimeout):
                error = BifrostError(
                    f"The trigger failed ({failure}) while waiting for {names_of(poller.waiting)}. The batches continue to run and are"
                    " billed; a retry waits for them again. The triggerer's log says more."
                )
            event = BatchEvent(
                kind="error" if error else "finished" if over else self._timeout_kind(context),
                summaries=self._summaries(poller),
                waiting=poller.waiting,
                progress=poller.progress(),
                error=ErrorInEvent.of(error) if error else None,
            )
        return event.model_dump(mode="json")

    def _policy(self, deadline: float) -> WaitPolicy:
        return WaitPolicy(self._interval(), deadline, self.not_found_grace, self.poll_backoff, self.results_grace)

    def _opener(self, retry: RetryPolicy | None, *, worked_before: bool = False) -> Callable[[], GatewayClient]:
        """
        :param retry: None: the connection's.
        """
        return partial(BifrostHook(self.conn_id).open_client, retry=retry, worked_before=worked_before)

    def _is_over(self, poller: Poller) -> bool:
        return not poller.waiting or (self.any_ended and bool(poller.summaries))

    def _summaries(self, poller: Poller) -> list[dict[str, Any]]:
        return [poller.summaries[batch_id] for batch_id in self.batch_ids if batch_id in poller.summaries]

    def _recall(self, context: Mapping[str, Any], store: TaskStateStore) -> tuple[float, dict[str, WaitState]]:
        """The deadline and the states of this wait: those of an earlier attempt, or new ones.

        Airflow increases ``max_tries`` when a task is cleared, but not when it is retried. So a record with the same ``max_tries`` belongs
        to this wait.
        """
        ti = context["ti"]
        states = {batch_id: WaitState(batch_id, defined_before=ti.try_number > 1) for batch_id in self.batch_ids}
        record = store.get(WAIT_KEY)
        if record and record["max_tries"] == ti.max_tries:
            kept = {item["batch_id"]: WaitState.from_json(item) for item in record["states"]}
            deadline = record["deadline"] if self.deadline is None else self.deadline
            return deadline, {batch_id: kept.get(batch_id, new) for batch_id, new in states.items()}
        began = self.clock()
        if self.mode == "reschedule" and (first := ti.get_first_reschedule_date(context)):
            # The task was rescheduled, but has no record. So its first poll succeeded or had a transient error.
            began = first.timestamp()
            states = {batch_id: WaitState(batch_id, worked=True) for batch_id in states}
        deadline = began + self.timeout if self.deadline is None else self.deadline
        self._remember(context, store, deadline, {})
        return deadline, states

    def _remember(
        self, context: Mapping[str, Any], store: TaskStateStore, deadline: float, states: Mapping[str, WaitState]
    ) -> None:
        store.set(
            WAIT_KEY,
            {
                "max_tries": context["ti"].max_tries,
                "deadline": deadline,
                "states": [state.to_json() for state in states.values()],
            },
        )

    def _defer(
        self, task: BaseOperator, context: Mapping[str, Any], policy: WaitPolicy, states: Mapping[str, WaitState]
    ) -> None:
        now = self.clock()
        execution_deadline = self._execution_deadline(context)
        ends_at = policy.deadline if execution_deadline is None else min(policy.deadline, execution_deadline)
        task.defer(
            trigger=BatchTrigger(
                batch_ids=list(self.batch_ids),
                provider=self.provider,
                bifrost_conn_id=self.conn_id,
                poll_interval=policy.poll_interval,
                deadline=policy.deadline,
                execution_deadline=execution_deadline,
                not_found_grace=self.not_found_grace,
                results_grace=self.results_grace,
                deferred_at=now,
                states=[state.to_json() for state in states.values()],
                cancel_on_kill=self.cancel_on_kill,
                poll_backoff=self.poll_backoff,
                any_ended=self.any_ended,
                may_cancel=None if self.may_cancel is None else list(self.may_cancel),
                uncancelled=self.uncancelled,
            ),
            method_name="execute_complete",
            kwargs=dict(self.resume_with) or None,
            timeout=timedelta(seconds=max(0.0, ends_at - now) + BACKSTOP),
        )

    def _execution_deadline(self, context: Mapping[str, Any]) -> float | None:
        if self.execution_timeout is None:
            return None
        return float(context["ti"].start_date.timestamp()) + self.execution_timeout.total_seconds()

    def _timeout_kind(self, context: Mapping[str, Any]) -> Literal["timeout", "execution_timeout"]:
        """Which of the two timeouts has passed, when Airflow ended the deferral."""
        execution_deadline = self._execution_deadline(context)
        passed = execution_deadline is not None and self.clock() >= execution_deadline
        return "execution_timeout" if passed else "timeout"

    def _interval(self) -> float:
        if self.poll_interval is not None:
            return self.poll_interval
        try:
            return BifrostHook(self.conn_id).get_config().poll_interval
        except BifrostConfigurationError:  # the first poll meets it too, and decides whether to tolerate it
            return DEFAULT_POLL_INTERVAL
