"""BatchRetrieveOperator: retrieve a batch's summary, at once or when the batch has ended."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from airflow_bifrost.operators.base import OneBatchOperator
from airflow_bifrost.worker.arguments import (
    DEFAULT_ACCEPT,
    DEFAULT_NOT_FOUND_GRACE,
    DEFAULT_RESULTS_GRACE,
    DEFAULT_TIMEOUT,
    WaitsForBatches,
    checked_accept,
    provider_of,
    seconds_of,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_bifrost.worker.airflow_arguments import OperatorArguments
    from airflow_bifrost.worker.wait import BatchWait


class BatchRetrieveOperator(WaitsForBatches, OneBatchOperator):
    """Retrieves a batch. Returns its summary, and pushes each key of it as an XCom, so that ``retrieve.output["output_file_id"]`` works.

    :param batch_id: ID of the batch. (templated)
    :param provider: the provider that the batch was created with. Defaults to the connection's provider. (templated)
    :param bifrost_conn_id: ID of the Airflow connection. (templated)
    :param wait_for_completion: wait until the batch has ended, as :class:`~airflow_bifrost.sensors.batch.BatchSensor` does.
    :param accept: the outcomes with which the task succeeds if it waits. With any other outcome it pushes the same XComs and fails.
        Ignored without ``wait_for_completion``.
    :param deferrable: wait in the triggerer; if False, in the worker.
    :param poll_interval: time between two polls, in seconds or as a timedelta. Defaults to the connection's setting, then to
        ``[bifrost] poll_interval`` (60 s).
    :param poll_backoff: poll less often as the batch ages: every 5 % of its age, but at least every ten minutes.
    :param timeout: time after which the task stops waiting and fails with ``AirflowSensorTimeout``, in seconds or as a timedelta.
        Default: 25 h.
    :param not_found_grace: how long a waiting task tolerates a 404, in seconds or as a timedelta. Default: 5 minutes.
    :param results_grace: how long to keep polling an ended batch that does not name its results yet, in seconds or as a timedelta. Some
        providers name them only minutes later. Default: 10 minutes.
    :param cancel_on_kill: cancel the batch when a user ends the task while it waits.
    """

    def __init__(
        self,
        *,
        batch_id: str,
        provider: str | None = None,
        bifrost_conn_id: str = "bifrost_default",
        wait_for_completion: bool = False,
        accept: Collection[str] = DEFAULT_ACCEPT,
        deferrable: bool = True,
        poll_interval: float | timedelta | None = None,
        poll_backoff: bool = False,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        not_found_grace: float | timedelta = DEFAULT_NOT_FOUND_GRACE,
        results_grace: float | timedelta = DEFAULT_RESULTS_GRACE,
        cancel_on_kill: bool = False,
        **kwargs: Unpack[OperatorArguments],
    ) -> None:
        super().__init__(batch_id=batch_id, provider=provider, bifrost_conn_id=bifrost_conn_id, **kwargs)
        self.wait_for_completion = wait_for_completion
        self.accept = checked_accept(accept)
        self.deferrable = deferrable
        self.poll_interval = None if poll_interval is None else seconds_of("poll_interval", poll_interval)
        self.poll_backoff = poll_backoff
        self.timeout = seconds_of("timeout", timeout)
        self.not_found_grace = seconds_of("not_found_grace", not_found_grace)
        self.results_grace = seconds_of("results_grace", results_grace)
        self.cancel_on_kill = cancel_on_kill

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow_bifrost.hooks.bifrost import BifrostHook

        if not self.wait_for_completion:
            with BifrostHook(self.bifrost_conn_id) as hook:
                return self._retrieve(hook).to_xcom()
        self._context = context
        return self._finish(context, self._current_wait(context).run(context, self))

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        return self._finish(context, self._current_wait(context).resume(context, event))

    def _current_wait(self, context: Context) -> BatchWait:
        return self._wait_for([self._checked_id()], provider_of(self.provider))

    def _finish(self, context: Context, summaries: list[dict[str, Any]]) -> dict[str, Any]:
        from airflow_bifrost.worker.verdict import raise_unless_accepted

        [summary] = summaries
        return self._returned(context, summary, partial(raise_unless_accepted, summaries, self.accept))
