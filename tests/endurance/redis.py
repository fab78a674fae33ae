"""The run's own Redis server, on loopback, as Celery's broker."""

from __future__ import annotations

import os
from pathlib import Path

from support.processes import Processes

from endurance.machine import find_program, free_port, wait_for_port


def start_redis(folder: Path, processes: Processes) -> str:
    """Start the server, and return its URL when it accepts connections."""
    server, port = find_program("redis-server", "redis-server"), free_port()
    folder.mkdir()
    command = [str(server), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    processes.start("redis", command, env=os.environ, cwd=folder)
    wait_for_port(port, processes)
    return f"redis://127.0.0.1:{port}/0"
