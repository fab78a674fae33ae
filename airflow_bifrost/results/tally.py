"""Counts the rows of an output, and compares the counts with the batch's own. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_bifrost import providers
from airflow_bifrost.providers.base import Provider
from airflow_bifrost.results.reasons import Reason
from airflow_bifrost.results.rows import RowOutcome, Usage

if TYPE_CHECKING:
    from airflow_bifrost.gateway.models import RequestCounts

NO_TOKENS = Usage(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of rows.

    :param total: rows of the input, and usually of the output. The sum of the next five counts.
    :param duplicates: additional results of rows that have more than one.
    :param unknown: results of rows that are not in the input.
    :param unreadable: lines that are not JSON, or hold no row's result.
    :param cut_off: rows whose text was cut off by a token limit (``finish_reason`` is ``length``).
    :param reasons: why rows did not succeed, the most frequent reason first.
    :param usage: tokens of all answers. A row that was sent again has several answers.
    :param usage_by_model: the same by model; ``unknown`` stands for answers that do not name their model.
    """

    total: int = 0
    succeeded: int = 0
    failed: int = 0
    expired: int = 0
    cancelled: int = 0
    missing: int = 0
    duplicates: int = 0
    unknown: int = 0
    unreadable: int = 0
    cut_off: int = 0
    reasons: tuple[Reason, ...] = ()
    usage: Usage = NO_TOKENS
    usage_by_model: Mapping[str, Usage] = field(default_factory=dict)

    @property
    def rows(self) -> dict[str, int]:
        """The counts of rows in a manifest."""
        return {"total": self.total, **{str(outcome): getattr(self, outcome) for outcome in RowOutcome}}

    @property
    def errors(self) -> dict[str, int]:
        """Rows by error code, the most frequent first."""
        return {reason.code: reason.rows for reason in self.reasons}

    def of_rows(self, rows: int) -> Tally:
        """The counts for an input of so many rows. Rows that are not in the output, because their IDs are unknown, are missing."""
        unknown = max(0, rows - self.total)
        return replace(self, total=self.total + unknown, missing=self.missing + unknown)


def differences(received: Mapping[str, int], rows: int, counts: RequestCounts, provider: str) -> list[str]:
    """Differences between the counts of a batch and its results. Empty if they agree, or if the batch has no counts.

    They are logged. Too few results are an error, see :mod:`airflow_bifrost.results.completeness`.

    :param received: number of results of the batch, by outcome.
    :param rows: number of rows of its input.
    :param provider: name of the provider.
    """
    return list(_differences(Counter(received), rows, counts, providers.get(provider)))


def _differences(received: Counter[str], rows: int, counts: RequestCounts, provider: Provider) -> Iterator[str]:
    # A provider without a count for expired or cancelled rows may count them as failed.
    most_failed = received["failed"]
    most_failed += received["expired"] if counts.expired is None else 0
    most_failed += received["cancelled"] if counts.canceled is None else 0
    for name, counted, least, most in (
        ("total", counts.total or None, rows, rows),  # a batch that failed at once has a total of 0
        ("succeeded", provider.succeeded_rows(counts), received["succeeded"], received["succeeded"]),
        ("failed", counts.failed, received["failed"], most_failed),
        ("expired", counts.expired, received["expired"], received["expired"]),
        ("cancelled", counts.canceled, received["cancelled"], received["cancelled"]),
    ):
        if counted is not None and not least <= counted <= most:
            yield f"{name}: the batch counts {counted}, {'and has' if name == 'total' else 'its results'} {least}"
