"""How a task brings results home, and what it says of them. Shared by the operators that write rows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_bifrost.gateway.client import GatewayClient
    from airflow_bifrost.gateway.models import Batch, RequestCounts
    from airflow_bifrost.results.source import Raw
    from airflow_bifrost.results.tally import Tally

DOWNLOAD_TIMEOUT = 600.0  # seconds

log = logging.getLogger("airflow.task")


def fetch_results(
    client: GatewayClient, batch_id: str, provider: str, folder: Path, storage_conn_id: str | None
) -> tuple[Batch, list[Raw]]:
    """A batch, and its results in ``folder``. See :func:`airflow_bifrost.results.source.fetch`."""
    from airflow_bifrost.results.source import fetch

    batch = client.get_batch(batch_id, provider=provider)
    return batch, fetch(client, batch, batch_id, provider, folder, storage_conn_id=storage_conn_id)


def manifest(output_path: str, summaries: Sequence[Mapping[str, Any]], tally: Tally | None) -> dict[str, Any]:
    """What an operator that has written rows returns: JSON types only, and none of the rows.

    :param tally: None: the rows were not looked at.
    """
    return {
        "output_path": output_path,
        "rows": tally and tally.rows,
        "batches": [dict(summary) for summary in summaries],
        "usage": tally and asdict(tally.usage),
        "usage_by_model": tally and {model: asdict(usage) for model, usage in tally.usage_by_model.items()},
    }


def sum_of_counts(summaries: Sequence[Mapping[str, Any]]) -> RequestCounts:
    """The counts of several batches together; one that a batch did not give is not given."""
    from airflow_bifrost.gateway.models import RequestCounts

    sums = {}
    for name in RequestCounts.model_fields:
        given = [summary["request_counts"][name] for summary in summaries]
        sums[name] = None if None in given else sum(given)
    return RequestCounts.model_validate(sums)


def report(tally: Tally, output_path: str, differences: Iterable[str] = ()) -> None:
    """Say in the log what was written, and what was odd about it.

    :param differences: between the rows and the upstream's own counts, see :meth:`Tally.differences`.
    """
    counts = ", ".join(
        f"{number:,} {outcome}" for outcome, number in tally.rows.items() if number and outcome != "total"
    )
    log.info("%s has %s rows: %s", output_path, f"{tally.total:,}", counts or "none")
    for number, what in (
        (tally.missing, "rows that never came back (outcome `missing`)"),
        (tally.cut_off, "rows that were cut off by the limit of tokens (finish_reason `length`)"),
        (tally.duplicates, "results beside the one that counts, of rows that have several"),
        (tally.unknown, "results of rows that are not in the input, which were left out"),
        (tally.unreadable, "lines of the results that could not be read, and were left out"),
    ):
        if number:
            log.warning("There are %s %s", f"{number:,}", what)
    for difference in differences:
        log.warning("The counts differ. %s", difference)
