"""Keeps rows on the worker's disk, in any order, until they are written in the order of the input.

A file holds the rows one after the other, and a small database holds the position of each row in it. Both are unnamed temporary files, so they
disappear with the process. Together they need about as much disk space as the rows. Memory use does not grow with the number of rows.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from tempfile import TemporaryFile
from typing import Any

from airflow_bifrost.results.records import OUTCOME, OUTCOMES, ResultRecord
from airflow_bifrost.results.rows import RowOutcome

BUFFER = 2**18  # bytes to write at once

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -256;
CREATE TABLE results (custom_id TEXT PRIMARY KEY, position INTEGER, size INTEGER, flags INTEGER) WITHOUT ROWID;
"""
# Of several rows with one ID, keep the first that succeeded; if none did, keep the last.
_KEEP = f"""
INSERT INTO results VALUES (?, ?, ?, ?)
ON CONFLICT (custom_id) DO UPDATE SET position = excluded.position, size = excluded.size, flags = excluded.flags
WHERE results.flags & {OUTCOME} <> {OUTCOMES.index(RowOutcome.SUCCEEDED)}
"""  # noqa: S608 - numbers of our own
_KEEP_IF_NEW = "INSERT OR IGNORE INTO results VALUES (?, ?, ?, ?)"
AT_ONCE = 128  # IDs to find with one query
_FIND = f"""
WITH asked (number, custom_id) AS (VALUES {", ".join(f"({number}, ?)" for number in range(AT_ONCE))})
SELECT asked.custom_id, position, size, flags FROM asked LEFT JOIN results USING (custom_id) ORDER BY number
"""  # noqa: S608 - numbers of our own


class Spool:
    """Stores records, and returns their rows by ID."""

    def __init__(self) -> None:
        self._rows = TemporaryFile(buffering=BUFFER)  # noqa: SIM115 - closed by `close`
        self.end = 0
        self._index = sqlite3.connect("")  # a temporary file without a name
        self._index.executescript(_SCHEMA)

    def close(self) -> None:
        """Delete the temporary files."""
        self._index.close()
        self._rows.close()

    def keep(self, records: Iterable[ResultRecord]) -> None:
        """Keep records. Of several with one ID, keep the first that succeeded; if none did, keep the last."""
        self._index.executemany(_KEEP, self._positioned(records))

    def keep_if_new(self, records: Iterable[ResultRecord]) -> int:
        """Keep the records whose ID has no record yet, and return their number."""
        before = self._index.total_changes
        self._index.executemany(_KEEP_IF_NEW, self._positioned(records))
        return self._index.total_changes - before

    def truncate(self, end: int) -> None:
        """Drop all rows beyond this end of the file. A row that they replaced is lost, so its source must be read again."""
        self._index.execute("DELETE FROM results WHERE position >= ?", (end,))
        self._rows.flush()
        self._rows.truncate(end)
        self._rows.seek(end)
        self.end = end

    def __len__(self) -> int:
        return int(self._index.execute("SELECT count(*) FROM results").fetchone()[0])

    def custom_ids(self) -> Iterator[str]:
        """All IDs, in the order in which their rows were stored."""
        return (custom_id for (custom_id,) in self._index.execute("SELECT custom_id FROM results ORDER BY position"))

    def flags_of(self, custom_ids: Iterable[str]) -> Iterator[int | None]:
        """The flags of each ID's row; None for an ID without a row."""
        return (flags for _, _, _, flags in self._found(custom_ids))

    def rows_of(self, custom_ids: Iterable[str]) -> Iterator[tuple[str, int, bytes | None]]:
        """Each ID with its row's flags and the row itself; None for an ID without a row."""
        self._rows.flush()
        read, file = os.pread, self._rows.fileno()
        for custom_id, position, size, flags in self._found(custom_ids):
            yield custom_id, flags, None if position is None else read(file, size, position)

    def _found(self, custom_ids: Iterable[str]) -> Iterator[tuple[Any, ...]]:
        rest = iter(custom_ids)
        while some := list(islice(rest, AT_ONCE)):
            asked = some + [None] * (AT_ONCE - len(some))
            yield from islice(self._index.execute(_FIND, asked), len(some))

    def _positioned(self, records: Iterable[ResultRecord]) -> Iterator[tuple[str, int, int, int]]:
        write = self._rows.write
        for custom_id, flags, _, _, row in records:
            position, size = self.end, len(row)
            write(row)
            self.end += size
            yield custom_id, position, size, flags
