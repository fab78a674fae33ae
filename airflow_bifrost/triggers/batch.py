"""BatchTrigger: waits in the triggerer for batches to become terminal."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_bifrost.gateway.async_client import AsyncGatewayClient
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.gateway.retry import NO_RETRY
from airflow_bifrost.hooks.bifrost import BifrostHook
from airflow_bifrost.triggers.airflow_channel import (
    ENDED_STATES,
    ProgressXCom,
    dag_run_state,
    is_users_stop,
    task_state,
)
from airflow_bifrost.triggers.cancel import Cancellation
from airflow_bifrost.triggers.event import BatchEvent, ErrorInEvent
from airflow_bifrost.triggers.stats import AirflowMeter
from airflow_bifrost.triggers.uncancelled import leave
from airflow_bifrost.waiting.decision import Finished, GiveUp, WaitState, resumed
from airflow_bifrost.waiting.handles import End, Listener, WaitHandle
from airflow_bifrost.waiting.hub import Hub
from airflow_bifrost.waiting.policy import RESULTS_GRACE, WaitPolicy
from airflow_bifrost.waiting.progress import Seen, progress_of
from airflow_bifrost.waiting.schedule import LAST_POLL_WITHIN

# Seconds after the deferral: Airflow may fail a task whose trigger fires sooner ("state mismatch").
FIRST_EVENT_AFTER = 5.0
CANCEL_WITHIN = 20.0  # seconds for the cancels of on_kill; Airflow allows 30 for all of it
LEAVE_WITHIN = 5.0  # seconds to write down what could not be cancelled


class BatchTrigger(BaseTrigger):
    """Waits for batches, and fires one event: :class:`airflow_bifrost.triggers.event.BatchEvent` as JSON.

    The arguments are JSON types only and contain no secret: the token stays in the connection. A trigger that starts after its deadline,
    because no triggerer ran, polls once more, and that poll decides.

    :param batch_ids: IDs of the batches to wait for.
    :param provider: the provider that they were created with; None: the connection's.
    :param bifrost_conn_id: ID of the Airflow connection.
    :param poll_interval: seconds between two polls of a batch.
    :param deadline: Unix seconds after which the wait gives up. It is absolute, so a restart of the triggerer does not move it.
    :param execution_deadline: Unix seconds at which the task's ``execution_timeout`` passes; None: it has none.
    :param not_found_grace: seconds for which a 404 is tolerated.
    :param results_grace: seconds for which a batch that has ended, but does not name its results yet, is polled again.
    :param deferred_at: Unix seconds of the deferral; None: now. The trigger fires no event in the first 5 s after it.
    :param states: what the worker knows of the batches (``WaitState.to_json()`` of each); None: nothing, as in an operator that does not
        poll before it defers.
    :param cancel_on_kill: cancel the batches when a user ends the task while it is deferred (Airflow 3.3 and later). A task that Airflow
        itself skips, after ``dagrun_timeout`` or with ``fail_fast``, keeps its batches.
    :param poll_backoff: poll less often as a batch ages: every 5 % of its age, but at least every ten minutes.
    :param any_ended: fire as soon as one of the batches has ended, instead of when all have.
    :param may_cancel: with ``cancel_on_kill``, the batches that may be cancelled; None: all of them. The others may belong to another task.
    :param uncancelled: URI of a file for the batches that could not be cancelled, so that the next attempt cancels them; None: no file.
    """

    def __init__(
        self,
        batch_ids: list[str],
        provider: str | None,
        bifrost_conn_id: str,
        poll_interval: float,
        deadline: float,
        *,
        execution_deadline: float | None = None,
        not_found_grace: float = 300.0,
        results_grace: float = RESULTS_GRACE,
        deferred_at: float | None = None,
        states: list[dict[str, Any]] | None = None,
        cancel_on_kill: bool = False,
        poll_backoff: bool = False,
        any_ended: bool = False,
        may_cancel: list[str] | None = None,
        uncancelled: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow leaves it untyped
        self.batch_ids = batch_ids
        self.provider = provider
        self.bifrost_conn_id = bifrost_conn_id
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.execution_deadline = execution_deadline
        self.not_found_grace = not_found_grace
        self.results_grace = results_grace
        self.deferred_at = time.time() if deferred_at is None else deferred_at
        self.states = states or []
        self.cancel_on_kill = cancel_on_kill
        self.poll_backoff = poll_backoff
        self.any_ended = any_ended
        self.may_cancel = may_cancel
        self.uncancelled = uncancelled
        self._has_ended = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "batch_ids": self.batch_ids,
                "provider": self.provider,
                "bifrost_conn_id": self.bifrost_conn_id,
                "poll_interval": self.poll_interval,
                "deadline": self.deadline,
                "execution_deadline": self.execution_deadline,
                "not_found_grace": self.not_found_grace,
                "results_grace": self.results_grace,
                "deferred_at": self.deferred_at,
                "states": self.states,
                "cancel_on_kill": self.cancel_on_kill,
                "poll_backoff": self.poll_backoff,
                "any_ended": self.any_ended,
                "may_cancel": self.may_cancel,
                "uncancelled": self.uncancelled,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then fire one event. Transient errors never end the wait before the deadline."""
        event = await self._wait()
        self._has_ended = True
        if self.task_instance is not None:  # in a triggerer, not under dag.test()
            await asyncio.sleep(seconds_until_event(self.deferred_at, now=time.time()))
        yield TriggerEvent(event.model_dump(mode="json"))

    async def on_kill(self) -> None:
        """Cancel the batches if ``cancel_on_kill`` is set and a user ended the task.

        Airflow 3.3 also calls this when another triggerer takes over the trigger of a slow one while the task is still waiting,
        and when Airflow itself skips the task. So the states of task and DAG run decide. If they are unknown, nothing is cancelled.
        """
        if not self.cancel_on_kill or self._has_ended or time.time() >= self._deadline():
            return  # the wait has ended, here or in another triggerer

        deadline = asyncio.get_running_loop().time() + CANCEL_WITHIN
        try:
            async with asyncio.timeout_at(deadline):
                state = await task_state(self.task_instance)
                run_state = await dag_run_state(self.task_instance) if state in ENDED_STATES else None
        except TimeoutError:
            state = run_state = None
        names = ", ".join(self.batch_ids)
        if not is_users_stop(state, run_state):
            why = f"the task is {state or 'in an unknown state'}" + (f", the DAG run {run_state}" if run_state else "")
            self.log.info(
                "Not cancelling %s: %s, so no user has ended the task. The batches continue to run and are billed",
                names,
                why,
            )
            return
        batch_ids = self.batch_ids if self.may_cancel is None else self.may_cancel
        cancellation = Cancellation(batch_ids, self.provider, deadline)
        try:
            async with self._hub() as hub:
                await cancellation.run(hub.client)
        finally:
            for line in cancellation.report():
                self.log.log(line.level, line.text)
        await self._leave(list(cancellation.failures))

    async def _leave(self, batch_ids: list[str]) -> None:
        """Leave batches that could not be cancelled to the next attempt of the task."""
        if not batch_ids or self.uncancelled is None:
            return
        try:
            async with asyncio.timeout(LEAVE_WITHIN):
                await asyncio.to_thread(leave, self.uncancelled, batch_ids)
        except (OSError, ValueError, ImportError) as error:  # a TimeoutError is an OSError
            self.log.log(
                logging.ERROR,
                "These batches could not be written to %s (%s), so no attempt cancels them",
                self.uncancelled,
                error,
            )

    async def _wait(self) -> BatchEvent:
        listener = _Listener(self)
        async with self._hub() as hub:
            ends = await _ends(self._begin(hub, listener), any_ended=self.any_ended)
        return self._event(ends, listener.progress())

    def _begin(self, hub: Hub, listener: Listener) -> set[WaitHandle]:
        now = time.time()
        known = {state["batch_id"]: WaitState.from_json(state) for state in self.states}
        policy = WaitPolicy(
            self.poll_interval,
            self._deadline(),
            self.not_found_grace,
            self.poll_backoff,
            self.results_grace,
            last_poll_until=now + LAST_POLL_WITHIN if now >= self._deadline() else 0.0,
        )
        return {
            hub.wait(
                resumed(known.get(batch_id) or WaitState(batch_id), policy, now=now, random=random.random),
                self.provider,
                policy,
                listener,
            )
            for batch_id in dict.fromkeys(self.batch_ids)
        }

    def _event(self, ends: list[End], progress: dict[str, Any] | None) -> BatchEvent:
        summaries = {end.state.batch_id: end.summary.to_xcom() for end in ends if isinstance(end, Finished)}
        error = next((ErrorInEvent.of(end.error, end.state.batch_id) for end in ends if isinstance(end, GiveUp)), None)
        waiting = [batch_id for batch_id in dict.fromkeys(self.batch_ids) if batch_id not in summaries]
        if error:
            kind = "error"
        elif not waiting or (self.any_ended and summaries):
            kind = "finished"
        else:
            kind = "timeout" if self._deadline() == self.deadline else "execution_timeout"
        return BatchEvent.model_validate(
            {
                "kind": kind,
                "summaries": [summaries[batch_id] for batch_id in self.batch_ids if batch_id in summaries],
                "waiting": waiting,
                "progress": progress,
                "error": error,
            }
        )

    def _hub(self) -> Hub:
        return Hub.join(self.bifrost_conn_id, _open_client, AirflowMeter)

    def _deadline(self) -> float:
        return self.deadline if self.execution_deadline is None else min(self.deadline, self.execution_deadline)


def seconds_until_event(deferred_at: float, *, now: float) -> float:
    """Seconds for which the event must still wait. The worker's clock, which set ``deferred_at``, may be ahead."""
    return max(0.0, min(deferred_at + FIRST_EVENT_AFTER - now, FIRST_EVENT_AFTER))


class _Listener(Listener):
    """Keeps the latest answers about a trigger's batches, for the ``progress`` XCom, and logs the news."""

    def __init__(self, trigger: BatchTrigger) -> None:
        self._trigger = trigger
        self._batches = len(set(trigger.batch_ids))
        self._latest: dict[str, Seen] = {}
        self._xcom = ProgressXCom(trigger.task_instance)

    def seen(self, batch_id: str, batch: Batch, provider: str) -> None:
        self._latest[batch_id] = Seen.of(batch, provider)
        if len(self._latest) == self._batches:
            self._xcom.offer(self._sums)

    def say(self, level: int, text: str) -> None:
        self._trigger.log.log(level, text)

    def progress(self) -> dict[str, Any] | None:
        """None until every batch was polled successfully, because the sums over some batches are not the progress of all."""
        return self._sums() if len(self._latest) == self._batches else None

    def _sums(self) -> dict[str, Any]:
        return progress_of(self._latest.values(), now=time.time())


async def _open_client(conn_id: str) -> AsyncGatewayClient:
    return await BifrostHook(conn_id).aopen_client(retry=NO_RETRY)


async def _ends(waits: set[WaitHandle], *, any_ended: bool) -> list[End]:
    """How the waits ended: all of them, or those up to the first that gave up; or, with ``any_ended``, up to the first that ended."""
    if len(waits) == 1:  # as in nearly all triggers; asyncio.wait would keep ten more objects for each
        return [await waits.pop()]
    ends: list[End] = []
    pending = set(waits)
    try:
        while pending and not any(any_ended or isinstance(end, GiveUp) for end in ends):
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            ends.extend(wait.result() for wait in done)
    finally:
        for wait in pending:
            wait.cancel()
    return ends
