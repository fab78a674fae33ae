"""Cancel a batch."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_bifrost.exceptions import BifrostGatewayError
from airflow_bifrost.operators.base import OneBatchOperator
from airflow_bifrost.worker.arguments import (
    provider_of,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_bifrost.gateway.summary import BatchSummary
    from airflow_bifrost.hooks.bifrost import BifrostHook


class BatchCancelOperator(OneBatchOperator):
    """Asks the provider to cancel a batch, and pushes the summary of what it is then, as :class:`BatchRetrieveOperator` does.

    A batch that is cancelling or terminal is left alone, so that cancelling twice is the same as once, and cancelling one that
    has just ended is no error. The task does not wait for the end: a :class:`~airflow_bifrost.sensors.batch.BatchSensor` after it
    does, with ``"cancelled"`` in its ``accept``. The rows that were done by then are billed.

    :param batch_id: id of the batch. (templated)
    :param provider: provider of the batch, as it was created with; None is the connection's. (templated)
    :param bifrost_conn_id: id of the Airflow connection. (templated)
    """

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow_bifrost.hooks.bifrost import BifrostHook

        with BifrostHook(self.bifrost_conn_id) as hook:
            summary = self._retrieve(hook)
            if _needs_no_cancel(summary):
                self.log.info("It is left alone: there is nothing to cancel")
            else:
                summary = self._cancel(hook)
        return summary.to_xcom()

    def _cancel(self, hook: BifrostHook) -> BatchSummary:
        try:
            hook.cancel_batch(self._checked_id(), provider=provider_of(self.provider))
        except BifrostGatewayError as error:
            # The batch may have ended meanwhile, or be cancelling, with only the answer lost. Status codes do not tell: providers
            # differ, and of several keys behind the gateway the last one's refusal comes through. So look at the batch itself.
            with suppress(BifrostGatewayError):
                summary = self._retrieve(hook)
                if _needs_no_cancel(summary):
                    self.log.info("That the cancel met an error does not matter now: %s", error)
                    return summary
            raise
        return self._retrieve(hook)


def _needs_no_cancel(summary: BatchSummary) -> bool:
    """Whether the batch is cancelling or terminal."""
    from airflow_bifrost.providers.statuses import BatchStatus

    return summary.outcome is not None or BatchStatus.of(summary.status) is BatchStatus.CANCELLING
