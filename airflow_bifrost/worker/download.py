"""How a task brings results home, and what it says of them. Shared by the operators that write rows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_bifrost.gateway.client import GatewayClient
    from airflow_bifrost.gateway.models import Batch
    from airflow_bifrost.results.source import Source
    from airflow_bifrost.results.tally import Tally

log = logging.getLogger("airflow.task")


def results_of(
    client: GatewayClient, batch_id: str, provider: str, storage_conn_id: str | None
) -> tuple[Batch, list[Source]]:
    """A batch, and where its results are. See :func:`airflow_bifrost.results.source.sources_of`."""
    from airflow_bifrost.results.source import sources_of

    batch = client.get_batch(batch_id, provider=provider)
    return batch, sources_of(client, batch, batch_id, provider, storage_conn_id=storage_conn_id)


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


def report(tally: Tally, output_path: str, differences: Iterable[str] = ()) -> None:
    """Say in the log what was written, and what was odd about it.

    :param differences: between the results and the provider's own counts, see :func:`airflow_bifrost.results.tally.differences`.
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
