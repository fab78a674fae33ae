"""Temporary folders that do not pile up on a worker, even if its tasks are killed.

A killed process cannot remove its folder. So each process holds a lock on its folder, which the system releases when the process ends.
The next process that needs a folder removes those without a lock.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from tempfile import gettempdir, mkdtemp

PREFIX = "bifrost-task-"
LOCK = ".lock"  # name of the file in each folder that its process has locked


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder in the worker's temporary folder. It is removed at the end, or by a later call if the process is killed."""
    parent = Path(gettempdir())
    _remove_abandoned(parent)
    folder, lock = _new_folder(parent)
    try:
        yield folder
    finally:
        with suppress(FileNotFoundError):  # another process saw the empty folder without its lock, and has removed it
            _remove(folder)
        os.close(lock)


def _new_folder(parent: Path) -> tuple[Path, int]:
    """A folder, and the descriptor of its lock. If another process removes the folder before it is locked, make another one."""
    while True:
        folder = Path(mkdtemp(prefix=PREFIX, dir=parent))
        with suppress(FileNotFoundError):
            lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
            if _locked(lock) is not False and os.fstat(lock).st_nlink:
                return folder, lock
            os.close(lock)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another process removes it, or it belongs to another user
            status = folder.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                _remove_if_abandoned(folder)


def _remove_if_abandoned(folder: Path) -> None:
    try:
        lock = os.open(folder / LOCK, os.O_RDWR)
    except FileNotFoundError:
        folder.rmdir()  # its process was killed before it locked the folder, or is about to lock it; fails if the folder is not empty
        return
    try:
        if _locked(lock):
            _remove(folder)
    finally:
        os.close(lock)


def _remove(folder: Path) -> None:
    """Remove a folder and everything in it. The lock is removed last, so that a later call finds and removes what a kill leaves here."""
    for path in folder.iterdir():
        if path.name != LOCK:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(folder)


def _locked(descriptor: int) -> bool | None:
    """Lock a file, and return whether that succeeded; None if the file system has no locks."""
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
