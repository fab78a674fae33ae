"""A disk that is full: the kernel refuses to make a file larger, or a store has no space for a file."""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from fsspec.implementations.memory import MemoryFile  # type: ignore[import-untyped]


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Within the block, no file of this process can grow beyond this many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fill_up(monkeypatch: pytest.MonkeyPatch, is_full: Callable[[str], bool]) -> None:
    """The memory store has no space for the files for which ``is_full`` returns True."""
    write = MemoryFile.write

    def refused(file: MemoryFile, data: bytes) -> int:
        if is_full(file.path):
            raise OSError(errno.ENOSPC, "No space left on device")
        return int(write(file, data))

    monkeypatch.setattr(MemoryFile, "write", refused)
