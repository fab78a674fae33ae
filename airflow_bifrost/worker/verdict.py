"""What the outcome of batches and rows, or a timeout, means for the task: success, failure, or a skip."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from airflow_bifrost._compat import AirflowSensorTimeout, AirflowSkipException, AirflowTaskTimeout
from airflow_bifrost.exceptions import BatchFailed, BifrostError, SubmissionInDoubt
from airflow_bifrost.gateway.redact import quote
from airflow_bifrost.waiting.decision import in_words

ERRORS_SHOWN = 3  # of each batch


def raise_unless_accepted(summaries: Sequence[Mapping[str, Any]], accept: Collection[str]) -> None:
    """Check that the outcome of every batch is accepted.

    :raises BatchFailed: some are not. The message names these batches, with the provider's own errors.
    """
    bad = [dict(summary) for summary in summaries if summary["outcome"] not in accept]
    if not bad:
        return
    which = "The batch" if len(summaries) == 1 else f"{len(bad)} of {len(summaries)} batches"
    raise BatchFailed(
        f"{which} ended with an outcome that is not accepted ({', '.join(accept)}):"
        f" {'; '.join(_describe(summary) for summary in bad)}. Rows that the provider had processed by then are billed. A batch that has"
        " ended never changes: correct the rows and submit them again, or add the outcome to `accept`.",
        summaries=bad,
    )


def outcome_of_rows(rows: Mapping[str, int]) -> str:
    """``succeeded`` if all rows have succeeded, ``partial`` if some have, otherwise the most frequent outcome.

    :param rows: counts by outcome, as in a manifest.
    """
    bad = {outcome: number for outcome, number in rows.items() if outcome not in ("total", "succeeded") and number}
    if not bad:
        return "succeeded"
    if rows["succeeded"]:
        return "partial"
    outcome = max(bad, key=lambda name: bad[name])
    return "failed" if outcome == "missing" else outcome


def raise_unless_rows_accepted(manifest: Mapping[str, Any], accept: Collection[str]) -> None:
    """Check that the outcome of all rows together is accepted, see :func:`outcome_of_rows`.

    :raises BatchFailed: it is not. The message has the counts.
    """
    outcome = outcome_of_rows(manifest["rows"])
    if outcome in accept:
        return
    counts = ", ".join(
        f"{number:,} {name}"
        for name, number in manifest["rows"].items()
        if name == "succeeded" or (number and name != "total")
    )
    raise BatchFailed(
        f"The outcome of the rows is {outcome}, which is not accepted ({', '.join(accept)}): {counts}. {manifest['output_path']} has each"
        " row's error. Rows that the provider processed are billed. Correct the rows and run them again, or add the outcome to `accept`.",
        summaries=manifest["batches"],
    )


def timeout_error(waiting: Sequence[str], timeout: float) -> AirflowSensorTimeout:
    """The error for a task whose batches did not end in time.

    :param waiting: IDs of these batches.
    :param timeout: the task's timeout in seconds.
    """
    what = "The batch continues to run and is" if len(waiting) == 1 else "The batches continue to run and are"
    return AirflowSensorTimeout(
        f"{names_of(waiting)} did not end within {in_words(timeout)}, the `timeout` of the task. {what} billed."
        " To wait again, clear the task; to stop the costs, run BatchCancelOperator or `BifrostHook().cancel_batch(id)`."
    )


@contextmanager
def skipping(*, soft_fail: bool, never_fail: bool) -> Iterator[None]:
    """Turn a failure into a skip if the task asks for it, the same way in every mode. ``SubmissionInDoubt`` always fails: the task may have
    submitted a batch that is billed and that nothing waits for."""
    try:
        yield
    except SubmissionInDoubt:
        raise
    except (BifrostError, AirflowSensorTimeout, AirflowTaskTimeout) as error:
        if not (soft_fail or never_fail):
            raise
        raise AirflowSkipException(f"Skipping ({'soft_fail' if soft_fail else 'never_fail'}): {error}") from error


def names_of(batch_ids: Sequence[str]) -> str:
    """The batches as an error names them, with at most ten IDs."""
    shown = ", ".join(batch_ids[:10]) + (f" and {len(batch_ids) - 10} more" if len(batch_ids) > 10 else "")
    return f"Batch {shown}" if len(batch_ids) == 1 else f"{len(batch_ids)} batches ({shown})"


def _describe(summary: Mapping[str, Any]) -> str:
    text = f"{summary['batch_id']} of {summary['provider']} is {summary['status']}, outcome {summary['outcome']}"
    counts = {name: number for name, number in summary["request_counts"].items() if number is not None}
    if counts:
        text += f" ({', '.join(f'{name} {number}' for name, number in counts.items())})"
    errors = [
        quote(": ".join(str(error[key]) for key in ("code", "message") if error.get(key))) + _at_line(error)
        for error in summary["errors"][:ERRORS_SHOWN]
    ]
    if errors:
        text += f", errors: {' | '.join(errors)}"
    for name in ("output_file_id", "error_file_id"):
        if summary[name]:
            text += f", {name} {summary[name]}"
    return text


def _at_line(error: Mapping[str, Any]) -> str:
    return f" (line {error['line']})" if error.get("line") else ""
