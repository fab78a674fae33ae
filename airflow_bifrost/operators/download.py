"""BatchDownloadOperator: write the results of a batch to a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Unpack

from airflow_bifrost.operators.base import OneBatchOperator
from airflow_bifrost.worker.arguments import (
    DEFAULT_DOWNLOAD_TIMEOUT,
    DEFAULT_RESULTS_GRACE,
    OperatorArguments,
    provider_of,
    seconds_of,
)

if TYPE_CHECKING:
    from airflow.sdk import Context


class BatchDownloadOperator(OneBatchOperator):
    """Writes the results of a batch that has ended to a file. Returns the manifest, and pushes each key of it as an XCom.

    One JSON object per line, in one shape for every provider (see :class:`airflow_bifrost.results.rows.ResultRow`), in the provider's
    order; a row that is in the output file and in the error file is written once. The file appears under its name when it is complete.

    Results that cannot be read, or are fewer than the batch counts, are read again a few times. Then the task fails and writes nothing: the
    rows are paid for, and a retry reads them again.

    :param batch_id: ID of the batch. (templated)
    :param output_path: the file, at any URI that Airflow's object storage writes or on the worker's disk. It is replaced. (templated)
    :param provider: the provider that the batch was created with; None: the connection's. (templated)
    :param raw: write the provider's own lines as they came: first those of the output file, then those of the error file.
    :param allow_incomplete: write what there is, with a warning, if results stay unreadable or fewer than the batch counts.
    :param results_grace: seconds, or a timedelta, for a batch that has ended to name its files. Some do so only minutes after they are
        ``completed``. Default: 10 minutes.
    :param download_timeout: seconds, or a timedelta, that the gateway may take to send one file. It reads the whole file from the provider
        before it sends any of it. Default: 10 minutes.
    :param storage_conn_id: the Airflow connection for the object store in which Bedrock and Vertex keep results; None: the credentials of
        the worker's environment. (templated)
    :param bifrost_conn_id: ID of the Airflow connection. (templated)
    """

    template_fields: Sequence[str] = (*OneBatchOperator.template_fields, "output_path", "storage_conn_id")

    def __init__(
        self,
        *,
        batch_id: str,
        output_path: str,
        provider: str | None = None,
        raw: bool = False,
        allow_incomplete: bool = False,
        results_grace: float | timedelta = DEFAULT_RESULTS_GRACE,
        download_timeout: float | timedelta = DEFAULT_DOWNLOAD_TIMEOUT,
        storage_conn_id: str | None = None,
        bifrost_conn_id: str = "bifrost_default",
        **kwargs: Unpack[OperatorArguments],
    ) -> None:
        super().__init__(batch_id=batch_id, provider=provider, bifrost_conn_id=bifrost_conn_id, **kwargs)
        self.output_path = output_path
        self.raw = raw
        self.allow_incomplete = allow_incomplete
        self.results_grace = seconds_of("results_grace", results_grace)
        self.download_timeout = seconds_of("download_timeout", download_timeout)
        self.storage_conn_id = storage_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow_bifrost.hooks.bifrost import BifrostHook
        from airflow_bifrost.results.collect import POLICY
        from airflow_bifrost.results.storage import locate_file
        from airflow_bifrost.worker.download import download

        batch_id = self._checked_id()
        locate_file(self.output_path)
        # There is a batch, so the gateway has worked: one answer that is garbage does not end the attempt.
        hook = BifrostHook(self.bifrost_conn_id)
        with hook.open_client(timeout=self.download_timeout, worked_before=True) as client:
            return download(
                client,
                batch_id,
                client.config.provider_for(provider_of(self.provider)),
                self.output_path,
                raw=self.raw,
                storage_conn_id=self.storage_conn_id,
                policy=replace(POLICY, grace=self.results_grace, allow_incomplete=self.allow_incomplete),
            )
