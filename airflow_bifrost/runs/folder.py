"""The folder in which a run keeps its request lines, and how the lines are rebuilt if it is lost."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import IO

from airflow_bifrost.exceptions import BatchInputError
from airflow_bifrost.results.lines import lines_in
from airflow_bifrost.results.storage import locate, whole_file
from airflow_bifrost.runs.part import RunPart
from airflow_bifrost.runs.request import RunInput
from airflow_bifrost.runs.state import RunState
from airflow_bifrost.submission.ids import automatic_id, custom_id_of
from airflow_bifrost.submission.parts import Part, RequestFiles
from airflow_bifrost.worker.rows import VANISHED
from airflow_bifrost.worker.scratch import scratch_folder

log = logging.getLogger("airflow.task")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """:param uri: a URI for Airflow's object storage, or a path on the worker's disk."""

    uri: str

    def has(self, name: str) -> bool:
        path, fs = locate(f"{self.uri}/{name}")
        return bool(fs.exists(path.path))

    def keep(self, file: Path, name: str) -> None:
        """Copy a local file into the folder."""
        with file.open("rb") as source, self.new(name) as target:
            shutil.copyfileobj(source, target)

    def fetch(self, name: str, file: Path) -> None:
        """Copy a file of the folder to the local disk."""
        path, fs = locate(f"{self.uri}/{name}")
        with fs.open(path.path, "rb") as source, file.open("wb") as target:
            shutil.copyfileobj(source, target)

    def new(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Open a new file, which appears under its name only when it is complete."""
        return whole_file(f"{self.uri}/{name}")

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of a file, without their ends."""
        path, fs = locate(f"{self.uri}/{name}")
        with fs.open(path.path, "rb") as file:
            yield from lines_in(file)

    def delete(self, name: str) -> None:
        """Delete a file."""
        path, fs = locate(f"{self.uri}/{name}")
        fs.rm_file(path.path)

    def remove(self) -> None:
        """Remove the folder and all files in it, if it is there."""
        path, fs = locate(self.uri)
        for name in fs.find(path.path):
            fs.rm_file(name)  # not fs.rm, which treats names as patterns
        with suppress(OSError, NotImplementedError):  # a store without folders
            fs.rmdir(path.path)


@dataclass(slots=True)
class RunLines:
    """The request lines of a run.

    :param rebuild: writes the run's input again, into a local folder; None if that is not possible.
    """

    folder: RunFolder
    rebuild: Callable[[Path], RequestFiles] | None = None
    _restored: dict[str, bool] = field(default_factory=dict)  # by digest of the input

    def has_input(self, run_input: RunInput) -> bool:
        """Whether all lines of the input are there. Missing lines are rebuilt if the task's rows are still the same."""
        if run_input.digest not in self._restored:
            missing = {name for name in run_input.files if not self.folder.has(name)}
            self._restored[run_input.digest] = not missing or self._restore(run_input, missing)
        return self._restored[run_input.digest]

    def has_part(self, state: RunState, part: RunPart) -> bool:
        """Whether the lines of a part are there. Missing lines are rebuilt if possible."""
        if self.folder.has(part.file):
            return True
        if part.first is None or not self.has_input(state.input):
            return False
        if self.folder.has(part.file):
            return True
        lines = islice(self.input(state.input), part.first, part.first + part.rows)
        if self.write(part.file, lines)[2] == part.sha256:
            return True
        self.folder.delete(part.file)  # other lines must not stand under its name
        return False

    def input(self, run_input: RunInput) -> Iterator[bytes]:
        """All lines of the input, in order."""
        return chain.from_iterable(map(self.folder.lines, run_input.files))

    def custom_ids(self, run_input: RunInput) -> Iterator[str] | None:
        """The IDs of all rows, in order; None if they are lost."""
        if self.has_input(run_input):
            return map(custom_id_of, self.input(run_input))
        return map(automatic_id, range(1, run_input.rows + 1)) if run_input.automatic_ids else None

    def part_ids(self, run_input: RunInput, part: RunPart) -> Iterator[str] | None:
        """The IDs of the rows of a part; None if they are lost."""
        if self.folder.has(part.file):
            return map(custom_id_of, self.folder.lines(part.file))
        if part.first is None or (ids := self.custom_ids(run_input)) is None:
            return None
        return islice(ids, part.first, part.first + part.rows)

    def keep_parts(self, parts: Sequence[Part]) -> None:
        """Put the files of parts into the folder, unless they are there."""
        for part in parts:
            if not self.folder.has(file_name(part)):
                self.folder.keep(part.path, file_name(part))

    def keep_sources(self, run_input: RunInput, files: RequestFiles) -> None:
        """Put the file of the columns that the results carry into the folder, unless it is there, or ``files`` has other columns."""
        name = run_input.sources
        if name is None or files.sources is None or self.folder.has(name):
            return
        if sources_name(files.sources) == name:
            self.folder.keep(files.sources, name)

    def sources(self, run_input: RunInput) -> Iterator[bytes] | None:
        """The columns that the result of each row carries, as JSON, in the order of the input; None if they are lost."""
        if run_input.sources is None:
            return None
        if not self.folder.has(run_input.sources):
            with self._rebuilt(run_input) as files:
                if files is not None:
                    self.keep_sources(run_input, files)
        return self.folder.lines(run_input.sources) if self.folder.has(run_input.sources) else None

    def write(self, name: str, lines: Iterable[bytes]) -> tuple[int, int, str]:
        """Write a file, and return its number of lines, its size in bytes, and its SHA-256."""
        digest, rows, size = hashlib.sha256(), 0, 0
        with self.folder.new(name) as file:
            for line in lines:
                whole = line + b"\n"
                file.write(whole)
                digest.update(whole)
                rows += 1
                size += len(whole)
        return rows, size, digest.hexdigest()

    @contextmanager
    def _rebuilt(self, run_input: RunInput) -> Iterator[RequestFiles | None]:
        """The input, written again from the task's rows; None if they do not make the same request lines anymore."""
        if self.rebuild is None:
            yield None
            return
        with scratch_folder() as local:
            try:
                files = self.rebuild(local)
            except (*VANISHED, BatchInputError) as error:
                log.warning("The request lines cannot be rebuilt from the task's rows: %s", error)
                yield None
                return
            yield files if files.digest == run_input.digest else None

    def _restore(self, run_input: RunInput, missing: set[str]) -> bool:
        with self._rebuilt(run_input) as files:
            if files is None:
                return False
            self.keep_sources(run_input, files)
            lines = chain.from_iterable(_local_lines(part.path) for part in files.parts)
            for name, rows in zip(run_input.files, run_input.file_rows, strict=True):
                some = islice(lines, rows)
                if name in missing:
                    self.write(name, some)
                else:
                    for _ in some:
                        pass
        return True


def file_name(part: Part) -> str:
    """The name of a part's file in the folder."""
    return f"{part.sha256[:32]}.jsonl"


def sources_name(file: Path) -> str:
    """The name, in the folder, of the file of the columns that the results carry. Other columns or values give another name."""
    with file.open("rb") as source:
        return f"{hashlib.file_digest(source, 'sha256').hexdigest()[:32]}-sources.jsonl"


def described(files: RequestFiles) -> RunInput:
    """The description of an input that the run's state keeps."""
    lines = chain.from_iterable(_local_lines(part.path) for part in files.parts)
    return RunInput(
        digest=files.digest,
        rows=sum(part.rows for part in files.parts),
        files=[file_name(part) for part in files.parts],
        file_rows=[part.rows for part in files.parts],
        automatic_ids=all(custom_id_of(line) == automatic_id(position) for position, line in enumerate(lines, start=1)),
        sources=sources_name(files.sources) if files.sources is not None else None,
    )


def _local_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from lines_in(file)
