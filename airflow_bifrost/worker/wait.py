"""How a task waits for batches: in the triggerer, in the worker, or by being rescheduled. Shared by sensor and operator.

It asks once in the worker, and again as :mod:`airflow_bifrost.waiting.decision` says, until all batches are terminal. Whatever
the mode, the same situation ends in the same result or the same error.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_bifrost._compat import AirflowRescheduleException, AirflowSensorTimeout, AirflowTaskTimeout
from airflow_bifrost.exceptions import BifrostConfigurationError, BifrostError, BifrostUnavailable
from airflow_bifrost.worker.state_store import open_state_store

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from airflow_bifrost.gateway.client import GatewayClient
    from airflow_bifrost.submission.ledger import TaskStateStore
    from airflow_bifrost.waiting.decision import Decision, WaitPolicy, WaitState
    from airflow_bifrost.waiting.progress import Seen

Mode = Literal["deferrable", "poke", "reschedule"]

DEFAULT_TIMEOUT = 25 * 3600.0  # seconds: the providers' window of 24 hours, and an hour for their clocks
DEFAULT_POLL_INTERVAL = 60.0  # seconds; as gateway.config has it, which a DAG file must not load, since it loads httpx
DEFAULT_NOT_FOUND_GRACE = 300.0  # seconds
BACKSTOP = 300.0  # seconds after the deadline at which Airflow itself ends a deferral whose trigger did not
FIRST_ROUND = 60.0  # seconds that the looks before a deferral may take, for a long list and a slow gateway
MEMORY_KEY = "bifrost_wait"

log = logging.getLogger("airflow.task")


@dataclass(frozen=True, slots=True)
class BatchWait:
    """What to wait for, and how.

    :param batch_ids: ids that were checked, see :func:`airflow_bifrost.worker.arguments.batch_ids_of`.
    :param provider: provider; None is the connection's.
    :param poll_interval: seconds between two looks at a batch; None: as the connection or ``[bifrost] poll_interval`` says.
    :param timeout: seconds from the first attempt on. A retry does not begin them anew, clearing the task does.
    :param execution_timeout: the task's own; Airflow does not watch over it while a task is deferred.
    :param not_found_grace: seconds for which a 404 is borne.
    :param cancel_on_kill: for the trigger, see :class:`airflow_bifrost.triggers.batch.BatchTrigger`.
    :param any_ended: one terminal batch is enough.
    :param state_folder: see :func:`airflow_bifrost.worker.state_store.open_state_store`.
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
    any_ended: bool = False
    state_folder: str = ""

    def run(self, context: Mapping[str, Any], task: BaseOperator) -> list[dict[str, Any]]:
        """Wait, and return the batch summaries in the order of the ids: of all batches, or of those that are terminal if any is enough.

        :raises BifrostError: waiting on cannot help.
        :raises AirflowSensorTimeout: the time is over.
        :raises TaskDeferred: the wait goes on in the triggerer (or ``AirflowRescheduleException``: later).
        """
        from airflow_bifrost.waiting.decision import WaitPolicy

        if not self.batch_ids:
            log.warning("batch_id is an empty list: there is nothing to wait for")
            return []
        memory = open_state_store(context, folder=self.state_folder)
        deadline, watches = self._recall(context, memory)
        policy = WaitPolicy(self._interval(), deadline, self.not_found_grace, self.poll_backoff)
        progress = _Progress(context["ti"])
        with _Looker(self, policy, watches) as looker:
            while True:
                looker.look()
                done = not looker.waiting or (self.any_ended and bool(looker.summaries))
                progress.offer(looker.progress(), last=done)
                if done:
                    return [looker.summaries[batch_id] for batch_id in self.batch_ids if batch_id in looker.summaries]
                if looker.timed_out:
                    raise self._timeout_error(looker.waiting)
                if self.mode == "deferrable":
                    self._defer(task, context, policy, looker.watches)
                if self.mode == "reschedule":
                    self._remember(context, memory, deadline, looker.watches)
                    raise AirflowRescheduleException(datetime.fromtimestamp(looker.next_look_at, UTC))
                time.sleep(max(0.0, looker.next_look_at - time.time()))

    def resume(self, context: Mapping[str, Any], event: Any) -> list[dict[str, Any]]:
        """What :meth:`run` returns or raises, from the trigger's event."""
        from airflow_bifrost.triggers.event import BatchEvent

        read = BatchEvent.read(event)
        _Progress(context["ti"]).offer(read.progress, last=True)
        if read.error is not None:
            raise read.error.to_exception()
        if read.kind == "timeout":
            raise self._timeout_error(read.waiting)
        if read.kind == "execution_timeout":
            raise AirflowTaskTimeout(
                f"execution_timeout ({self.execution_timeout}) passed while waiting for {_names(read.waiting)}."
                " The batches run on and are billed; a retry waits for them again."
            )
        return read.summaries

    def _recall(self, context: Mapping[str, Any], memory: TaskStateStore) -> tuple[float, dict[str, WaitState]]:
        """Deadline and watches of this wait: those of an earlier attempt, or new ones.

        Airflow raises ``max_tries`` when a task is cleared and leaves it when it is retried: it tells a new wait from an old one.
        """
        from airflow_bifrost.waiting.decision import WaitState

        watches = {batch_id: WaitState(batch_id) for batch_id in self.batch_ids}
        ti = context["ti"]
        record = memory.get(MEMORY_KEY)
        if record and record["max_tries"] == ti.max_tries:
            kept = {item["batch_id"]: WaitState.from_json(item) for item in record["watches"]}
            return record["deadline"], {batch_id: kept.get(batch_id, new) for batch_id, new in watches.items()}
        began = time.time()
        if self.mode == "reschedule" and (first := ti.get_first_reschedule_date(context)):
            # Nothing was remembered, yet this is no first look: an earlier one found nothing that could not pass.
            began = first.timestamp()
            watches = {batch_id: WaitState(batch_id, worked=True) for batch_id in watches}
        deadline = began + self.timeout
        self._remember(context, memory, deadline, {})
        return deadline, watches

    def _remember(
        self, context: Mapping[str, Any], memory: TaskStateStore, deadline: float, watches: Mapping[str, WaitState]
    ) -> None:
        memory.set(
            MEMORY_KEY,
            {
                "max_tries": context["ti"].max_tries,
                "deadline": deadline,
                "watches": [watch.to_json() for watch in watches.values()],
            },
        )

    def _defer(
        self, task: BaseOperator, context: Mapping[str, Any], policy: WaitPolicy, watches: Mapping[str, WaitState]
    ) -> None:
        from airflow_bifrost.triggers.batch import BatchTrigger

        now = time.time()
        execution_deadline = None
        if self.execution_timeout is not None:
            execution_deadline = context["ti"].start_date.timestamp() + self.execution_timeout.total_seconds()
        task.defer(
            trigger=BatchTrigger(
                batch_ids=list(self.batch_ids),
                provider=self.provider,
                bifrost_conn_id=self.conn_id,
                poll_interval=policy.poll_interval,
                deadline=policy.deadline,
                execution_deadline=execution_deadline,
                not_found_grace=self.not_found_grace,
                deferred_at=now,
                watches=[watch.to_json() for watch in watches.values()],
                cancel_on_kill=self.cancel_on_kill,
                poll_backoff=self.poll_backoff,
                any_ended=self.any_ended,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=max(0.0, policy.deadline - now) + BACKSTOP),
        )

    def _interval(self) -> float:
        if self.poll_interval is not None:
            return self.poll_interval
        from airflow_bifrost.hooks.bifrost import BifrostHook

        try:
            return BifrostHook(self.conn_id).get_config().poll_interval
        except BifrostConfigurationError:  # the first look says so, and whether it is borne
            return DEFAULT_POLL_INTERVAL

    def _timeout_error(self, waiting: Sequence[str]) -> AirflowSensorTimeout:
        from airflow_bifrost.waiting.decision import in_words

        what = "The batch runs on and is billed" if len(waiting) == 1 else "The batches run on and are billed"
        return AirflowSensorTimeout(
            f"{_names(waiting)} did not end within {in_words(self.timeout)}, the sensor's or operator's `timeout`."
            f" {what}: clear the task to wait again, or cancel with `BifrostHook().cancel_batch(id)`."
        )


class _Looker:
    """Looks at batches with one client, and follows the decisions. Its state is what the looks have shown."""

    def __init__(self, wait: BatchWait, policy: WaitPolicy, watches: dict[str, WaitState]) -> None:
        self.watches = watches
        self.summaries: dict[str, dict[str, Any]] = {}
        self.timed_out = False
        self._wait = wait
        self._policy = policy
        self._latest: dict[str, Seen] = {}
        self._outage: BifrostUnavailable | None = None
        self._client: GatewayClient | None = None
        self._connected_at = 0.0

    def __enter__(self) -> _Looker:
        return self

    def __exit__(self, *_: object) -> None:
        self._disconnect()

    @property
    def waiting(self) -> list[str]:
        """Ids of the batches that are not terminal, as far as is known."""
        return [batch_id for batch_id in self.watches if batch_id not in self.summaries]

    @property
    def next_look_at(self) -> float:
        """Unix seconds. A worker that is started anew for each look takes all of them at once."""
        due = [self.watches[batch_id].next_poll_at for batch_id in self.waiting]
        return max(due) if self._wait.mode == "reschedule" else min(due)

    def look(self) -> None:
        """Look at each batch that is waited for and due.

        :raises BifrostError: waiting on cannot help.
        """
        from airflow_bifrost.waiting.decision import Finished, GiveUp, LookUpConnection, TimedOut

        began = time.time()
        self._outage = None
        if self._client is not None and began > self._connected_at + self._client.config.connection_ttl:
            self._disconnect()
        for batch_id in self.waiting:
            if self.watches[batch_id].next_poll_at > began:
                continue
            if self._wait.mode == "deferrable" and time.time() > began + FIRST_ROUND:
                break  # the triggerer has the first look at the others
            decision = self._look_at(self.watches[batch_id])
            if isinstance(decision, LookUpConnection):
                self._disconnect()
                decision = self._look_at(decision.watch)
            self.watches[batch_id] = decision.watch
            if decision.line:
                log.log(decision.line.level, decision.line.text)
            if isinstance(decision, GiveUp):
                raise decision.error
            if isinstance(decision, Finished):
                self.summaries[batch_id] = decision.summary.to_xcom()
            elif isinstance(decision, TimedOut):
                self.timed_out = True

    def progress(self) -> dict[str, Any] | None:
        """How far all of the batches are; None while some of them were never seen."""
        from airflow_bifrost.waiting.progress import progress_of

        if len(self._latest) < len(self.watches):
            return None
        return progress_of(self._latest.values(), now=time.time())

    def _look_at(self, watch: WaitState) -> Decision:
        from airflow_bifrost.waiting.decision import on_batch, on_fault
        from airflow_bifrost.waiting.progress import Seen

        try:
            if self._outage is not None:
                raise self._outage
            client = self._connected()
            batch = client.get_batch(watch.batch_id, provider=self._wait.provider)
        except BifrostError as error:
            if isinstance(error, BifrostUnavailable) and error.status_code is None:
                self._outage = error  # one look without an answer is enough for this round
            return on_fault(watch, error, self._policy, now=time.time(), random=random.random)
        provider = client.config.provider_for(self._wait.provider)
        self._latest[watch.batch_id] = Seen.of(batch, provider)
        return on_batch(watch, batch, provider, self._policy, now=time.time(), random=random.random)

    def _connected(self) -> GatewayClient:
        from airflow_bifrost.gateway.retry import NO_RETRY
        from airflow_bifrost.hooks.bifrost import BifrostHook

        if self._client is None:
            self._client = BifrostHook(self._wait.conn_id).open_client(retry=NO_RETRY)
            self._connected_at = time.time()
        return self._client

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


class _Progress:
    """Keeps the ``progress`` XCom current from the worker; what goes wrong with it never harms the wait."""

    def __init__(self, ti: Any) -> None:
        from airflow_bifrost.triggers.airflow_channel import progress_interval
        from airflow_bifrost.waiting.progress import ProgressPace

        self._ti = ti
        self._pace = ProgressPace(progress_interval())

    def offer(self, progress: dict[str, Any] | None, *, last: bool = False) -> None:
        """Write it, if there is any, and it is time or the last."""
        if progress is None or (self._pace.due(lambda: progress, now=time.monotonic()) is None and not last):
            return
        try:
            self._ti.xcom_push("progress", progress)
        except Exception as error:  # noqa: BLE001 - whatever Airflow or an XCom backend raises must not harm the wait
            log.warning("The progress XCom cannot be written (%s: %s); going on", type(error).__name__, error)


def _names(batch_ids: Sequence[str]) -> str:
    shown = ", ".join(batch_ids[:10]) + (f" and {len(batch_ids) - 10} more" if len(batch_ids) > 10 else "")
    return f"Batch {shown}" if len(batch_ids) == 1 else f"{len(batch_ids)} batches ({shown})"
