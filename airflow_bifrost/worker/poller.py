"""Polls batches from the worker. It sends the requests; :mod:`airflow_bifrost.waiting.decision` decides what the answers mean."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

from airflow_bifrost.exceptions import BatchNotFound, BifrostError, BifrostUnavailable
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.waiting.decision import (
    Decision,
    Finished,
    GiveUp,
    LookUpConnection,
    TimedOut,
    WaitState,
    on_batch,
    on_fault,
)
from airflow_bifrost.waiting.policy import WaitPolicy
from airflow_bifrost.waiting.progress import Seen, progress_of

log = logging.getLogger("airflow.task")


class Poller:
    """Polls batches through one client, and keeps what it learns about them.

    :param open_client: looks up the connection and opens a client. The client need not retry, because the next poll does.
    :param provider: the provider; None: the connection's provider.
    :param states: the batches to poll, by ID, with what is known about each.
    :param clock: returns Unix seconds.
    """

    def __init__(
        self,
        open_client: Callable[[], GatewayClient],
        provider: str | None,
        policy: WaitPolicy,
        states: Mapping[str, WaitState],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.states = dict(states)
        self.summaries: dict[str, dict[str, Any]] = {}
        self.timed_out = False
        self._open_client = open_client
        self._provider = provider
        self._policy = policy
        self._clock = clock
        self._latest: dict[str, Seen] = {}
        self._outage: BifrostUnavailable | None = None
        self._client: GatewayClient | None = None
        self._connected_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._disconnect()

    @property
    def waiting(self) -> list[str]:
        """IDs of the batches that are not known to have ended."""
        return [batch_id for batch_id in self.states if batch_id not in self.summaries]

    @property
    def first_due_at(self) -> float:
        """When the first of the next polls is due, in Unix seconds."""
        return min(self.states[batch_id].next_poll_at for batch_id in self.waiting)

    @property
    def last_due_at(self) -> float:
        """When the last of the next polls is due, in Unix seconds. A rescheduled task runs then, and polls all of the batches."""
        return max(self.states[batch_id].next_poll_at for batch_id in self.waiting)

    def poll(self, *, within: float | None = None) -> None:
        """Poll each batch that has not ended and is due.

        :param within: seconds after which no further poll begins; None: no limit.
        :raises BifrostError: waiting longer cannot help.
        """
        began = self._clock()
        self._outage = None
        if self._client is not None and began > self._connected_at + self._client.config.connection_ttl:
            self._disconnect()
        for batch_id in self.waiting:
            self.states[batch_id] = self.states[batch_id].bounded(began)
            if self.states[batch_id].next_poll_at > began:
                continue
            if within is not None and self._clock() > began + within:
                break
            decision = self._poll_one(self.states[batch_id])
            if isinstance(decision, LookUpConnection):
                self._disconnect()
                decision = self._poll_one(decision.state)
            self._follow(batch_id, decision)

    def _follow(self, batch_id: str, decision: Decision) -> None:
        self.states[batch_id] = decision.state
        if decision.line:
            log.log(decision.line.level, decision.line.text)
        if isinstance(decision, GiveUp):
            if isinstance(decision.error, BatchNotFound):
                decision.error.batch_id = batch_id
            raise decision.error
        if isinstance(decision, Finished):
            self.summaries[batch_id] = decision.summary.to_xcom()
        elif isinstance(decision, TimedOut):
            self.timed_out = True

    def progress(self) -> dict[str, Any] | None:
        """The progress of all batches; None until each of them has been polled successfully."""
        if len(self._latest) < len(self.states):
            return None
        return progress_of(self._latest.values(), now=self._clock())

    def _poll_one(self, state: WaitState) -> Decision:
        try:
            if self._outage is not None:
                raise self._outage
            client = self._connected()
            batch = client.get_batch(state.batch_id, provider=self._provider)
        except BifrostError as error:
            if isinstance(error, BifrostUnavailable) and error.status_code is None:
                self._outage = error  # the gateway does not answer: skip the other batches this time
            return on_fault(state, error, self._policy, now=self._clock(), random=random.random)
        provider = client.config.provider_for(self._provider)
        self._latest[state.batch_id] = Seen.of(batch, provider)
        return on_batch(state, batch, provider, self._policy, now=self._clock(), random=random.random)

    def _connected(self) -> GatewayClient:
        if self._client is None:
            self._client = self._open_client()
            self._connected_at = self._clock()
        return self._client

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
