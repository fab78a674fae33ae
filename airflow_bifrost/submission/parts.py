"""Checks rows one by one and writes them as request lines into files, each within the limits of one batch. It sends nothing.

Rows stream through, so memory does not grow with the prompts.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from airflow_bifrost.providers.base import Limits
from airflow_bifrost.submission.bad_rows import BadRow, LastRow, input_error, refusal, shown
from airflow_bifrost.submission.limits import limits_of
from airflow_bifrost.submission.lines import RequestLines
from airflow_bifrost.submission.reading import RowNumber

MAX_ERRORS = 20  # after so many bad rows, reading stops
CHUNK = 2**18  # bytes written at once
SOURCES = "sources.jsonl"  # the columns that the results carry: one JSON object for each row, in the order of the input

log = logging.getLogger("airflow.task")


@dataclass(frozen=True, slots=True)
class Part:
    """A file with the rows of one batch.

    :param number: counted from 1.
    :param bytes: size of the file.
    :param sha256: of the file, in hex.
    :param models: models that its rows name, in the order of their first row; empty if the create call names the model.
    """

    number: int
    path: Path
    rows: int
    bytes: int
    sha256: str
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RequestFiles:
    """The input, written.

    :param parts: in order; empty for no rows.
    :param digest: sha256 of the sequence of request lines, in hex. It does not depend on how they are split into parts, so an input that
        other limits split differently is still the same input.
    :param sources: the file of the columns that the results carry; None: they carry none.
    """

    parts: list[Part]
    digest: str
    sources: Path | None = None


def write_parts(
    rows: Iterable[tuple[RowNumber, Any]],
    folder: Path,
    *,
    provider: str,
    endpoint: str,
    model: str | None = None,
    system_prompt: str | None = None,
    request_params: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
    max_rows: int | None = None,
    max_input_bytes: int | None = None,
    unit: str = "row",
    bare_bodies: bool = True,
) -> RequestFiles:
    """Write rows as request lines into ``part-0001.jsonl``, ``part-0002.jsonl``, ..., each as full as the limits allow.

    The same rows and arguments give the same bytes in every process. If anything goes wrong, no file is left behind.

    :param rows: each with the number by which errors refer to it, see :func:`~airflow_bifrost.submission.reading.numbered` and
        :func:`~airflow_bifrost.submission.reading.read_jsonl`. A row is a prompt (text); a request body; or a whole line: ``custom_id``,
        ``body``, ``method`` and ``url``, or the provider's own names (``params`` of Anthropic, ``key`` and ``request`` of Gemini,
        ``recordId`` and ``modelInput`` of Bedrock). A row without an ID gets ``row-000000001``, its place among all rows. For the values
        that a body may have, see :func:`~airflow_bifrost.submission.json_values.plain`.
    :param folder: an existing folder. Files of these names in it are overwritten.
    :param endpoint: e.g. ``/v1/chat/completions``, with or without the ``/v1``. Anthropic, Gemini and Bedrock have one form of body for all.
    :param model: for each body that sets none. Gemini and Bedrock take it from the create call instead.
    :param system_prompt: for each row that sets none.
    :param request_params: members for each body that does not set them, e.g. ``{"temperature": 0}``.
    :param limits: default: those of the provider behind a gateway with its default configuration.
    :param max_rows: cost limit: more rows are an error.
    :param max_input_bytes: cost limit for the bytes of all parts.
    :param unit: what the numbers of ``rows`` count: ``row``, or ``line`` of a file.
    :param bare_bodies: accept request bodies without the member that holds the prompt, such as ``messages``.
    :raises BatchInputError: some rows cannot be sent. It names up to 20 of them, and never shows a prompt.
    """
    limits = limits or limits_of(provider)
    requests = RequestLines(provider, endpoint, model, system_prompt, request_params or {}, bare_bodies=bare_bodies)
    models = _Models(provider, limits, unit)
    most_rows = sys.maxsize if max_rows is None else max_rows
    most_bytes = sys.maxsize if max_input_bytes is None else max_input_bytes
    errors: list[tuple[RowNumber, str]] = []
    stopped = False

    with _PartFiles(folder, limits) as files:
        for place, (number, row) in enumerate(rows, 1):
            try:
                if place > most_rows:
                    raise LastRow(f"is one more than max_rows={max_rows} allows")
                line, named, weight = requests.line_of(place, row)
                if len(line) > limits.bytes:
                    raise BadRow(f"takes {len(line):,} bytes, and {provider} takes at most {limits.bytes:,}")
                if weight > limits.rows:
                    raise BadRow(f"has {weight:,} inputs, and {provider} takes at most {limits.rows:,}")
                if named not in models.seen:
                    models.add(named, number)
                if not errors:
                    files.add(line, weight, named)
                    if files.bytes > most_bytes:
                        raise LastRow(f"makes the input larger than max_input_bytes={max_input_bytes} allows")
            except BadRow as bad:
                errors.append((number, str(bad)))
                stopped = isinstance(bad, LastRow) or len(errors) == MAX_ERRORS
                if stopped:
                    break
        if errors:
            raise refusal(errors, unit, stopped=stopped)
        if requests.ids_from_numbers:
            log.info("%d rows have a whole number as their ID. It was sent as text.", requests.ids_from_numbers)
        return files.finish()


class _Models:
    """The models that rows name: only one if the provider takes only one."""

    def __init__(self, provider: str, limits: Limits, unit: str) -> None:
        self.seen: dict[str | None, RowNumber] = {}  # with the number of the first row that names it
        self._provider = provider
        self._limits = limits
        self._unit = unit

    def add(self, model: str | None, number: RowNumber) -> None:
        if self.seen and self._limits.one_model:
            (other, first), *_ = self.seen.items()
            raise BadRow(
                f"names the model {shown(model)}, but {self._unit} {first} names {shown(other)},"
                f" and {self._provider} takes one model: split the input by model"
            )
        self.seen[model] = number


class _PartFiles:
    """Writes lines into parts, greedily. It removes all of them unless ``finish`` succeeds."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.bytes = 0  # of all parts
        self._folder = folder
        self._limits = limits
        self._parts: list[Part] = []
        self._begun: list[Path] = []
        self._open: _OpenPart | None = None
        self._hash: Any = None  # of all lines; until the first part is closed, its own hash is that

    def __enter__(self) -> _PartFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for path in self._begun:
            path.unlink(missing_ok=True)
        if self._open is not None:
            self._open.file.close()

    def add(self, line: bytes, weight: int, model: str | None) -> None:
        size = len(line)
        part = self._open
        if part is None or part.weight + weight > self._limits.rows or part.size + size > self._limits.bytes:
            self._close_part()
            part = self._open = self._begin_part()
        part.buffer.append(line)
        part.rows += 1
        part.weight += weight
        part.size += size
        self.bytes += size
        if model not in part.models and model is not None:
            part.models[model] = None
        if part.size >= part.flush_at:
            self._flush(part)

    def finish(self) -> RequestFiles:
        """Keep the parts and return them."""
        self._close_part()
        self._fill_up_last()
        self._begun.clear()
        digest = (self._hash or hashlib.sha256()).hexdigest()
        return RequestFiles(self._parts, digest)

    def _begin_part(self) -> _OpenPart:
        path = self._folder / f"part-{len(self._parts) + 1:04d}.jsonl"
        file = path.open("wb")
        self._begun.append(path)
        return _OpenPart(path, file)

    def _flush(self, part: _OpenPart) -> None:
        lines = b"".join(part.buffer)
        part.file.write(lines)
        part.hash.update(lines)
        if self._hash is not None:
            self._hash.update(lines)
        part.flush_at = part.size + CHUNK
        part.buffer.clear()

    def _close_part(self) -> None:
        part = self._open
        if part is None:
            return
        self._flush(part)
        part.file.close()
        self._open = None
        if self._hash is None:
            self._hash = part.hash.copy()
        digest = part.hash.hexdigest()
        self._parts.append(Part(len(self._parts) + 1, part.path, part.rows, part.size, digest, tuple(part.models)))

    def _fill_up_last(self) -> None:
        """Move rows from the last part but one to a last part that has too few.

        :raises BatchInputError: there are still too few.
        """
        fewest = self._limits.min_rows
        if len(self._parts) > 1 and (lacking := fewest - self._parts[-1].rows) > 0:
            *_, giver, taker = self._parts
            if giver.rows - lacking >= fewest:
                moved = _cut_lines(giver.path, lacking)
                if taker.bytes + len(moved) <= self._limits.bytes:
                    taker.path.write_bytes(moved + taker.path.read_bytes())
                    models = tuple(dict.fromkeys(giver.models + taker.models))
                    self._parts[-2:] = [
                        _measured(giver, rows=giver.rows - lacking),
                        _measured(taker, rows=taker.rows + lacking, models=models),
                    ]
        for part in self._parts:
            if part.rows < fewest:
                raise input_error(
                    f"Part {part.number} of the input has {part.rows} rows, but the provider takes no batch with fewer than {fewest}.",
                    "Give more rows: this is the provider's documented minimum.",
                )


@dataclass(slots=True)
class _OpenPart:
    path: Path
    file: IO[bytes]
    hash: Any = field(default_factory=hashlib.sha256)
    buffer: list[bytes] = field(default_factory=list)
    rows: int = 0
    weight: int = 0
    size: int = 0
    flush_at: int = CHUNK
    models: dict[str, None] = field(default_factory=dict)


def _cut_lines(path: Path, count: int) -> bytes:
    """Remove the last lines of a file that has more of them, and return them."""
    with path.open("r+b") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            cut = len(content) - 1
            for _ in range(count):
                cut = content.rfind(b"\n", 0, cut)
            lines = content[cut + 1 :]
        file.truncate(cut + 1)
    return lines


def _measured(part: Part, **changes: Any) -> Part:
    """A part whose file has changed."""
    with part.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return replace(part, bytes=part.path.stat().st_size, sha256=digest, **changes)
