"""Why rows did not succeed: error codes with their counts, and an example of each. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_bifrost.gateway.redact import quote

REASONS_SHOWN = 3  # in messages and in the manifest
IDS_SHOWN = 3  # of the rows with the same code
ID_SHOWN = 80  # characters
MESSAGE_SHOWN = 200  # characters of a row's error message
MAX_NAMES = 50  # models or error codes that are counted separately; no honest gateway sends more
OTHER = "other"  # the name under which the rest is counted


def counted_as(name: str, names: Container[str], number: int) -> str:
    """The name under which to count a model or an error code. It limits how many names a server can add.

    :param names: those that are counted already.
    :param number: how many these are.
    """
    return name if name in names or number < MAX_NAMES else OTHER


@dataclass(frozen=True, slots=True)
class Reason:
    """An error code that rows have.

    :param rows: number of rows with this code.
    :param message: the message of the first of them, on one line, shortened.
    :param custom_ids: IDs of the first of them.
    """

    code: str
    rows: int
    message: str | None
    custom_ids: tuple[str, ...]


@dataclass(slots=True)
class Reasons:
    """Collects the errors of rows."""

    _rows: Counter[str] = field(default_factory=Counter)
    _messages: dict[str, str | None] = field(default_factory=dict)
    _custom_ids: dict[str, list[str]] = field(default_factory=dict)

    def add(self, custom_id: str, code: str | None, message: str | None) -> None:
        """Count the error of a row."""
        name = counted_as(code or "unknown", self._rows, len(self._rows))
        self._rows[name] += 1
        ids = self._custom_ids.setdefault(name, [])
        if not ids:
            self._messages[name] = quote(message, MESSAGE_SHOWN) if message else None
        if len(ids) < IDS_SHOWN:
            ids.append(quote(custom_id, ID_SHOWN))

    def found(self) -> tuple[Reason, ...]:
        """All reasons, the most frequent first."""
        return tuple(
            Reason(code, rows, self._messages[code], tuple(self._custom_ids[code]))
            for code, rows in self._rows.most_common()
        )


def in_words(reasons: Sequence[Mapping[str, Any]]) -> str:
    """Reasons for an error message, e.g. ``1,000 invalid_output (the answer is not JSON; rows row-000000001, ...)``.

    :param reasons: as in a manifest.
    """
    return "; ".join(f"{reason['rows']:,} {reason['code']} ({_example(reason)})" for reason in reasons[:REASONS_SHOWN])


def as_table(reasons: Iterable[Reason]) -> str:
    """Reasons for a log, one on each line, in columns."""
    lines = [("rows", "code", "message", "for example")]
    lines += [
        (f"{reason.rows:,}", reason.code, reason.message or "", ", ".join(reason.custom_ids)) for reason in reasons
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    return "\n".join(
        f"  {rows:>{widths[0]}}  {code:<{widths[1]}}  {message:<{widths[2]}}  {ids}".rstrip()
        for rows, code, message, ids in lines
    )


def _example(reason: Mapping[str, Any]) -> str:
    more = ", ..." if reason["rows"] > len(reason["custom_ids"]) else ""
    ids = f"row{'s' if reason['rows'] > 1 else ''} {', '.join(reason['custom_ids'])}{more}"
    return f"{reason['message']}; {ids}" if reason["message"] else ids
