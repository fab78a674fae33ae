"""Result lines in any order -> one row for each row of the input, in its order, in one file that is there whole or not at all.

Memory does not grow with the rows: lines are normalised as they come and wait on the local disk, in a nameless temporary database that
is gone when the process is. It needs about the room of the results.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

from pydantic import TypeAdapter

from airflow_bifrost.results.lines import lines_of, parse_line
from airflow_bifrost.results.records import Record, absent_record, encode, mended, quick_record, record_of
from airflow_bifrost.results.rows import RowError, RowOutcome, Usage, is_invented, missing_row
from airflow_bifrost.results.storage import whole_file
from airflow_bifrost.results.tally import Tally

if TYPE_CHECKING:
    import os

    from airflow.sdk import ObjectStoragePath

ROWS_AT_ONCE = 256  # that are written

_SCHEMA = """
PRAGMA page_size = 16384;
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE results (
    custom_id TEXT PRIMARY KEY, outcome TEXT, may_pass INTEGER, cut_off INTEGER, model TEXT,
    input INTEGER, output INTEGER, total INTEGER, row BLOB
);
CREATE INDEX passing ON results (custom_id) WHERE may_pass;
CREATE TABLE inputs (custom_id TEXT);
"""
# The first that succeeded, else the last; with the tokens of those before it, which were paid for, too.
_KEEP = """
INSERT INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (custom_id) DO UPDATE SET
    outcome = excluded.outcome, may_pass = excluded.may_pass, cut_off = excluded.cut_off, model = excluded.model,
    input = ifnull(results.input + excluded.input, ifnull(excluded.input, results.input)),
    output = ifnull(results.output + excluded.output, ifnull(excluded.output, results.output)),
    total = ifnull(results.total + excluded.total, ifnull(excluded.total, results.total)), row = excluded.row
WHERE results.outcome <> 'succeeded'
"""
_JOIN = """
SELECT inputs.custom_id, outcome, cut_off, model, input, output, total, row
FROM inputs LEFT JOIN results ON results.custom_id = inputs.custom_id
ORDER BY inputs.rowid
"""
_COUNT = "SELECT count(*) FROM results"
_COUNT_UNKNOWN = "SELECT count(*) FROM results WHERE custom_id NOT IN (SELECT custom_id FROM inputs)"


class ResultsWriter:
    """Collects results from any number of sources, then writes the rows::

        with ResultsWriter() as results:
            with hook.file_content(batch.output_file_id) as chunks:
                results.add_lines(chunks)
            tally = results.write(custom_ids, "s3://bucket/answers.jsonl")

    Of several results for one row the first that succeeded counts, else the last. After an error of a source begin anew.
    """

    def __init__(self, output_type: Any = None) -> None:
        """
        :param output_type: a type, such as a pydantic model, that the answer of each row is to be of; see
            :func:`airflow_bifrost.results.validation.validated`. None: whatever it is.
        """
        self._adapter = None if output_type is None else TypeAdapter(output_type)
        self._spool = sqlite3.connect("")  # a file without a name
        self._spool.executescript(_SCHEMA)
        self._results = 0
        self._unreadable = 0

    def __enter__(self) -> ResultsWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def add_lines(self, chunks: Iterable[bytes]) -> None:
        """Take an output or error file (JSONL).

        :param chunks: its bytes, cut anywhere.
        """
        self._take(self._of_lines(lines_of(chunks)))

    def add(self, values: Iterable[Any]) -> None:
        """Take lines that are JSON types already, as the gateway's native results are. The one that the gateway invents is passed over."""
        self._take(self._of_values(values))

    def add_absent(self, custom_ids: Iterable[str], outcome: RowOutcome, error: RowError) -> None:
        """Say what became of rows for which nothing came, and nothing has come of them."""
        records = (absent_record(custom_id, outcome, error) for custom_id in custom_ids)
        self._spool.executemany("INSERT OR IGNORE INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", records)

    def custom_ids(self) -> Iterator[str]:
        """The ids that there are results for, in the order in which the first of each came."""
        return (custom_id for (custom_id,) in self._spool.execute("SELECT custom_id FROM results ORDER BY rowid"))

    def passing(self) -> set[str]:
        """The ids whose request may fare better another time: see :func:`airflow_bifrost.results.rows.may_pass`."""
        return {custom_id for (custom_id,) in self._spool.execute("SELECT custom_id FROM results WHERE may_pass")}

    def cancelled(self) -> set[str]:
        """The ids of rows that were cancelled."""
        found = self._spool.execute("SELECT custom_id FROM results WHERE outcome = 'cancelled'")
        return {custom_id for (custom_id,) in found}

    def write(
        self, custom_ids: Iterable[str], uri: str | os.PathLike[str] | ObjectStoragePath, *, conn_id: str | None = None
    ) -> Tally:
        """Write a row for each of ``custom_ids``, in their order. An id that stands there twice gets its result twice.

        :param uri: a file: any that ``ObjectStoragePath`` knows, or a local path. It is replaced if it is there; after a failure it is
            as it was.
        :param conn_id: the Airflow connection of the object store; None: that in the URI, or none.
        :raises ValueError: ``uri`` names a folder, or a store that no installed provider knows.
        :raises OSError: the file could not be written.
        """
        self._spool.execute("DELETE FROM inputs")
        self._spool.executemany("INSERT INTO inputs VALUES (?)", ((mended(custom_id),) for custom_id in custom_ids))
        with whole_file(uri, conn_id) as file:
            return self._write(file)

    def _take(self, records: Iterable[Record | None]) -> None:
        def known() -> Iterator[Record]:
            for record in records:
                if record is None:
                    self._unreadable += 1
                else:
                    self._results += 1
                    yield record

        self._spool.executemany(_KEEP, known())

    def _of_lines(self, lines: Iterable[bytes]) -> Iterator[Record | None]:
        for line in lines:
            if self._adapter is None and (record := quick_record(line)):
                yield record
            elif line and not line.isspace():
                yield from self._of_values([_parsed(line)])

    def _of_values(self, values: Iterable[Any]) -> Iterator[Record | None]:
        return (record_of(value, self._adapter) for value in values if not is_invented(value))

    def _write(self, file: IO[bytes]) -> Tally:
        outcomes: Counter[str] = Counter()
        tokens: dict[str, list[int]] = {}
        cut = 0

        def lines() -> Iterator[bytes]:
            nonlocal cut
            for custom_id, outcome, cut_off, model, input_, output, total, encoded in self._spool.execute(_JOIN):
                if outcome is None:
                    outcome, encoded = RowOutcome.MISSING.value, encode(missing_row(custom_id))
                yield encoded
                outcomes[outcome] += 1
                cut += bool(cut_off)
                if total is not None:
                    sums = tokens.setdefault(model or "unknown", [0, 0, 0])
                    sums[0] += input_ or 0
                    sums[1] += output or 0
                    sums[2] += total

        rest = lines()
        while some := list(islice(rest, ROWS_AT_ONCE)):
            file.write(b"\n".join([*some, b""]))
        return Tally(
            total=outcomes.total(),
            **outcomes,
            duplicates=self._results - self._one(_COUNT),
            unknown=self._one(_COUNT_UNKNOWN),
            unreadable=self._unreadable,
            cut_off=cut,
            usage=Usage(*(sum(column) for column in zip(*tokens.values(), strict=True))) if tokens else Usage(0, 0, 0),
            usage_by_model={model: Usage(*sums) for model, sums in tokens.items()},
        )

    def _one(self, query: str) -> int:
        return int(self._spool.execute(query).fetchone()[0])


def _parsed(line: bytes) -> Any:
    """A line as JSON types; None, which is no result, if it is none."""
    try:
        return parse_line(line)
    except ValueError:
        return None
