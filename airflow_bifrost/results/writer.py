"""Turns result lines in any order into a file with one row for each row of the input, in the order of the input."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import msgspec
from pydantic import TypeAdapter

from airflow_bifrost.gateway.redact import quote
from airflow_bifrost.results.completeness import Taken
from airflow_bifrost.results.lines import MAX_LINE, lines_of, read_line, well_formed
from airflow_bifrost.results.parse import is_placeholder
from airflow_bifrost.results.reasons import Reasons, counted_as
from airflow_bifrost.results.records import (
    CUT_OFF,
    INVALID,
    OUTCOME,
    OUTCOMES,
    TRANSIENT,
    ResultRecord,
    absent_record,
    encode,
    quick_record,
    record_of,
)
from airflow_bifrost.results.rows import MAX_CODE, RowError, RowOutcome, Usage, missing_row
from airflow_bifrost.results.spool import Spool
from airflow_bifrost.results.storage import whole_file
from airflow_bifrost.results.tally import Tally

if TYPE_CHECKING:
    import os

    from airflow.sdk import ObjectStoragePath

    from airflow_bifrost.results.source import Check

BYTES_AT_ONCE = 2**18  # bytes to write at once
_CANCELLED = OUTCOMES.index(RowOutcome.CANCELLED)


class ResultsWriter:
    """Collects results from any number of sources, and then writes the rows::

        with ResultsWriter() as results:
            collect(client, batch_id, provider, results)
            tally = results.write(custom_ids, "s3://bucket/answers.jsonl")

    Of several results for one row, the first that succeeded counts; if none did, the last. The class implements
    :class:`airflow_bifrost.results.source.Sink`.
    """

    def __init__(self, output_type: Any = None, *, token: str | None = None) -> None:
        """
        :param output_type: a type, such as a pydantic model, that each answer must have; see
            :func:`airflow_bifrost.results.validation.validated`. None: answers are not validated.
        :param token: the connection's token, masked in error codes, error messages and names of models.
        """
        self._token = token
        self._adapter = None if output_type is None else TypeAdapter(output_type)
        self._spool = Spool()
        self._flags: Counter[int] = Counter()  # flags of all results
        self._tokens: dict[str, list[int]] = {}  # tokens of all results by model: input, output, total
        self._absent: Counter[int] = Counter()  # flags of the rows without a result
        self._unreadable = 0

    def __enter__(self) -> ResultsWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def add_lines(self, chunks: Iterable[bytes], check: Check | None = None) -> Taken:
        """Add an output or error file (JSONL).

        :param chunks: the file's bytes, split anywhere. If they end with an error, nothing is kept: add the file again from its start.
        :param check: called with the counts of the file. If it raises, nothing is kept.
        """
        return self._take(self._of_lines(lines_of(chunks, MAX_LINE)), check)

    def add(self, values: Iterable[Any], check: Check | None = None) -> Taken:
        """Add lines that are already JSON types, such as the gateway's native results. A row that the gateway invented is skipped.

        :param check: see :meth:`add_lines`.
        """
        return self._take(self._of_values(values), check)

    def add_absent(self, custom_ids: Iterable[str], outcome: RowOutcome, error: RowError) -> None:
        """Set the outcome of those of the given rows that have no result."""
        template = absent_record("", outcome, error)
        records = (absent_record(custom_id, outcome, error) for custom_id in custom_ids)
        self._absent[template.flags] += self._spool.keep_if_new(records)

    def received(self) -> Counter[str]:
        """The number of results so far, by the outcome that the provider reported. It reports a success even for an answer that is empty or
        fails validation."""
        received: Counter[str] = Counter()
        for flags, number in self._flags.items():
            received[RowOutcome.SUCCEEDED if flags & INVALID else OUTCOMES[flags & OUTCOME]] += number
        return received

    def custom_ids(self) -> Iterator[str]:
        """The IDs that have a result, in the order in which the results were read."""
        return self._spool.custom_ids()

    def retryable(self, custom_ids: Iterable[str], *, failed: bool = True, cancelled: bool = False) -> Iterator[bool]:
        """Whether to send each row again. Yields nothing if no row is to be sent again.

        :param failed: send rows again that failed with a transient error, see :func:`airflow_bifrost.results.transient.is_transient`.
        :param cancelled: send rows again that were cancelled.
        """

        def is_retryable(flags: int) -> bool:
            return (failed and bool(flags & TRANSIENT)) or (cancelled and flags & OUTCOME == _CANCELLED)

        if any(map(is_retryable, self._flags | self._absent)):
            for flags in self._spool.flags_of(map(well_formed, custom_ids)):
                yield flags is not None and is_retryable(flags)

    def row_states(self, custom_ids: Iterable[str]) -> Iterator[RowState]:
        """The state of each row so far."""
        for _, flags, row in self._spool.rows_of(map(well_formed, custom_ids)):
            if row is None:
                yield RowState()
            else:
                outcome = OUTCOMES[flags & OUTCOME]
                code = None if outcome is RowOutcome.SUCCEEDED else _error_of(row).code
                yield RowState(outcome, bool(flags & TRANSIENT), code)

    def write(
        self,
        custom_ids: Iterable[str],
        uri: str | os.PathLike[str] | ObjectStoragePath,
        *,
        sources: Iterable[bytes] | None = None,
        conn_id: str | None = None,
    ) -> Tally:
        """Write a row for each of ``custom_ids``, in the same order.

        :param custom_ids: the IDs, without duplicates.
        :param uri: a URI for ``ObjectStoragePath``, or a local path. An existing file is replaced; after a failure it is unchanged.
        :param sources: the member ``source`` of each row, as JSON, in the same order; None: the rows have no such member.
        :param conn_id: the Airflow connection of the object store; None: the one in the URI, if any.
        :raises ValueError: ``uri`` is a folder, or is in a store that no installed Airflow provider package knows.
        :raises OSError: the file could not be written.
        """
        with whole_file(uri, conn_id) as file:
            return self._write(map(well_formed, custom_ids), sources, file)

    def _take(self, records: Iterable[ResultRecord | None], check: Check | None) -> Taken:
        rows, unreadable = array("q"), self._unreadable
        with self._whole_or_not_at_all():
            self._spool.keep(self._counted(records, rows))
            taken = Taken(len(rows), self._unreadable - unreadable, rows)
            if check is not None:
                check(taken)
        return taken

    def _counted(self, records: Iterable[ResultRecord | None], rows: array[int]) -> Iterator[ResultRecord]:
        """
        :param rows: gets the hash of each result's custom ID.
        """
        flags, tokens = self._flags, self._tokens
        for record in records:
            if record is None:
                self._unreadable += 1
                continue
            flags[record.flags] += 1
            rows.append(hash(record.custom_id))
            input_, output, total = record.tokens
            if total is not None:
                try:
                    sums = tokens[record.model or "unknown"]
                except KeyError:
                    sums = self._sums_of(record.model or "unknown")
                sums[0] += input_ or 0
                sums[1] += output or 0
                sums[2] += total
            yield record

    def _sums_of(self, model: str) -> list[int]:
        """The token counts of a model that is not in them under its own name: it is new, or its name cannot be shown unchanged."""
        shown = quote(model, MAX_CODE - 1, token=self._token) or "unknown"
        return self._tokens.setdefault(counted_as(shown, self._tokens, len(self._tokens)), [0, 0, 0])

    @contextmanager
    def _whole_or_not_at_all(self) -> Iterator[None]:
        """Drop the results of a source that ended with an error: it may be read again from its start."""
        end = self._spool.end
        before = self._flags.copy(), {model: [*sums] for model, sums in self._tokens.items()}, self._unreadable
        try:
            yield
        except BaseException:
            self._flags, self._tokens, self._unreadable = before
            self._spool.truncate(end)
            raise

    def _of_lines(self, lines: Iterable[bytes]) -> Iterator[ResultRecord | None]:
        quick = self._adapter is None
        for line in lines:
            if quick and (record := quick_record(line)):
                yield record
            elif line and not line.isspace():
                yield from self._of_values([read_line(line)])

    def _of_values(self, values: Iterable[Any]) -> Iterator[ResultRecord | None]:
        return (record_of(value, self._adapter, self._token) for value in values if not is_placeholder(value))

    def _write(self, custom_ids: Iterable[str], sources: Iterable[bytes] | None, file: IO[bytes]) -> Tally:
        written: Counter[int] = Counter()
        missing = 0
        reasons = Reasons()

        def lines() -> Iterator[bytes]:
            nonlocal missing
            for custom_id, flags, row in self._spool.rows_of(custom_ids):
                if row is None:
                    missing += 1
                    row = encode(missing_row(custom_id))
                    reasons.add(custom_id, RowOutcome.MISSING, None)
                else:
                    written[flags] += 1
                    if flags & OUTCOME:  # not `succeeded`
                        error = _error_of(row)
                        reasons.add(custom_id, error.code, error.message)
                yield row

        _write_lines(lines() if sources is None else _with_sources(lines(), iter(sources)), file)
        kept = len(self._spool)
        outcomes = Counter(missing=missing)
        for flags, number in written.items():
            outcomes[OUTCOMES[flags & OUTCOME].value] += number
        return Tally(
            total=outcomes.total(),
            **outcomes,
            duplicates=self._flags.total() + self._absent.total() - kept,
            unknown=max(0, kept - written.total()),
            unreadable=self._unreadable,
            cut_off=sum(number for flags, number in written.items() if flags & CUT_OFF),
            reasons=reasons.found(),
            usage=Usage(*(sum(column) for column in zip([0, 0, 0], *self._tokens.values(), strict=True))),
            usage_by_model={model: Usage(*sums) for model, sums in self._tokens.items()},
        )


def _with_sources(rows: Iterable[bytes], sources: Iterator[bytes]) -> Iterator[bytes]:
    for row in rows:
        source = next(sources, None)
        assert source is not None, "a row without a source would be dropped"
        yield b'%b,"source":%b}' % (row[:-1], source)


def _write_lines(lines: Iterable[bytes], file: IO[bytes]) -> None:
    buffered: list[bytes] = []
    size = 0
    for line in lines:
        buffered.append(line)
        size += len(line)
        if size >= BYTES_AT_ONCE:
            file.write(b"\n".join([*buffered, b""]))
            buffered.clear()
            size = 0
    if buffered:
        file.write(b"\n".join([*buffered, b""]))


class RowState(NamedTuple):
    """The state of a row so far.

    :param outcome: None if the row has no result.
    :param retryable: whether the row may succeed if it is sent again.
    :param code: error code.
    """

    outcome: RowOutcome | None = None
    retryable: bool = False
    code: str | None = None


class _Error(msgspec.Struct):
    code: str | None = None
    message: str | None = None


class _ErrorOf(msgspec.Struct):
    error: _Error | None = None


_decode_error_of = msgspec.json.Decoder(_ErrorOf).decode


def _error_of(row: bytes) -> _Error:
    return _decode_error_of(row).error or _Error()
