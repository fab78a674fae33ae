"""Whatever ends the owner of processes, it leaves none behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

TESTS = Path(__file__).parents[1]

# The grandchild leaves the process group, as Airflow's tasks do, and ignores SIGTERM.
CHILD = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setpgid(0, 0)
while True:
    time.sleep(60)
"""
OWNER = """
import os, sys, time
from pathlib import Path
from support.processes import Processes
with Processes(Path.cwd()) as processes:
    child = processes.start("child", [sys.executable, "-c", sys.argv[1]], env=os.environ, cwd=Path.cwd())
    print(child.pid, flush=True)
    time.sleep(60)
"""


def alive(session: int) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def count_becomes(session: int, count: int, seconds: float) -> bool:
    """Whether so many processes of the session are alive, at the latest after so many seconds."""
    deadline = time.monotonic() + seconds
    while len(alive(session)) != count:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda end: end.name)
def test_no_process_outlives_its_owner(tmp_path: Path, end: signal.Signals) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, CHILD],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # A shell ignores SIGINT in what it runs in the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert owner.stdout is not None
    session = int(owner.stdout.readline())
    assert count_becomes(session, count=2, seconds=10)

    owner.send_signal(end)

    assert count_becomes(session, count=0, seconds=10)
    owner.wait()
    owner.stdout.close()
