"""Something that happens to the gateway in the middle of a wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from airflow_bifrost.testing import LocalGateway


@contextmanager
def after_requests(gateway: LocalGateway, number: int, do: Callable[[], object]) -> Iterator[None]:
    """Call ``do`` once, when the gateway has had ``number`` requests, however fast the machine is."""
    over = threading.Event()

    def watch() -> None:
        while len(gateway.requests) < number:
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
