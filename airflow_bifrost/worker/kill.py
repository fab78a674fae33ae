"""What a task does when Airflow ends it: it submits nothing more, and cancels its batches if a user ended it.

Airflow sends SIGTERM. The handler only calls ``on_kill()``, and the task keeps running until SIGKILL arrives five seconds later. So
``on_kill`` sets a signal, and the task checks it before every call that costs money. See :class:`StopSignal`.

The task's state in Airflow tells whether a user ended it:

* ``failed`` or ``success``: a user marked the task, so it cancels its batches. Airflow also sets ``failed`` when it misses the heartbeat of
  the last attempt. If that worker is still alive, it cannot tell the two apart. It cancels the batches, because no attempt will wait for
  them. Rows processed by then are billed, and clearing the task collects their results.
* ``skipped`` in a DAG run that failed: ``dagrun_timeout`` ended the run. No user asked to cancel the batches, so they keep running, and
  clearing the task picks them up. See :func:`airflow_bifrost.triggers.airflow_channel.is_users_stop`.
* ``running``, ``up_for_retry`` and the like: the worker is shutting down, and the next attempt continues. Nothing is cancelled.
* unknown: nothing is cancelled.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from airflow_bifrost._compat import AirflowException
from airflow_bifrost.exceptions import BifrostError, BifrostGatewayError
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.retry import NO_RETRY
from airflow_bifrost.hooks.bifrost import BifrostHook
from airflow_bifrost.providers.statuses import TERMINAL, BatchStatus
from airflow_bifrost.triggers.airflow_channel import is_users_stop

CANCEL_WITHIN = 4.0  # seconds; Airflow sends SIGKILL five seconds after SIGTERM
STATE_WITHIN = 1.5  # of these seconds, how many Airflow gets to return the task's state
PARALLEL = 16  # cancels at a time
PAUSE = 0.3  # seconds between two attempts to cancel a batch

log = logging.getLogger("airflow.task")


class TaskStopped(AirflowException):
    """Airflow ended the task before it was done. The task sends nothing more; a retry or a clear continues."""


class StopSignal:
    """Set once Airflow has ended the task."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Call this before everything that costs money.

        :raises TaskStopped: Airflow has ended the task.
        """
        if self._event.is_set():
            raise TaskStopped(
                "Airflow ended the task, so it sends nothing more. A retry or a clear continues with the batches that it has submitted."
            )

    def sleep(self, seconds: float) -> bool:
        """Sleep until the time has passed or the signal is set. Return whether it is set."""
        return self._event.wait(max(0.0, seconds))


def cancel_if_a_user_ended_it(
    ti: Any,
    batch_ids: Sequence[str],
    *,
    provider: str | None,
    conn_id: str,
    keep: Callable[[list[str]], None] | None = None,
    within: float = CANCEL_WITHIN,
) -> threading.Thread:
    """Cancel the batches if a user ended the task. Return after ``within`` seconds at the latest.

    This runs in a signal handler, which may have interrupted a request from the task to Airflow. So a thread does the work. If Airflow does
    not return the task's state soon, this function returns, so that the interrupted request can finish, and the thread continues.

    :param keep: stores the IDs of the batches that are still to be cancelled: first all of them, then those that could not be cancelled.
    :return: the thread, which may still be running.
    """
    deadline = time.monotonic() + within
    answered = threading.Event()

    def work() -> None:
        state = _state_of(ti)
        stopped = is_users_stop(state, _run_state_of(ti) if state == "skipped" else None)
        answered.set()
        if not stopped:
            log.info("Not cancelling %s: the task is %s", ", ".join(batch_ids), state or "in an unknown state")
            return
        if keep is not None:
            keep(list(batch_ids))
        with BifrostHook(conn_id).open_client(retry=NO_RETRY, timeout=within) as client:
            left = cancel_batches(client, batch_ids, provider=provider, within=deadline - time.monotonic())
        if keep is not None:
            keep(left)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    if answered.wait(min(STATE_WITHIN, within)):
        thread.join(max(0.0, deadline - time.monotonic()))
    return thread


def cancel_batches(
    client: GatewayClient,
    batch_ids: Sequence[str],
    *,
    provider: str | None,
    within: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> list[str]:
    """Cancel batches in parallel, and retry after transient errors.

    :param within: seconds for all of them.
    :return: IDs of the batches that may still run, in the given order.
    """
    deadline = clock() + within
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for batch_id in batch_ids:
        waiting.put(batch_id)
    cancelled: set[str] = set()

    def work() -> None:
        while True:
            try:
                batch_id = waiting.get_nowait()
            except queue.Empty:
                return
            while (done := _cancel(client, batch_id, provider)) is False and clock() + PAUSE < deadline:
                sleep(PAUSE)
            if done:
                cancelled.add(batch_id)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(PARALLEL, len(batch_ids)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - clock()))
    left = [batch_id for batch_id in batch_ids if batch_id not in cancelled]
    if left:
        log.warning(
            "These batches could not be cancelled, so they may keep running and be billed: %s. The next attempt of the task cancels"
            " them. If there is no next attempt, clear the task.",
            ", ".join(left),
        )
    return left


def _cancel(client: GatewayClient, batch_id: str, provider: str | None) -> bool | None:
    """True: the batch is cancelled, or does not need to be. False: a retry may help. None: a retry does not help."""
    try:
        batch = client.cancel_batch(batch_id, provider=provider)
    except BifrostGatewayError as error:
        log.warning("%s", error)
        return False if error.transient else _has_ended(client, batch_id, provider)
    except BifrostError as error:
        log.warning("%s", error)
        return None
    log.info("Batch %s is %s", batch_id, batch.status)
    return True


def _has_ended(client: GatewayClient, batch_id: str, provider: str | None) -> bool | None:
    """True if a batch whose cancellation was refused is cancelling or terminal; None if it is not, or the gateway does not say."""
    try:
        batch = client.get_batch(batch_id, provider=provider)
    except BifrostError:
        return None
    status = BatchStatus.of(batch.status)
    return True if status in TERMINAL or status is BatchStatus.CANCELLING else None


def _state_of(ti: Any) -> str | None:
    """The state of the task in Airflow; None if Airflow does not return one."""
    found = ti.get_task_states(
        dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
    ).get(ti.run_id, {})
    state = found.get(ti.task_id, found.get(f"{ti.task_id}_{ti.map_index}"))
    return None if state is None else str(state)


def _run_state_of(ti: Any) -> str | None:
    """The state of the task's DAG run."""
    state = ti.get_dagrun_state(ti.dag_id, ti.run_id)
    return str(getattr(state, "value", state))
