"""Processes that do not outlive the one that started them, whatever ends it.

Every process gets a session of its own, because Airflow moves the processes of its tasks to process groups of their own
but leaves them in the session. A keeper, a small process in a session of its own too, reads the sessions' ids from a pipe.
When the pipe closes, it ends them all. The operating system closes the pipe of whatever dies, so a normal end, Ctrl-C,
SIGTERM and SIGKILL take the same path.

This file is also the keeper's program: ``python processes.py``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import IO, TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

GRACE_SECONDS = 5.0
"""How long a process may take to end after SIGTERM, before it gets SIGKILL."""

_KILL_SECONDS = 3.0


class ProcessDied(RuntimeError):
    """A process ended that was to go on. The message has the end of its log."""


class Processes:
    """Start, kill and end named processes; end all of them when this process ends.

    :param log_dir: where ``<name>.log`` receives the output (stdout and stderr) of each process. Must exist.
    """

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", __file__],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, capture: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start a process; a second start under the same name appends to the same log.

        :param capture: whether the caller reads the process's stdout, instead of its going to the log; stderr always goes there.
        """
        with self.log_path(name).open("ab") as log:
            process = subprocess.Popen(
                command,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if capture else log,
                stderr=log,
                start_new_session=True,
            )
        _keeper_pipe(self._keeper).write(f"+{process.pid}\n".encode())
        self._running[name] = process
        return process

    def kill(self, name: str) -> None:
        """SIGKILL a process and everything that it started; return when they are gone."""
        process = self._running.pop(name)
        end_sessions({process.pid}, grace_seconds=0)
        _keeper_pipe(self._keeper).write(f"-{process.pid}\n".encode())
        process.wait()

    def end(self, name: str, number: int, *, seconds: float) -> None:
        """Send the process itself a signal that ends it; return when it has ended.

        :raises subprocess.TimeoutExpired: it has not, after so many seconds.
        """
        process = self._running.pop(name)
        process.send_signal(number)
        process.wait(seconds)
        _keeper_pipe(self._keeper).write(f"-{process.pid}\n".encode())

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a process and everything that it started."""
        _signal(self.pids(name), number)

    def ended(self) -> list[str]:
        """Return the names of the processes that have ended by themselves."""
        return [name for name, process in self._running.items() if process.poll() is not None]

    def pids(self, name: str) -> list[int]:
        """Return the IDs of a process and everything that it started; empty if it was killed."""
        process = self._running.get(name)
        return [] if process is None else _members({process.pid})

    def stop(self) -> None:
        """End all processes: SIGTERM, and SIGKILL after :data:`GRACE_SECONDS`. May be called twice."""
        _keeper_pipe(self._keeper).close()
        self._keeper.wait()
        for process in self._running.values():
            process.wait()
        self._running.clear()

    def check(self) -> None:
        """Raise :class:`ProcessDied` if one of the processes has ended by itself."""
        for name, process in self._running.items():
            if (code := process.poll()) is not None:
                raise ProcessDied(f"{name} ended with exit code {code}\n{self.log_tail(name)}")

    def log_path(self, name: str) -> Path:
        """Return the file that holds the output of a process."""
        return self._log_dir / f"{name}.log"

    def log_tail(self, name: str, lines: int = 30) -> str:
        """Return the last lines of a process's output under a heading."""
        path = self.log_path(name)
        text = path.read_text(errors="replace") if path.exists() else ""
        return "\n".join([f"--- {name}: the last lines of {path} ---", *text.splitlines()[-lines:]])


def end_sessions(session_ids: Iterable[int], *, grace_seconds: float) -> None:
    """End every process of the sessions: SIGTERM first, SIGKILL for those that are left after the grace (0: at once)."""
    sessions = set(session_ids)
    if grace_seconds > 0:
        _signal(_members(sessions), signal.SIGTERM)
        _wait_until_gone(sessions, grace_seconds)
    deadline = time.monotonic() + _KILL_SECONDS
    while (left := _members(sessions)) and time.monotonic() < deadline:
        _signal(left, signal.SIGKILL)
        time.sleep(0.05)


def _members(sessions: set[int]) -> list[int]:
    """Return the ids of the sessions' processes; the dead that nobody has waited for do not count."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue  # gone since it was listed, or somebody else's
    return members


def _signal(process_ids: list[int], number: int) -> None:
    for process_id in process_ids:
        try:
            os.kill(process_id, number)
        except ProcessLookupError:
            continue


def _wait_until_gone(sessions: set[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while _members(sessions) and time.monotonic() < deadline:
        time.sleep(0.05)


def _keeper_pipe(keeper: subprocess.Popen[bytes]) -> IO[bytes]:
    assert keeper.stdin is not None
    return keeper.stdin


def _keep(session_ids: IO[str]) -> None:
    """Be the keeper: read ids (``+id`` to end, ``-id`` to forget) until the writer is gone, then end their sessions."""
    sessions: set[int] = set()
    for line in session_ids:
        session_id = int(line)
        if session_id > 0:
            sessions.add(session_id)
        else:
            sessions.discard(-session_id)
    end_sessions(sessions, grace_seconds=GRACE_SECONDS)


if __name__ == "__main__":
    _keep(sys.stdin)
