"""BatchCancelOperator: cancel a batch."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_bifrost.exceptions import BifrostGatewayError
from airflow_bifrost.operators.base import OneBatchOperator
from airflow_bifrost.worker.arguments import provider_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_bifrost.gateway.summary import BatchSummary
    from airflow_bifrost.hooks.bifrost import BifrostHook


class BatchCancelOperator(OneBatchOperator):
    """Asks the provider to cancel a batch. Returns the batch's summary, and pushes each key of it as an XCom.

    Cancelling twice is harmless: the operator leaves a batch alone that has ended or is already being cancelled. The task does not wait
    until the batch has ended. To wait, add a :class:`~airflow_bifrost.sensors.batch.BatchSensor` with ``"cancelled"`` in its ``accept``.
    The provider bills the rows that it has processed by then.

    :param batch_id: ID of the batch. (templated)
    :param provider: the provider that the batch was created with. Defaults to the connection's provider. (templated)
    :param bifrost_conn_id: ID of the Airflow connection. (templated)
    """

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow_bifrost.hooks.bifrost import BifrostHook

        with BifrostHook(self.bifrost_conn_id) as hook:
            summary = self._retrieve(hook)
            if _needs_no_cancel(summary):
                self.log.info("There is nothing to cancel: the batch has ended or is already being cancelled")
            else:
                summary = self._cancel(hook)
        return summary.to_xcom()

    def _cancel(self, hook: BifrostHook) -> BatchSummary:
        try:
            hook.cancel_batch(self._checked_id(), provider=provider_of(self.provider))
        except BifrostGatewayError as error:
            # The batch may have ended in the meantime, or the cancel may have worked and only its answer was lost. The status code cannot
            # tell: providers differ, and with several keys the gateway passes on only the last key's refusal. So retrieve the batch.
            with suppress(BifrostGatewayError):
                summary = self._retrieve(hook)
                if _needs_no_cancel(summary):
                    self.log.info("The cancel call failed, but there is nothing left to cancel: %s", error)
                    return summary
            raise
        return self._retrieve(hook)


def _needs_no_cancel(summary: BatchSummary) -> bool:
    """Whether the batch has ended or is being cancelled."""
    from airflow_bifrost.providers.statuses import BatchStatus

    return summary.outcome is not None or BatchStatus.of(summary.status) is BatchStatus.CANCELLING
