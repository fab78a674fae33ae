"""BatchTrigger: waits in the triggerer for batches to become terminal."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_bifrost.exceptions import BifrostError
from airflow_bifrost.gateway.async_client import AsyncGatewayClient
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.gateway.retry import NO_RETRY
from airflow_bifrost.hooks.bifrost import BifrostHook
from airflow_bifrost.triggers.airflow_channel import ENDED_STATES, ProgressXCom, task_state
from airflow_bifrost.triggers.event import BatchEvent, ErrorInEvent
from airflow_bifrost.triggers.stats import AirflowMeter
from airflow_bifrost.waiting.decision import Finished, GiveUp, WaitPolicy, WaitState
from airflow_bifrost.waiting.handles import End, Listener, WaitHandle
from airflow_bifrost.waiting.hub import Hub
from airflow_bifrost.waiting.progress import Seen, progress_of

FIRST_EVENT_AFTER = (
    5.0  # seconds after the deferral; Airflow may fail a task whose trigger fires sooner ("state mismatch")
)
CANCEL_WITHIN = 20.0  # seconds for on_kill as a whole; Airflow allows 30


class BatchTrigger(BaseTrigger):
    """Waits for batches, and fires one event: :class:`airflow_bifrost.triggers.event.BatchEvent` as JSON.

    The arguments are JSON types only and hold no secret: the token stays in the connection.

    :param batch_ids: what to wait for.
    :param provider: provider; None is the connection's.
    :param bifrost_conn_id: id of the Airflow connection.
    :param poll_interval: seconds between two looks at a batch.
    :param deadline: unix seconds after which the wait gives up. It is absolute, so a restart of the triggerer does not move it.
    :param execution_deadline: unix seconds at which the task's ``execution_timeout`` is over; None without one.
    :param not_found_grace: seconds for which a 404 is borne.
    :param deferred_at: unix seconds of the deferral; None: now. No event is fired in the first 5 s after it.
    :param watches: what the sensor has seen already in the worker; leave it out in an operator of your own.
    :param poll_backoff: look the less often the older a batch is, at most every ten minutes.
    :param cancel_on_kill: cancel the batches when a user ends the task while it is deferred (Airflow 3.3 and later).
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
        deferred_at: float | None = None,
        watches: list[dict[str, Any]] | None = None,
        cancel_on_kill: bool = False,
        poll_backoff: bool = False,
        any_ended: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow leaves it untyped
        self.batch_ids = batch_ids
        self.provider = provider
        self.bifrost_conn_id = bifrost_conn_id
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.execution_deadline = execution_deadline
        self.not_found_grace = not_found_grace
        self.deferred_at = time.time() if deferred_at is None else deferred_at
        self.watches = watches or []
        self.cancel_on_kill = cancel_on_kill
        self.poll_backoff = poll_backoff
        self.any_ended = any_ended
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
                "deferred_at": self.deferred_at,
                "watches": self.watches,
                "cancel_on_kill": self.cancel_on_kill,
                "poll_backoff": self.poll_backoff,
                "any_ended": self.any_ended,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """WaitHandle, then fire one event. Faults that may pass never end it before the deadline."""
        event = await self._wait()
        self._has_ended = True
        if self.task_instance is not None:  # in a triggerer, not under dag.test()
            await asyncio.sleep(self.deferred_at + FIRST_EVENT_AFTER - time.time())
        yield TriggerEvent(event.model_dump(mode="json"))

    async def on_kill(self) -> None:
        """Cancel the batches, if asked to, and if a user really ended the task.

        Airflow 3.3 calls this also when another triggerer took the trigger over from one that was slow, while the task waits on
        in good health. So the task's state decides; where it cannot be had, nothing is cancelled.
        """
        if not self.cancel_on_kill or self._has_ended or time.time() >= self._deadline():
            return  # the wait has ended by itself, here or in another triggerer

        try:
            async with asyncio.timeout(CANCEL_WITHIN):
                state = await task_state(self.task_instance)
                if state in ENDED_STATES:
                    await self._cancel()
                else:
                    self.log.info("Not cancelling %s: the task is %s", self.batch_ids, state or "in an unknown state")
        except TimeoutError:
            self.log.warning("Cancelling %s took too long; the batches may still be running", self.batch_ids)

    async def _wait(self) -> BatchEvent:
        listener = _Listener(self)
        async with self._hub() as hub:
            ends = await _ends(self._begin(hub, listener), any_ended=self.any_ended)
        return self._event(ends, listener.progress())

    def _begin(self, hub: Hub, listener: Listener) -> set[WaitHandle]:
        known = {watch["batch_id"]: WaitState.from_json(watch) for watch in self.watches}
        policy = WaitPolicy(self.poll_interval, self._deadline(), self.not_found_grace, self.poll_backoff)
        return {
            hub.wait(self._as_it_is_now(known.get(batch_id) or WaitState(batch_id)), self.provider, policy, listener)
            for batch_id in dict.fromkeys(self.batch_ids)
        }

    def _event(self, ends: list[End], progress: dict[str, Any] | None) -> BatchEvent:
        summaries = {end.watch.batch_id: end.summary.to_xcom() for end in ends if isinstance(end, Finished)}
        error = next((ErrorInEvent.of(end.error) for end in ends if isinstance(end, GiveUp)), None)
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

    def _as_it_is_now(self, watch: WaitState) -> WaitState:
        """With the time of the first look: when the worker said. After a restart of the triggerer, with thousands of triggers, that is
        long past, and the looks are spread over one interval."""
        now = time.time()
        if (
            watch.next_poll_at and now > watch.next_poll_at + self.poll_interval
        ):  # not the first triggerer that runs this
            watch = replace(watch, worked=True)
        next_poll_at = watch.next_poll_at if watch.next_poll_at > now else now + self.poll_interval * random.random()
        return replace(watch, next_poll_at=min(next_poll_at, self._deadline()))

    async def _cancel(self) -> None:

        async with self._hub() as hub:
            for batch_id in dict.fromkeys(self.batch_ids):
                try:
                    batch = await hub.cancel_batch(batch_id, self.provider)
                except BifrostError as error:
                    self.log.warning("%s", error)
                else:
                    self.log.info("The task was ended by a user: batch %s is %s", batch_id, batch.status)

    def _hub(self) -> Hub:
        return Hub.join(self.bifrost_conn_id, _open_client, AirflowMeter)

    def _deadline(self) -> float:
        return self.deadline if self.execution_deadline is None else min(self.deadline, self.execution_deadline)


class _Listener(Listener):
    """Keeps what was seen of a trigger's batches, for the ``progress`` XCom, and passes on what is said of them."""

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
        """None while some were never seen: the sums over the others would be no progress of the whole."""
        return self._sums() if len(self._latest) == self._batches else None

    def _sums(self) -> dict[str, Any]:
        return progress_of(self._latest.values(), now=time.time())


async def _open_client(conn_id: str) -> AsyncGatewayClient:
    return await BifrostHook(conn_id).aopen_client(retry=NO_RETRY)


async def _ends(waits: set[WaitHandle], *, any_ended: bool) -> list[End]:
    """Of all waits, or until one has given up; or, if ``any_ended``, until one has ended."""
    if len(waits) == 1:  # as nearly all triggers have it; asyncio.wait would keep ten objects more for each
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
