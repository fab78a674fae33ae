"""Lets something happen at a step of a worker: it is killed or stopped, or another worker takes its turn.

A step is whatever leaves a trace outside of the worker: a request, a write of a record, a file. There is one before and one after each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from itertools import chain, repeat
from typing import Any

PATIENCE = 120.0  # seconds; no worker waits that long for its turn


class Killed(BaseException):
    """The worker got SIGKILL."""


class Steps:
    """Counts the steps of each worker that runs in a thread of its own, or one after the other in one thread."""

    def __init__(self) -> None:
        self._on_step: dict[int, Callable[[int], None]] = {}
        self._on_pause: dict[int, Callable[[], None]] = {}
        self._taken: dict[int, int] = {}

    @contextmanager
    def of_this_thread(
        self, on_step: Callable[[int], None], on_pause: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        """Call ``on_step`` with the number of each step that this thread takes, from 1, and ``on_pause`` when it sleeps."""
        me = threading.get_ident()
        self._on_step[me], self._on_pause[me], self._taken[me] = on_step, on_pause, 0
        try:
            yield
        finally:
            del self._on_step[me], self._on_pause[me]

    def take(self) -> None:
        me = threading.get_ident()
        if (on_step := self._on_step.get(me)) is not None:
            self._taken[me] += 1
            on_step(self._taken[me])

    def pause(self) -> None:
        if (on_pause := self._on_pause.get(threading.get_ident())) is not None:
            on_pause()

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with a step before and one after."""

        @wraps(function)
        def stepping(*args: Any, **kwargs: Any) -> Any:
            self.take()
            result = function(*args, **kwargs)
            self.take()
            return result

        return stepping


class Turns:
    """Two workers that run one at a time.

    :param lengths: how many steps each takes before it is the other's turn, in order.
    """

    def __init__(self, lengths: Iterable[int]) -> None:
        self._lengths = chain(lengths, repeat(10**9))
        self._left = next(self._lengths)
        self._turn = 0
        self._over: set[int] = set()
        self._changed = threading.Condition()

    def step(self, me: int) -> None:
        with self._changed:
            self._left -= 1
            if self._left <= 0:
                self._pass_to(1 - me)
            self._wait_for(me)

    def pause(self, me: int) -> None:
        """A worker sleeps: the other one runs until it sleeps too, or ends."""
        with self._changed:
            if 1 - me not in self._over:
                self._turn, self._left = 1 - me, 10**9
                self._changed.notify_all()
            self._wait_for(me)

    def begin(self, me: int) -> None:
        with self._changed:
            self._wait_for(me)

    def end(self, me: int) -> None:
        with self._changed:
            self._over.add(me)
            self._pass_to(1 - me)

    def _pass_to(self, other: int) -> None:
        self._turn, self._left = other, next(self._lengths)
        self._changed.notify_all()

    def _wait_for(self, me: int) -> None:
        assert self._changed.wait_for(lambda: self._turn == me or 1 - me in self._over, PATIENCE)
