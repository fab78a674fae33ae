"""BatchSensor: wait until one batch, or many, have ended."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Unpack

from airflow.sdk import BaseSensorOperator

from airflow_bifrost.worker.arguments import (
    DEFAULT_ACCEPT,
    DEFAULT_NOT_FOUND_GRACE,
    DEFAULT_POLL_INTERVAL,
    DEFAULT_RESULTS_GRACE,
    DEFAULT_TIMEOUT,
    WaitsForBatches,
    batch_ids_of,
    checked_accept,
    provider_of,
    seconds_of,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_bifrost.worker.airflow_arguments import OperatorArguments
    from airflow_bifrost.worker.wait import BatchWait


class BatchSensor(WaitsForBatches, BaseSensorOperator):
    """Waits until a batch has ended, by default in the triggerer, and returns its summary.

    The sensor polls once in the worker, and defers only if the batch has not ended. It tolerates an outage of the gateway until
    ``timeout``, because an outage says nothing about the batch. It fails at once on errors that waiting cannot fix, such as a refused
    token or an unknown provider.

    Returns the batch summary (:class:`airflow_bifrost.gateway.summary.BatchSummary`); for a list of IDs, the list of summaries in the same
    order. While it waits, the XCom ``progress`` says how far the batches are.

    :param batch_id: one ID, or a list of IDs. The sensor waits until all of them have ended, even if one has failed. (templated)
    :param provider: the provider that the batch was created with. Defaults to the connection's provider. (templated)
    :param bifrost_conn_id: ID of the Airflow connection. (templated)
    :param deferrable: wait in the triggerer; if False, in the worker, as ``mode`` says.
    :param mode: with ``deferrable=False``: ``"poke"`` occupies a worker slot between polls, ``"reschedule"`` releases it.
    :param accept: the outcomes with which the task succeeds: some of ``succeeded``, ``partial``, ``failed``, ``expired`` and ``cancelled``.
        Any other outcome raises :class:`~airflow_bifrost.exceptions.BatchFailed`, which Airflow does not retry.
    :param poke_interval: time between two polls of a batch, in seconds or as a timedelta. Defaults to the connection's setting, then to
        ``[bifrost] poll_interval`` (60 s).
    :param poll_backoff: poll less often as a batch ages: every 5 % of its age, but at least every ten minutes.
    :param timeout: time after which the task stops waiting and fails with ``AirflowSensorTimeout``, in seconds or as a timedelta. Default:
        25 h. The time counts from the first attempt: a retry does not extend it (before Airflow 3.3, this needs ``[bifrost] state_path``).
        Clearing the task starts it again.
    :param soft_fail: skip the task instead of failing it.
    :param never_fail: the same as ``soft_fail``; Airflow's sensors have both.
    :param not_found_grace: how long the sensor tolerates a 404, in seconds or as a timedelta. With several keys behind the gateway, a 404
        may come from a key that does not own the batch. Default: 5 minutes.
    :param results_grace: how long to keep polling an ended batch that does not name its results yet, in seconds or as a timedelta. Some
        providers name them only minutes later. Default: 10 minutes.
    :param cancel_on_kill: cancel the batches when a user ends the task while it waits, by marking it failed, succeeded or skipped. Off by
        default, because the sensor did not submit them. For a deferred task, this needs Airflow 3.3.
    """

    template_fields: Sequence[str] = ("batch_id", "provider", "bifrost_conn_id")
    ui_color = "#d9f2e6"

    def __init__(
        self,
        *,
        batch_id: str | Iterable[str],
        provider: str | None = None,
        bifrost_conn_id: str = "bifrost_default",
        deferrable: bool = True,
        mode: str = "poke",
        accept: Collection[str] = DEFAULT_ACCEPT,
        poke_interval: float | timedelta | None = None,
        poll_backoff: bool = False,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        soft_fail: bool = False,
        never_fail: bool = False,
        not_found_grace: float | timedelta = DEFAULT_NOT_FOUND_GRACE,
        results_grace: float | timedelta = DEFAULT_RESULTS_GRACE,
        cancel_on_kill: bool = False,
        **kwargs: Unpack[OperatorArguments],
    ) -> None:
        for name in ("exponential_backoff", "max_wait", "silent_fail"):
            if kwargs.get(name):
                raise ValueError(
                    f"BatchSensor does not take {name}: it already tolerates transient errors. Remove the argument, and use poll_backoff to poll less often"
                )
        super().__init__(
            poke_interval=DEFAULT_POLL_INTERVAL if poke_interval is None else poke_interval,
            timeout=timeout,
            mode=mode,
            soft_fail=soft_fail,
            never_fail=never_fail,
            **kwargs,
        )
        self.poll_interval = None if poke_interval is None else self.poke_interval
        self.poll_backoff = poll_backoff
        self.batch_id = batch_id
        self.provider = provider
        self.bifrost_conn_id = bifrost_conn_id
        self.deferrable = deferrable
        self.accept = checked_accept(accept)
        self.not_found_grace = seconds_of("not_found_grace", not_found_grace)
        self.results_grace = seconds_of("results_grace", results_grace)
        self.cancel_on_kill = cancel_on_kill

    def execute(self, context: Context) -> Any:
        self._context = context
        with self._skipping():
            return self._finish(context, self._current_wait(context).run(context, self))

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        with self._skipping():
            return self._finish(context, self._current_wait(context).resume(context, event))

    def _current_wait(self, context: Context) -> BatchWait:
        return self._wait_for(batch_ids_of(self.batch_id), provider_of(self.provider))

    def _wait_mode(self) -> Literal["deferrable", "poke", "reschedule"]:
        return "reschedule" if self.reschedule and not self.deferrable else super()._wait_mode()

    def _finish(self, context: Context, summaries: list[dict[str, Any]]) -> Any:
        from airflow_bifrost.worker.verdict import raise_unless_accepted

        result = summaries[0] if isinstance(self.batch_id, str) else summaries
        return self._returned(context, result, partial(raise_unless_accepted, summaries, self.accept))
