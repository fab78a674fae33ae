"""BatchDownloadOperator: write the results of a batch to a file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Unpack

from airflow_bifrost.operators.base import OneBatchOperator
from airflow_bifrost.worker.arguments import DEFAULT_DOWNLOAD_TIMEOUT, OperatorArguments, provider_of, seconds_of

if TYPE_CHECKING:
    from airflow.sdk import Context


class BatchDownloadOperator(OneBatchOperator):
    """Writes the results of a batch that has ended to a file. Returns the manifest, and pushes each key of it as an XCom.

    One JSON object per line, in one shape for every provider (see :class:`airflow_bifrost.results.rows.ResultRow`), in the provider's
    order; a row that is in the output file and in the error file is written once. The file appears under its name when it is complete.

    :param batch_id: ID of the batch. (templated)
    :param output_path: the file, at any URI that Airflow's object storage writes or on the worker's disk. It is replaced. (templated)
    :param provider: the provider that the batch was created with; None: the connection's. (templated)
    :param raw: write the provider's own lines as they came: first those of the output file, then those of the error file.
    :param download_timeout: seconds, or a timedelta, that the gateway may take to send one file. It reads the whole file from the provider
        before it sends any of it. Default: 10 minutes.
    :param storage_conn_id: the Airflow connection for Bedrock's S3 bucket; None: the credentials of the worker's environment. (templated)
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
        download_timeout: float | timedelta = DEFAULT_DOWNLOAD_TIMEOUT,
        storage_conn_id: str | None = None,
        bifrost_conn_id: str = "bifrost_default",
        **kwargs: Unpack[OperatorArguments],
    ) -> None:
        super().__init__(batch_id=batch_id, provider=provider, bifrost_conn_id=bifrost_conn_id, **kwargs)
        self.output_path = output_path
        self.raw = raw
        self.download_timeout = seconds_of("download_timeout", download_timeout)
        self.storage_conn_id = storage_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow_bifrost.gateway.summary import BatchSummary
        from airflow_bifrost.hooks.bifrost import BifrostHook
        from airflow_bifrost.results.storage import locate_file, whole_file
        from airflow_bifrost.results.tally import differences
        from airflow_bifrost.results.writer import ResultsWriter
        from airflow_bifrost.worker.download import manifest, report, results_of

        batch_id = self._checked_id()
        locate_file(self.output_path)
        with BifrostHook(self.bifrost_conn_id).open_client(timeout=self.download_timeout) as client:
            provider = client.config.provider_for(provider_of(self.provider))
            batch, sources = results_of(client, batch_id, provider, self.storage_conn_id)
            summary = BatchSummary.of(batch, batch_id=batch_id, provider=provider).to_xcom()
            if self.raw:
                with whole_file(self.output_path) as file:
                    for source in sources:
                        with TemporaryFile() as local:
                            source.copy_to(local)
                            local.seek(0)
                            copyfileobj(local, file)
                return manifest(self.output_path, [summary], None)
            with ResultsWriter() as results:
                for source in sources:
                    source.add_to(results)
                came = results.came()
                tally = results.write(results.custom_ids(), self.output_path)
        report(tally, self.output_path, differences(came, tally.total, batch.request_counts, provider))
        return manifest(self.output_path, [summary], tally)
