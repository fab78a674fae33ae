"""Something that happens to the gateway in the middle of a wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from airflow_bifrost.testing import LocalGateway

PATIENCE = 60.0  # seconds, for what takes a moment on an idle machine


def until(happened: Callable[[], bool]) -> None:
    """Wait for something that will happen, however slow the machine is."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it has not happened"
        time.sleep(0.01)


@contextmanager
def when(happened: Callable[[], bool], do: Callable[[], object]) -> Iterator[None]:
    """Call ``do`` once, as soon as ``happened`` returns True, however fast the machine is."""
    over = threading.Event()

    def watch() -> None:
        while not happened():
            if over.wait(0.01):
                return
        do()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def after_requests(gateway: LocalGateway, number: int, do: Callable[[], object]) -> AbstractContextManager[None]:
    """Call ``do`` once, when the gateway has had ``number`` requests."""
    return when(lambda: len(gateway.requests) >= number, do)
