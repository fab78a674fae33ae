"""BatchDownloadOperator: write the results of a batch to a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Unpack

from airflow_bifrost.operators.base import OneBatchOperator
from airflow_bifrost.worker.arguments import (
    CLEANUP,
    DEFAULT_DOWNLOAD_TIMEOUT,
    DEFAULT_RESULTS_GRACE,
    one_of,
    provider_of,
    seconds_of,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_bifrost.worker.airflow_arguments import OperatorArguments


class BatchDownloadOperator(OneBatchOperator):
    """Writes the results of a batch that has ended to a file. Returns the manifest, and pushes each key of it as an XCom.

    The file has one JSON object per line, in the provider's order and in the same form for every provider (see
    :class:`airflow_bifrost.results.rows.ResultRow`). A row that is in both the output file and the error file is written once. The file
    appears at ``output_path`` only when it is complete.

    If results cannot be read, or are fewer than the batch's own counts, the operator reads them again a few times. If that does not help,
    the task fails and writes nothing. The rows are already paid for, and a retry reads their results again.

    :param batch_id: ID of the batch. (templated)
    :param output_path: the file to write: a URI for Airflow's object storage, or a path on the worker's disk. An existing file is replaced.
        (templated)
    :param provider: the provider that the batch was created with. Defaults to the connection's provider. (templated)
    :param raw: write the provider's lines unchanged: first those of the output file, then those of the error file.
    :param allow_incomplete: if some results are missing or cannot be read, write the others and log a warning instead of failing.
    :param results_grace: how long to wait for an ended batch to name its files, in seconds or as a timedelta. Some batches name them only
        minutes after they are ``completed``. Default: 10 minutes.
    :param download_timeout: how long the gateway may take to send one file, in seconds or as a timedelta. The gateway reads the whole file
        from the provider before it sends any of it. Default: 10 minutes.
    :param storage_conn_id: the Airflow connection for the object store in which Bedrock and Vertex keep results. Without it, the
        credentials of the worker's environment apply. If they cannot read Vertex's results, the gateway returns them. (templated)
    :param results_folder: the folder in the object store that the results must be below, e.g. ``gs://bucket/out``. Without it, the task reads
        from any folder in the provider's store that the gateway names. (templated)
    :param cleanup: which files to delete at the provider once the results are written, if this package has uploaded the batch's input:
        ``"input"``, ``"all"`` (also the results), or ``"never"``. Files that a user has uploaded are never deleted.
    :param bifrost_conn_id: ID of the Airflow connection. (templated)
    """

    template_fields: Sequence[str] = (
        *OneBatchOperator.template_fields,
        "output_path",
        "storage_conn_id",
        "results_folder",
    )

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
        results_folder: str | None = None,
        cleanup: str = "input",
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
        self.results_folder = results_folder
        self.cleanup = one_of("cleanup", cleanup, CLEANUP)

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow_bifrost.hooks.bifrost import BifrostHook
        from airflow_bifrost.results.collect import POLICY
        from airflow_bifrost.results.storage import locate_file
        from airflow_bifrost.worker.download import download

        batch_id = self._checked_id()
        locate_file(self.output_path)
        # The batch exists, so the gateway has worked before: a malformed answer is a transient error.
        hook = BifrostHook(self.bifrost_conn_id)
        with hook.open_client(timeout=self.download_timeout, worked_before=True) as client:
            return download(
                client,
                batch_id,
                client.config.provider_for(provider_of(self.provider)),
                self.output_path,
                raw=self.raw,
                storage_conn_id=self.storage_conn_id,
                folder=self.results_folder,
                policy=replace(POLICY, grace=self.results_grace, allow_incomplete=self.allow_incomplete),
                cleanup=self.cleanup,
            )
