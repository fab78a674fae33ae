"""Write the results of a batch to a file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from airflow_bifrost.operators.base import OneBatchOperator
from airflow_bifrost.worker.arguments import (
    provider_of,
    seconds_of,
)
from airflow_bifrost.worker.download import DOWNLOAD_TIMEOUT, manifest, report, results_of

if TYPE_CHECKING:
    from airflow.sdk import Context


class BatchDownloadOperator(OneBatchOperator):
    """Writes the results of a terminal batch to a file, and returns what they amount to.

    One JSON object a line, the same for every provider (see :class:`airflow_bifrost.results.rows.ResultRow`), in the order in which the
    provider gives them; of output and error file each row once. The file gets its name when it is whole.

    :param batch_id: id of the batch. (templated)
    :param output_path: a file at any URI that Airflow's object storage writes, or on the worker's disk. It is replaced. (templated)
    :param provider: provider of the batch, as it was created with; None is the connection's. (templated)
    :param raw: the provider's own lines, as they came: first those of the output, then those of the errors.
    :param download_timeout: seconds that the provider may take for a whole file: the gateway reads all of it before it sends any.
    :param storage_conn_id: Airflow connection for Bedrock's S3 bucket; None: the credentials of the worker's environment. (templated)
    :param bifrost_conn_id: id of the Airflow connection. (templated)
    """

    template_fields: Sequence[str] = (*OneBatchOperator.template_fields, "output_path", "storage_conn_id")

    def __init__(
        self,
        *,
        batch_id: str,
        output_path: str,
        provider: str | None = None,
        raw: bool = False,
        download_timeout: float | timedelta = DOWNLOAD_TIMEOUT,
        storage_conn_id: str | None = None,
        bifrost_conn_id: str = "bifrost_default",
        **kwargs: Any,
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
