"""Files of rows: JSON Lines, CSV, TSV and Parquet, plain or compressed. The libraries read them; this module decides which one does."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from itertools import chain
from typing import IO, Any, NamedTuple

import msgspec

from airflow_bifrost.submission.bad_rows import input_error
from airflow_bifrost.submission.reading import Unreadable
from airflow_bifrost.submission.tables.table import ROWS_AT_ONCE, Table, TableRow, library, unique

HEAD = 4096  # bytes from which the format of a file is recognized
SUFFIXES = {"jsonl": "jsonl", "ndjson": "jsonl", "csv": "csv", "tsv": "tsv", "parquet": "parquet", "pq": "parquet"}
COMPRESSED = {"gz": "gz", "zst": "zst", "zstd": "zst"}
FORMATS = ("jsonl", "csv", "tsv", "parquet")
_DELIMITERS = {"csv": ",", "tsv": "\t"}


class FileFormat(NamedTuple):
    """:param content: one of ``FORMATS``. :param compression: ``gz``, ``zst``, or empty."""

    content: str
    compression: str = ""

    def __str__(self) -> str:
        return ".".join(part for part in self if part)


def format_of(name: str, input_format: str | None = None) -> FileFormat:
    """The format of a file, by its name or by the task's ``input_format``, such as ``csv`` or ``jsonl.gz``.

    A name without a known extension stands for JSON Lines.

    :raises ValueError: ``input_format`` is unknown.
    """
    if input_format is None:
        content, compression, _ = _suffixes(name.rpartition("/")[2])
        return FileFormat(SUFFIXES.get(content, "jsonl"), compression)
    content, compression, rest = _suffixes(input_format)
    if content not in SUFFIXES or rest:
        raise ValueError(
            f"input_format must be one of {', '.join(FORMATS)}, or one of them with .gz or .zst, not {input_format!r}"
        )
    return FileFormat(SUFFIXES[content], compression)


def is_data_file(name: str) -> bool:
    """Whether a file in a folder holds rows: it has a known extension, and is neither hidden nor a marker such as ``_SUCCESS``."""
    name = name.rpartition("/")[2]
    content, _, rest = _suffixes(name)
    return name[:1] not in (".", "_") and bool(rest) and content in SUFFIXES


def _suffixes(name: str) -> tuple[str, str, list[str]]:
    """What the end of a name says of the content and of the compression, and the parts of the name before these."""
    *rest, last = name.lower().split(".")
    compression = COMPRESSED.get(last, "")
    if compression and rest:
        *rest, last = rest
    return last, compression, rest


def opened(file: IO[bytes], form: FileFormat, name: str) -> IO[bytes]:
    """The file's content, decompressed. It must be open for reading at its start.

    :raises BatchInputError: the content does not have the format that the name says. The message names the format that it has.
    """
    if form.compression != (found := _compression(_head(file))):
        raise _other_format(name, form, f"{_COMPRESSIONS[found][1]} data" if found else "data that is not compressed")
    if form.compression == "gz":
        file = io.BufferedReader(gzip.GzipFile(fileobj=file))
    elif form.compression == "zst":
        arrow = library("pyarrow", extra="parquet", reads="a file that is compressed with Zstandard")
        file = io.BufferedReader(arrow.CompressedInputStream(file, "zstd"))
    if (other := _found(file, form)) is not None:
        raise _other_format(name, form, other)
    return file


def read_table(file: IO[bytes], content: str, name: str) -> Table:
    """The table in an open file of one of the formats ``csv``, ``tsv`` and ``parquet``.

    :raises BatchInputError: the file is not of that format.
    """
    return _parquet(file, name) if content == "parquet" else _csv(file, content, name)


def _csv(file: IO[bytes], content: str, name: str) -> Table:
    """The values are text, exactly as written: ``007`` stays ``007``. An empty cell is empty text."""
    kind = f"a {content.upper()} file"
    csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))  # the default refuses a cell above 128 KiB
    reader = csv.reader(
        io.TextIOWrapper(file, encoding="utf-8-sig", newline=""), delimiter=_DELIMITERS[content], strict=True
    )
    records = _records(reader, name)
    columns = unique(next(records, []), kind)
    if not columns:
        raise input_error(
            f"The file {name} is empty: {kind} has the names of its columns in the first line.", "Check the path."
        )
    if any(not column for column in columns):
        raise input_error(
            f"The first line of {name} leaves a column without a name.", "Name each column in the first line."
        )

    def rows() -> Iterator[TableRow | Unreadable]:
        for values in records:
            if len(values) == len(columns):
                yield dict(zip(columns, values, strict=True))
            elif values:  # a blank line is not a row
                yield Unreadable(f"has {len(values)} cells, but the first line names {len(columns)} columns")

    return Table(kind, columns, rows())


def _records(reader: Any, name: str) -> Iterator[list[str]]:
    try:
        yield from reader
    except UnicodeDecodeError as error:
        raise input_error(
            f"The file {name} is not UTF-8 after line {reader.line_num}.",
            "Convert it: iconv -f <its encoding> -t UTF-8.",
        ) from error
    except csv.Error as error:
        raise input_error(f"Line {reader.line_num} of {name} cannot be read: {error}.", "Correct the file.") from error


def _parquet(file: IO[bytes], name: str) -> Table:
    arrow = library("pyarrow", extra="parquet", reads="Parquet")
    parquet = library("pyarrow.parquet", extra="parquet", reads="Parquet")
    try:
        table = parquet.ParquetFile(file)
    except arrow.ArrowInvalid as error:
        raise input_error(f"The file {name} cannot be read as Parquet: {error}.", "Write it again.") from error
    columns = unique(table.schema_arrow.names, "a Parquet file")
    batches = table.iter_batches(ROWS_AT_ONCE)
    return Table("a Parquet file", columns, chain.from_iterable(batch.to_pylist() for batch in batches))


# Recognizing the real format of a file

_COMPRESSIONS = {"gz": (b"\x1f\x8b", "gzip"), "zst": (b"\x28\xb5\x2f\xfd", "Zstandard")}
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def _head(file: IO[bytes]) -> bytes:
    head = file.read(HEAD)
    file.seek(0)
    return head


def _compression(head: bytes) -> str:
    return next((name for name, (magic, _) in _COMPRESSIONS.items() if head.startswith(magic)), "")


def _found(file: IO[bytes], form: FileFormat) -> str | None:
    """The format of the content in words, if it cannot be the expected one."""
    head = bytes(file.peek(HEAD))[:HEAD] if form.compression else _head(file)  # type: ignore[attr-defined]
    if (form.content == "parquet") != head.startswith(b"PAR1"):
        return "Parquet" if head.startswith(b"PAR1") else "data that is not Parquet" if head else None
    if form.content == "parquet":
        return None
    if head.startswith(b"PK\x03\x04"):
        return "a ZIP archive, such as an Excel workbook"
    if head.startswith(_UTF_16) or (b"\0" in head[:4] and head[:2] != b"\0\0"):
        return "text in UTF-16"
    return _not_json_lines(head) if form.content == "jsonl" else _not_cells(head)


def _not_json_lines(head: bytes) -> str | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"["):
        return "a JSON array"
    line, ended, _ = text.partition(b"\n")
    if not ended or _is_json(line):
        return None
    return next(
        (kind.upper() for kind in ("tsv", "csv") if _DELIMITERS[kind].encode() in line and b"{" not in line), None
    )


def _not_cells(head: bytes) -> str | None:
    line = head.lstrip().partition(b"\n")[0]
    return "JSON Lines" if line.startswith(b"{") and _is_json(line) else None


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


_ADVICE = {
    "a JSON array": "Write one JSON value per line, e.g. with: jq -c '.[]'.",
    "text in UTF-16": "Convert it: iconv -f UTF-16 -t UTF-8.",
    "a ZIP archive, such as an Excel workbook": "Export it as CSV, or pass a DataFrame.",
}


def _other_format(name: str, form: FileFormat, found: str) -> Exception:
    advice = _ADVICE.get(found, "Correct the file's name, or set `input_format`.")
    return input_error(f"The file {name} is read as {form}, but holds {found}.", advice)
