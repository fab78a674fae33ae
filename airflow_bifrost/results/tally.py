"""What a file of result rows amounts to, and where the provider's own counts say otherwise. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_bifrost.results.rows import RowOutcome, Usage

if TYPE_CHECKING:
    from airflow_bifrost.gateway.models import RequestCounts

NO_TOKENS = Usage(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of rows.

    :param total: rows of the input, and so of the output: the sum of the five after it.
    :param duplicates: results beside the one that counts, of rows that have several.
    :param unknown: rows with a result that the input does not have.
    :param unreadable: lines that are no JSON, or about no row.
    :param cut_off: rows whose text ends because a limit of tokens was reached (``finish_reason`` is ``length``).
    :param usage: tokens of all rows; of a row that was sent again, those of each answer.
    :param usage_by_model: the same by model; ``unknown`` stands for answers that name none.
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
    usage: Usage = NO_TOKENS
    usage_by_model: Mapping[str, Usage] = field(default_factory=dict)

    @property
    def rows(self) -> dict[str, int]:
        """The part of a manifest that counts rows."""
        return {"total": self.total, **{str(outcome): getattr(self, outcome) for outcome in RowOutcome}}


def differences(came: Mapping[str, int], rows: int, counts: RequestCounts, provider: str) -> list[str]:
    """Where the counts of a batch are not those of its results; empty where they agree, or say nothing.

    :param came: results of the batch by outcome.
    :param rows: of its input.
    :param provider: the provider's name: what ``completed`` means differs, see :meth:`airflow_bifrost.providers.base.Provider.outcome`.
    """
    return list(_differences(Counter(came), rows, counts, provider))


def _differences(came: Counter[str], rows: int, counts: RequestCounts, provider: str) -> Iterator[str]:
    succeeded = counts.succeeded if counts.succeeded is not None else counts.completed
    if (
        provider == "gemini" and counts.succeeded is None
    ):  # completed includes failures; succeeded is absent when it is 0
        known = counts.completed is not None and counts.failed is not None
        succeeded = counts.completed - counts.failed if known else None  # type: ignore[operator]
    # who has no count for the rows that expired or were cancelled may count them as failed
    most_failed = came["failed"]
    most_failed += came["expired"] if counts.expired is None else 0
    most_failed += came["cancelled"] if counts.canceled is None else 0
    for name, counted, least, most in (
        ("total", counts.total or None, rows, rows),  # what failed at once has counted nothing
        ("succeeded", succeeded, came["succeeded"], came["succeeded"]),
        ("failed", counts.failed, came["failed"], most_failed),
        ("expired", counts.expired, came["expired"], came["expired"]),
        ("cancelled", counts.canceled, came["cancelled"], came["cancelled"]),
    ):
        if counted is not None and not least <= counted <= most:
            yield f"{name}: the batch counts {counted}, {'and has' if name == 'total' else 'its results'} {least}"
