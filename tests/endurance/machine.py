"""What the machine offers: the servers of PostgreSQL and Redis, and another user to run them as."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from support.processes import Processes

_START_SECONDS = 60.0
SERVER_USERS = ("postgres", "nobody")
"""Unprivileged users. If this process runs as root, one of them runs PostgreSQL's server, which refuses to run as root."""


class NotInstalled(RuntimeError):
    """A program is missing. The message says how to install it."""


def find_program(name: str, package: str, folders: Sequence[str | Path] = ()) -> Path:
    """Return the path of a program, from the folders or the PATH.

    :param package: the Debian package that has it.
    :raises NotInstalled: it is in neither.
    """
    for folder in folders:
        if os.access(Path(folder) / name, os.X_OK):
            return Path(folder) / name
    if found := shutil.which(name):
        return Path(found)
    raise NotInstalled(
        f"{name} is not installed, and the endurance run needs it. Install it: apt-get install {package}"
        f" (or put the folder that holds {name} on the PATH)"
    )


def postgres_folders() -> list[Path]:
    """Where Debian and Red Hat install PostgreSQL's server, newest version first. It is not on the PATH there."""
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    red_hat = Path("/usr").glob("pgsql-*/bin")
    return sorted([*debian, *red_hat], key=lambda path: [int(n) for n in path.parent.name.split("-") if n.isdigit()])[
        ::-1
    ]


def unprivileged(folder: Path) -> list[str]:
    """Return the beginning of a command that runs the rest as an unprivileged user; empty if this process does not run as root.

    :param folder: given to that user.
    :raises NotInstalled: there is no such user, or no program to change to it.
    """
    if os.geteuid() != 0:
        return []
    setpriv = find_program("setpriv", "util-linux")
    for name in SERVER_USERS:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(folder, user.pw_uid, user.pw_gid)
        return [str(setpriv), f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
    raise NotInstalled(
        f"PostgreSQL refuses to run as root, and there is no user {' or '.join(SERVER_USERS)}. Run make endurance as another user"
    )


def free_port() -> int:
    """Return a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, processes: Processes) -> None:
    """Return when a server accepts connections on a port of loopback.

    :raises ProcessDied: a process has ended.
    :raises OSError: no server does, after a minute.
    """
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            processes.check()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
