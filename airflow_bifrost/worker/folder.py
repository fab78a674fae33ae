"""A folder in object storage in which a task keeps what must outlive its worker."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from airflow_bifrost.results.lines import lines_in
from airflow_bifrost.results.storage import locate, whole_file


@dataclass(frozen=True, slots=True)
class TaskFolder:
    """:param uri: any that Airflow's object storage writes, or a path on the worker's disk."""

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
        """A file that is there when it is whole."""
        return whole_file(f"{self.uri}/{name}")

    def lines(self, name: str) -> Iterator[bytes]:
        """Without their ends."""
        path, fs = locate(f"{self.uri}/{name}")
        with fs.open(path.path, "rb") as file:
            yield from lines_in(file)

    def remove(self) -> None:
        """Remove it with all that is in it, if it is there."""
        path, fs = locate(self.uri)
        for name in fs.find(path.path):
            fs.rm_file(name)  # and not fs.rm, which takes names for patterns
        with suppress(OSError, NotImplementedError):  # a store without folders
            fs.rmdir(path.path)
