"""A Redis server of the run's own, on loopback, as Celery's broker."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from support.processes import Processes

from endurance.machine import find_program, free_port

_START_SECONDS = 30.0


def start_redis(folder: Path, processes: Processes) -> str:
    """Start the server, and return its URL when it accepts connections."""
    server, port = find_program("redis-server", "redis-server"), free_port()
    folder.mkdir()
    command = [str(server), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    processes.start("redis", command, env=os.environ, cwd=folder)
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return f"redis://127.0.0.1:{port}/0"
        except OSError:
            processes.check()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
