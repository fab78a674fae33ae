"""What the outcome of batches and rows, or a timeout, means for the task: success, failure, or a skip."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from airflow_bifrost._compat import AirflowSensorTimeout, AirflowSkipException, AirflowTaskTimeout
from airflow_bifrost.exceptions import BatchFailed, BifrostError, SubmissionInDoubt
from airflow_bifrost.gateway.redact import quote
from airflow_bifrost.results.reasons import in_words as reasons_in_words
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


def raise_unless_rows_accepted(
    manifest: Mapping[str, Any], accept: Collection[str], max_failed_rows: float | None = None
) -> None:
    """Check that the outcome of all rows together is accepted, see :func:`why_not_accepted`.

    :raises BatchFailed: it is not. The message has the counts and the most frequent reasons.
    """
    rows = manifest["rows"]
    if (problem := why_not_accepted(rows, accept, max_failed_rows)) is None:
        return
    counts = ", ".join(
        f"{number:,} {name}" for name, number in rows.items() if name == "succeeded" or (number and name != "total")
    )
    why = f" Most frequent: {reasons_in_words(manifest['reasons'])}." if manifest["reasons"] else ""
    raise BatchFailed(
        f"{problem}: {counts}.{why} {manifest['output_path']} has each row's error. Rows that the provider processed are billed. Correct the"
        " rows and run them again, or accept the outcome (`accept`, `max_failed_rows`).",
        summaries=manifest["batches"],
    )


def why_not_accepted(rows: Mapping[str, int], accept: Collection[str], max_failed_rows: float | None) -> str | None:
    """Why the rows do not let the task succeed; None if they do.

    :param rows: counts by outcome, as in a manifest.
    :param accept: outcomes of all rows together, see :func:`outcome_of_rows`.
    :param max_failed_rows: how many rows may be without an answer: a number (int), or a share of all rows (float); None: any number.
    """
    outcome, without = outcome_of_rows(rows), rows["total"] - rows["succeeded"]
    if outcome not in accept:
        return f"The outcome of the rows is {outcome}, which is not accepted ({', '.join(accept)})"
    limit = max_failed_rows * rows["total"] if isinstance(max_failed_rows, float) else max_failed_rows
    if limit is not None and without > limit:
        return f"{without:,} of {rows['total']:,} rows have no answer, and max_failed_rows is {max_failed_rows}"
    return None


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
