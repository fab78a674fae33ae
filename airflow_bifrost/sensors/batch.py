"""BatchSensor: waits for a terminal status of one batch, or of many."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator

from airflow_bifrost.exceptions import BatchFailed
from airflow_bifrost.worker.arguments import DEFAULT_ACCEPT, batch_ids_of, checked_accept, provider_of, seconds_of
from airflow_bifrost.worker.kill import cancel_if_a_user_ended_it
from airflow_bifrost.worker.verdict import raise_unless_accepted, skipping
from airflow_bifrost.worker.wait import DEFAULT_NOT_FOUND_GRACE, DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT, BatchWait

if TYPE_CHECKING:
    from airflow.sdk import Context


class BatchSensor(BaseSensorOperator):
    """Waits until a batch is terminal, by default in the triggerer, and returns its summary.

    It asks once in the worker and defers only if the batch is not terminal. An outage of the gateway says nothing about the
    batch and is borne until ``timeout``; what cannot pass (a refused token, a provider that does not exist) fails at once.

    The return value is the batch summary (:class:`airflow_bifrost.gateway.summary.BatchSummary`); for a list of ids the list of
    summaries in the same order. While it waits, the XCom ``progress`` tells how far the batch is.

    :param batch_id: one id, or a list of ids. Of a list all are waited for, also when one has ended badly. (templated)
    :param provider: provider of the batch, as it was created with; None is the connection's. (templated)
    :param bifrost_conn_id: id of the Airflow connection. (templated)
    :param deferrable: wait in the triggerer; False: in the worker, as ``mode`` says.
    :param accept: outcomes that let the task succeed, of ``succeeded``, ``partial``, ``failed``, ``expired``, ``cancelled``. Any
        other raises :class:`~airflow_bifrost.exceptions.BatchFailed`, which Airflow does not retry.
    :param poke_interval: seconds, or a timedelta, between two looks at a batch; None: as the connection says, else
        ``[bifrost] poll_interval`` (60).
    :param poll_backoff: look the less often the older a batch is: after a twentieth of its age, at most every ten minutes.
    :param timeout: seconds, or a timedelta, after which the wait gives up with ``AirflowSensorTimeout``. Retries do not begin it
        anew (before Airflow 3.3 that needs ``[bifrost] state_path``), clearing the task does.
    :param not_found_grace: seconds, or a timedelta, for which a 404 is borne: with several keys behind the gateway it may be
        another key's.
    :param cancel_on_kill: cancel the batches when a user ends the task while it waits: marks it failed, succeeded or skipped.
        Off, because the sensor has not submitted them. While deferred, it takes Airflow 3.3 or later.
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
        accept: Collection[str] = DEFAULT_ACCEPT,
        poke_interval: float | timedelta | None = None,
        poll_backoff: bool = False,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        not_found_grace: float | timedelta = DEFAULT_NOT_FOUND_GRACE,
        cancel_on_kill: bool = False,
        **kwargs: Any,
    ) -> None:
        for name in ("exponential_backoff", "max_wait", "silent_fail"):
            if kwargs.get(name):
                raise ValueError(f"{name}: BatchSensor backs off and bears faults by itself; leave it out")
        super().__init__(
            poke_interval=DEFAULT_POLL_INTERVAL if poke_interval is None else poke_interval, timeout=timeout, **kwargs
        )
        self.own_poke_interval = poke_interval is not None
        self.poll_backoff = poll_backoff
        self.batch_id = batch_id
        self.provider = provider
        self.bifrost_conn_id = bifrost_conn_id
        self.deferrable = deferrable
        self.accept = checked_accept(accept)
        self.not_found_grace = seconds_of("not_found_grace", not_found_grace)
        self.cancel_on_kill = cancel_on_kill
        self._ti: Any = None

    def execute(self, context: Context) -> Any:
        self._ti = context["ti"]
        with skipping(soft_fail=self.soft_fail, never_fail=self.never_fail):
            return self._finish(context, self._wait().run(context, self))

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """Go on after the deferral."""
        with skipping(soft_fail=self.soft_fail, never_fail=self.never_fail):
            return self._finish(context, self._wait().resume(context, event))

    def on_kill(self) -> None:
        if self.cancel_on_kill and self._ti is not None:
            cancel_if_a_user_ended_it(
                self._ti, batch_ids_of(self.batch_id), provider=self.provider, conn_id=self.bifrost_conn_id
            )

    def _wait(self) -> BatchWait:
        return BatchWait(
            batch_ids=batch_ids_of(self.batch_id),
            provider=provider_of(self.provider),
            conn_id=self.bifrost_conn_id,
            mode="deferrable" if self.deferrable else "reschedule" if self.reschedule else "poke",
            poll_interval=self.poke_interval if self.own_poke_interval else None,
            timeout=float(self.timeout),
            execution_timeout=self.execution_timeout,
            not_found_grace=self.not_found_grace,
            cancel_on_kill=self.cancel_on_kill,
            poll_backoff=self.poll_backoff,
        )

    def _finish(self, context: Context, summaries: list[dict[str, Any]]) -> Any:
        result = summaries[0] if isinstance(self.batch_id, str) else summaries
        try:
            raise_unless_accepted(summaries, self.accept)
        except BatchFailed:
            if self.do_xcom_push:  # the ids of what there is, for whoever looks into the failure
                context["ti"].xcom_push("return_value", result)
            raise
        return result
