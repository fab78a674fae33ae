"""The errors with which a task fails whose run was stopped early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_bifrost._compat import AirflowSensorTimeout
from airflow_bifrost.exceptions import BatchFailed
from airflow_bifrost.runs.state import RunState

SHOWN = 10  # batch IDs in a message


def raise_if_stopped(
    state: RunState, manifest: Mapping[str, Any], changed: Sequence[str], uncancelled: Sequence[str]
) -> None:
    """
    :param uncancelled: IDs of the batches that could not be cancelled.
    :param changed: names of the arguments that differ between the DAG file and the run.
    :raises BatchFailed: the run was stopped because the DAG file's request has changed.
    :raises AirflowSensorTimeout: the run was stopped because its time was over.
    """
    rows = manifest["rows"]
    written = f"{rows['succeeded']:,} of {rows['total']:,} rows have an answer, in {state.output_path}."
    if state.stop == "timeout":
        cancelled = [
            part.batch_id
            for part in state.submitted
            if part.cancel_requested and part.outcome == "cancelled" and part.batch_id not in uncancelled
        ]
        unsent = sum(part.rows for part in state.unsent)
        what = [f"cancelled: {_names(cancelled)}"] if cancelled else []
        what += (
            [f"could not be cancelled, and may keep running and be billed: {_names(uncancelled)}"]
            if uncancelled
            else []
        )
        what += [f"not sent: {unsent:,} rows"] if unsent else []
        which = "run_timeout" if state.run_deadline <= state.round_started_at + state.policy.timeout else "timeout"
        raise AirflowSensorTimeout(
            f"The run did not end within its `{which}` ({'; '.join(what) or 'all batches had ended'}). {written} Rows processed by then are billed."
            f" Clear the task to {'cancel what was not cancelled and ' if uncancelled else ''}send the other rows again."
        )
    if state.stop == "request_changed":
        raise BatchFailed(
            f"The DAG file has changed since this run was started ({', '.join(changed) or 'the request'}), so the task sent nothing more."
            f" {written} They answer the old request, and are billed. Clear the task to send all rows with the new request, or set"
            " on_changed_request='continue' to finish such runs with the request that they were started with.",
            summaries=manifest["batches"],
        )


def _names(batch_ids: Sequence[str | None]) -> str:
    more = f" and {len(batch_ids) - SHOWN} more" if len(batch_ids) > SHOWN else ""
    return f"{', '.join(map(str, batch_ids[:SHOWN]))}{more}"
