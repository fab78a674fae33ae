"""What a task does when Airflow ends it: it stops spending, and cancels its batches if a user ended it.

Airflow sends SIGTERM, whose handler only calls ``on_kill()``: the task runs on until SIGKILL, five seconds later. So ``on_kill`` sets a
signal that is checked before every call that costs money, see :class:`StopSignal`.

Not every end is a user's. By the task's state in Airflow:

* ``failed`` or ``success``: a user marked the task, so its batches are cancelled. Airflow also fails the last attempt of a task whose
  heartbeat it misses. If that worker is still alive, it cannot tell the two apart, and cancels: nobody waits for the batches any more.
  What had run by then is billed, and clearing the task collects it.
* ``skipped`` in a DAG run that failed: ``dagrun_timeout`` ended the run. No user decided about the batches: they run on, and clearing
  the task picks them up. See :func:`airflow_bifrost.triggers.airflow_channel.is_users_stop`.
* ``running``, ``up_for_retry`` and the like: the worker is shut down, or the next attempt goes on. Nothing is cancelled.
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
STATE_WITHIN = 1.5  # seconds of these for Airflow to tell the task's state
PARALLEL = 16  # cancels at a time
PAUSE = 0.3  # seconds between two attempts to cancel a batch

log = logging.getLogger("airflow.task")


class TaskStopped(AirflowException):
    """Airflow ended the task while it had more to do. Nothing more was sent; a retry or a clear goes on."""


class StopSignal:
    """Set once Airflow has ended the task."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def check(self) -> None:
        """Call this before everything that costs money.

        :raises TaskStopped: Airflow has ended the task.
        """
        if self._event.is_set():
            raise TaskStopped(
                "Airflow ended the task: nothing more is sent. A retry or a clear goes on with what was submitted."
            )

    def sleep(self, seconds: float) -> bool:
        """Sleep, but not longer than until the signal is set. Return whether it is."""
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
    """Cancel the batches, unless the task is still to run. Return after ``within`` seconds at the latest.

    This runs in a signal handler, which may have interrupted the task's exchange with Airflow. So all of it is done in a thread, and if
    Airflow does not tell the task's state soon, the handler returns and lets the exchange end, while the thread goes on.

    :param keep: stores the IDs of the batches that are not cancelled: of all of them at first, and of the rest in the end.
    :return: the thread, which may still be at work.
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
    """Cancel batches in parallel, and repeat what meets a transient error.

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
            while not (done := _cancel(client, batch_id, provider)) and done is not None and clock() < deadline:
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
            "These batches could not be cancelled, so they may run on and be billed: %s. The next attempt of the task, or clearing it,"
            " cancels them.",
            ", ".join(left),
        )
    return left


def _cancel(client: GatewayClient, batch_id: str, provider: str | None) -> bool | None:
    """Whether the batch is cancelled, or needs no cancel; None: it cannot be cancelled, and repeating does not help."""
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
    """Whether a batch that refused the cancel is cancelling or terminal."""
    try:
        batch = client.get_batch(batch_id, provider=provider)
    except BifrostError:
        return None
    status = BatchStatus.of(batch.status)
    return True if status in TERMINAL or status is BatchStatus.CANCELLING else None


def _state_of(ti: Any) -> str | None:
    """The state of the task as Airflow has it; None: Airflow does not say."""
    found = ti.get_task_states(
        dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
    ).get(ti.run_id, {})
    state = found.get(ti.task_id, found.get(f"{ti.task_id}_{ti.map_index}"))
    return None if state is None else str(state)


def _run_state_of(ti: Any) -> str | None:
    """The state of the task's DAG run."""
    state = ti.get_dagrun_state(ti.dag_id, ti.run_id)
    return str(getattr(state, "value", state))
