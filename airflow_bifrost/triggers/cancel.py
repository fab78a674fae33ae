"""Cancels the batches of a task that a user has ended, in the short time that Airflow gives a trigger."""

from __future__ import annotations

import asyncio
import logging
import random as random_module
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from airflow_bifrost.exceptions import BatchNotFound, BifrostError, BifrostGatewayError, BifrostProtocolError
from airflow_bifrost.gateway.async_client import AsyncGatewayClient
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.gateway.retry import backoff
from airflow_bifrost.waiting.decision import Line

AT_ONCE = 32  # cancels in flight
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 2.0  # seconds; bounds of the pause before an attempt is repeated


@dataclass
class Cancellation:
    """Cancels batches in parallel, and retries each until it succeeds, is refused, or ``deadline`` has passed.

    :param provider: the provider; None: the connection's.
    :param deadline: on the loop's clock.
    :param attempt_within: seconds for one request: a gateway that hangs must leave time for another attempt.
    :ivar cancelled: the answers, by batch ID.
    :ivar failures: the error of the last attempt, by batch ID; None: no attempt has ended yet.
    """

    batch_ids: list[str]
    provider: str | None
    deadline: float
    attempt_within: float = 5.0
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    random: Callable[[], float] = random_module.random

    def __post_init__(self) -> None:
        self.batch_ids = list(dict.fromkeys(self.batch_ids))
        self.cancelled: dict[str, Batch] = {}
        self.failures: dict[str, BifrostError | TimeoutError | None] = dict.fromkeys(self.batch_ids)

    async def run(self, open_client: Callable[[], Awaitable[AsyncGatewayClient]]) -> None:
        """Cancel what can be cancelled.

        :param open_client: returns a client that does not retry. The caller closes it.
        """
        slots = asyncio.Semaphore(AT_ONCE)

        async def cancel(batch_id: str) -> None:
            attempt = 0
            while True:
                attempt += 1
                async with slots:
                    error = await self._attempt(batch_id, open_client)
                if error is None or not _is_retryable(error):
                    return
                retry_after = getattr(error, "retry_after", None) or 0.0
                pause = backoff(attempt, base=FIRST_PAUSE, cap=LONGEST_PAUSE, random=self.random)
                await self.sleep(retry_after + pause)

        try:
            async with asyncio.timeout_at(self.deadline):
                await asyncio.gather(*(cancel(batch_id) for batch_id in self.batch_ids))
        except TimeoutError:
            pass  # report() names what is left

    async def _attempt(
        self, batch_id: str, open_client: Callable[[], Awaitable[AsyncGatewayClient]]
    ) -> BifrostError | TimeoutError | None:
        try:
            async with asyncio.timeout(self.attempt_within):
                client = await open_client()
                batch = await client.cancel_batch(batch_id, provider=self.provider)
        except (BifrostError, TimeoutError) as error:
            self.failures[batch_id] = error
            return error
        self.cancelled[batch_id] = batch
        del self.failures[batch_id]
        return None

    def report(self) -> Iterator[Line]:
        """Log what was cancelled, and what may keep costing money."""
        if self.cancelled:
            names = ", ".join(f"{batch_id} ({batch.status})" for batch_id, batch in self.cancelled.items())
            yield Line(
                logging.INFO, f"A user ended the task. Cancelled: {names}. Rows that were done by then are billed."
            )
        if self.failures:
            names = ", ".join(f"{batch_id} ({_reason(error)})" for batch_id, error in self.failures.items())
            yield Line(
                logging.ERROR,
                f"A user ended the task, but {len(self.failures)} of {len(self.batch_ids)} batches could not be cancelled: {names}."
                " They may continue to run and are billed. Cancel them with BatchCancelOperator or `BifrostHook().cancel_batch(id)`.",
            )


def _is_retryable(error: BifrostError | TimeoutError) -> bool:
    """A cancel may be repeated: it costs nothing. A 404 may come from a key that does not own the batch, and an unreadable answer from a
    proxy whose gateway is restarting."""
    if isinstance(error, TimeoutError | BatchNotFound | BifrostProtocolError):
        return True
    return isinstance(error, BifrostGatewayError) and error.transient


def _reason(error: BifrostError | TimeoutError | None) -> str:
    if error is None or isinstance(error, TimeoutError):
        return "no answer"
    return error.problem
