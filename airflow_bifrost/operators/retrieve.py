"""Retrieve a batch, or wait for it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_bifrost._compat import AirflowSensorTimeout, TaskDeferralTimeout
from airflow_bifrost.exceptions import BatchFailed
from airflow_bifrost.operators.base import OneBatchOperator, push_all
from airflow_bifrost.worker.arguments import (
    DEFAULT_ACCEPT,
    checked_accept,
    provider_of,
    seconds_of,
)
from airflow_bifrost.worker.kill import cancel_if_a_user_ended_it
from airflow_bifrost.worker.verdict import raise_unless_accepted
from airflow_bifrost.worker.wait import DEFAULT_NOT_FOUND_GRACE, DEFAULT_TIMEOUT, BatchWait

if TYPE_CHECKING:
    from airflow.sdk import Context


class BatchRetrieveOperator(OneBatchOperator):
    """Retrieves a batch, and pushes each key of its summary as an XCom of its own, so that
    ``retrieve.output["output_file_id"]`` works; the whole summary is the return value.

    :param batch_id: id of the batch. (templated)
    :param provider: provider of the batch, as it was created with; None is the connection's. (templated)
    :param bifrost_conn_id: id of the Airflow connection. (templated)
    :param wait_for_completion: wait until the batch is terminal, as :class:`~airflow_bifrost.sensors.batch.BatchSensor` does.
    :param accept: outcomes that let the task succeed when it waits; the XComs are there in any case. Without waiting, nothing is judged.
    :param deferrable: wait in the triggerer; False: in the worker.
    :param poll_interval: seconds, or a timedelta, between two looks; None: as the connection says, else ``[bifrost] poll_interval`` (60).
    :param poll_backoff: look the less often the older a batch is: after a twentieth of its age, at most every ten minutes.
    :param timeout: seconds, or a timedelta, after which the wait gives up with ``AirflowSensorTimeout``.
    :param not_found_grace: seconds, or a timedelta, for which a 404 is borne while waiting.
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
        cancel_on_kill: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_id=batch_id, provider=provider, bifrost_conn_id=bifrost_conn_id, **kwargs)
        self.wait_for_completion = wait_for_completion
        self.accept = checked_accept(accept)
        self.deferrable = deferrable
        self.poll_interval = None if poll_interval is None else seconds_of("poll_interval", poll_interval)
        self.poll_backoff = poll_backoff
        self.timeout = seconds_of("timeout", timeout)
        self.not_found_grace = seconds_of("not_found_grace", not_found_grace)
        self.cancel_on_kill = cancel_on_kill
        self._ti: Any = None

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow_bifrost.hooks.bifrost import BifrostHook

        if not self.wait_for_completion:
            with BifrostHook(self.bifrost_conn_id) as hook:
                return self._retrieve(hook).to_xcom()
        self._ti = context["ti"]
        return self._finish(context, self._wait().run(context, self))

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Go on after the deferral."""
        return self._finish(context, self._wait().resume(context, event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """As a sensor does: the deferral that Airflow itself ended, because the trigger did not, is a timeout like any other."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout as error:
            raise AirflowSensorTimeout(*error.args) from error

    def on_kill(self) -> None:
        if self.cancel_on_kill and self._ti is not None:
            cancel_if_a_user_ended_it(
                self._ti, [self._checked_id()], provider=self.provider, conn_id=self.bifrost_conn_id
            )

    def _wait(self) -> BatchWait:
        return BatchWait(
            batch_ids=[self._checked_id()],
            provider=provider_of(self.provider),
            conn_id=self.bifrost_conn_id,
            mode="deferrable" if self.deferrable else "poke",
            poll_interval=self.poll_interval,
            timeout=self.timeout,
            execution_timeout=self.execution_timeout,
            not_found_grace=self.not_found_grace,
            cancel_on_kill=self.cancel_on_kill,
            poll_backoff=self.poll_backoff,
        )

    def _finish(self, context: Context, summaries: list[dict[str, Any]]) -> dict[str, Any]:
        [summary] = summaries
        try:
            raise_unless_accepted(summaries, self.accept)
        except BatchFailed:
            push_all(context, self, summary)
            raise
        return summary
