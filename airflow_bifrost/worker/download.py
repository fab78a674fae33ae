"""Reads results in a worker, and logs a summary of them. Shared by the operators that write rows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from airflow_bifrost import providers
from airflow_bifrost.exceptions import BifrostGatewayError
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.gateway.summary import BatchSummary
from airflow_bifrost.results.collect import ReadPolicy, collect
from airflow_bifrost.results.raw import RawLines
from airflow_bifrost.results.reasons import REASONS_SHOWN, as_table
from airflow_bifrost.results.storage import whole_file
from airflow_bifrost.results.tally import Tally, differences
from airflow_bifrost.results.writer import ResultsWriter
from airflow_bifrost.submission.ledger import delete_input, is_own

log = logging.getLogger("airflow.task")


def download(
    client: GatewayClient,
    batch_id: str,
    provider: str,
    output_path: str,
    *,
    raw: bool = False,
    storage_conn_id: str | None = None,
    folder: str | None = None,
    policy: ReadPolicy | None = None,
    cleanup: str = "never",
) -> dict[str, Any]:
    """Write the results of a terminal batch to a file.

    :param raw: write the provider's own lines instead of result rows.
    :param folder: the folder in the object store that the results must be below; None: anywhere in the provider's store.
    :param cleanup: which files of the batch to delete at the provider afterwards, if this package submitted it: ``"input"``, ``"all"`` or
        ``"never"``.
    :return: the manifest.
    :raises BifrostError: see :func:`airflow_bifrost.results.collect.collect`. The file is unchanged in this case.
    """
    where: dict[str, Any] = {"storage_conn_id": storage_conn_id, "folder": folder, "policy": policy}
    if raw:
        with RawLines() as lines:
            batch, complete = collect(client, batch_id, provider, lines, **where)
            with whole_file(output_path) as file:
                lines.copy_to(file)
        _clean(client, batch, provider, cleanup, complete=complete)
        return manifest(output_path, [_summary(batch, batch_id, provider)], None)
    with ResultsWriter(token=client.config.token) as results:
        batch, complete = collect(client, batch_id, provider, results, **where)
        tally = results.write(results.custom_ids(), output_path)
        report(tally, output_path, differences(results.received(), tally.total, batch.request_counts, provider))
    _clean(client, batch, provider, cleanup, complete=complete)
    return manifest(output_path, [_summary(batch, batch_id, provider)], tally)


def _clean(client: GatewayClient, batch: Batch, provider: str, cleanup: str, *, complete: bool) -> None:
    """Delete files of a batch whose results are written. Files cost no tokens, so a failure is only logged.

    :param complete: whether all results were read. If not, the provider may have the others, so its results are kept.
    """
    if cleanup == "never" or batch.input_file_id is None:
        return
    try:
        if not is_own(client.get_file(batch.input_file_id, provider=provider)):
            return  # a user uploaded it, or another program
    except BifrostGatewayError as error:
        log.info("The input file %s is kept: %s", batch.input_file_id, error.problem)
        return
    delete_input(client, provider, batch.input_file_id, "the results of its batch are written")
    if cleanup == "all" and complete and providers.get(provider).stored is None:  # the gateway does not delete folders
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            delete_input(client, provider, file_id, "it is written")


def _summary(batch: Batch, batch_id: str, provider: str) -> dict[str, Any]:
    return BatchSummary.of(batch, batch_id=batch_id, provider=provider).to_xcom()


def manifest(output_path: str, summaries: Sequence[Mapping[str, Any]], tally: Tally | None) -> dict[str, Any]:
    """The return value of an operator that wrote rows. It consists of JSON types and does not include the rows.

    :param tally: None if the provider's lines were written unchanged.
    """
    return {
        "output_path": output_path,
        "rows": tally and tally.rows,
        "errors": tally and tally.errors,
        "reasons": tally
        and [{**asdict(reason), "custom_ids": [*reason.custom_ids]} for reason in tally.reasons[:REASONS_SHOWN]],
        "batches": [dict(summary) for summary in summaries],
        "usage": tally and asdict(tally.usage),
        "usage_by_model": tally and {model: asdict(usage) for model, usage in tally.usage_by_model.items()},
    }


def report(tally: Tally, output_path: str, odd: Iterable[str] = ()) -> None:
    """Log what was written, and warn about irregularities.

    :param odd: differences between the results and the provider's own counts, see :func:`airflow_bifrost.results.tally.differences`.
    """
    counts = ", ".join(
        f"{number:,} {outcome}" for outcome, number in tally.rows.items() if number and outcome != "total"
    )
    log.info("%s has %s rows: %s", output_path, f"{tally.total:,}", counts or "none")
    if tally.reasons:
        log.warning("Why rows did not succeed:\n%s", as_table(tally.reasons))
    for number, what in (
        (tally.missing, "rows without a result (outcome `missing`)"),
        (tally.cut_off, "rows whose answer a token limit cut off (finish_reason `length`)"),
        (tally.duplicates, "duplicate results; each row keeps one, the first that succeeded"),
        (tally.unknown, "results of rows that are not in the input; they were left out"),
        (tally.unreadable, "lines in the results that cannot be read; they were left out"),
    ):
        if number:
            log.warning("%s %s", f"{number:,}", what)
    for difference in odd:
        log.warning("The batch's counts differ from its results. %s", difference)
