"""Carries out the plan of the chaos on a cluster."""

from __future__ import annotations

import heapq
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from endurance import clock
from endurance.chaos import Event, faults
from endurance.cluster import Cluster
from endurance.evidence import Window

JUMP_SECONDS = 90.0  # longer than any heartbeat may be late


class Storm:
    """Begins and ends the events of a plan when they are due. :meth:`step` is called again and again.

    :param begin: when the plan begins, in seconds of the monotonic clock.
    """

    def __init__(
        self, cluster: Cluster, plan: list[Event], seed: int, begin: float, say: Callable[[str], None]
    ) -> None:
        self._cluster, self._begin, self._say = cluster, begin, say
        self._chance = random.Random(f"storm {seed}")
        self._order = iter(range(10**9))
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._token = 0
        self.windows: list[Window] = []
        for event in plan:
            self._at(event.at, lambda event=event: self._start(event))

    @property
    def over(self) -> bool:
        """Whether nothing is left to begin or to end."""
        return not self._due

    def step(self) -> None:
        """Do what is due by now."""
        while self._due and self._due[0][0] <= time.monotonic() - self._begin:
            heapq.heappop(self._due)[2]()

    def _at(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (seconds, next(self._order), action))

    def _start(self, event: Event) -> None:
        begin, now = time.time(), time.monotonic() - self._begin
        self._say(str(event))
        undo = getattr(self, f"_{event.what}")(event.target)
        window = len(self.windows)
        self.windows.append(Window(event.what, event.target, begin, begin + event.seconds))

        def end() -> None:
            undo()
            self.windows[window] = Window(event.what, event.target, begin, time.time())

        if undo is not None:
            self._at(now + event.seconds, end)

    # One method for each kind of event. It starts the event and returns the function that ends it.

    def _kill(self, component: str) -> Callable[[], None]:
        self._cluster.airflow.kill(component)
        return lambda: self._cluster.restart(component)

    def _freeze(self, component: str) -> Callable[[], None]:
        self._cluster.airflow.signal(component, signal.SIGSTOP)
        return lambda: self._cluster.airflow.signal(component, signal.SIGCONT)

    def _kill_task(self, component: str) -> Callable[[], None]:
        """Kill one task as soon as the component runs one. If it runs none before the end of the event, nothing is killed."""
        over = False

        def end() -> None:
            nonlocal over
            over = True

        def kill() -> None:
            running = sorted(self._cluster.task_processes(component))
            if running:
                with suppress(ProcessLookupError):
                    os.kill(self._chance.choice(running), signal.SIGKILL)
                self._say(f"         killed a task of {component}")
            elif not over:
                self._at(time.monotonic() - self._begin + 0.5, kill)

        kill()
        return end

    def _faults(self, _: str) -> Callable[[], None]:
        self._cluster.gateway.inject(faults())
        return self._cluster.gateway.clear_faults

    def _kill_gateway(self, _: str) -> Callable[[], None]:
        self._cluster.gateway.kill()
        return self._cluster.gateway.start

    def _upgrade_gateway(self, _: str) -> Callable[[], None]:
        self._cluster.gateway.kill()
        self._cluster.gateway.upgrade()
        return self._cluster.gateway.start

    def _freeze_gateway(self, _: str) -> Callable[[], None]:
        self._cluster.processes.signal("gateway", signal.SIGSTOP)
        return lambda: self._cluster.processes.signal("gateway", signal.SIGCONT)

    def _restart_postgres(self, _: str) -> Callable[[], None]:
        self._cluster.postgres.stop()
        return self._cluster.postgres.start

    def _fill_disk(self, _: str) -> Callable[[], None]:
        disk = self._cluster.disk
        assert disk is not None
        disk.fill()
        return disk.clear

    def _jump_clock(self, component: str) -> Callable[[], None]:
        """At the end, the component starts again with the true time: a monotonic clock never goes back."""
        clock.jump(self._cluster.clock_file, JUMP_SECONDS)

        def correct() -> None:
            self._cluster.airflow.kill(component)
            self._cluster.restart(component)

        return correct

    def _rotate_token(self, _: str) -> Callable[[], None]:
        """Give the connection the other token. At the end, the gateway refuses the previous one."""
        old, new = self._cluster.tokens[self._token % 2], self._cluster.tokens[(self._token + 1) % 2]
        self._cluster.gateway.tokens = [old, new]
        self._token += 1
        self._cluster.gateway.kill()
        self._cluster.gateway.start()
        self._cluster.put_connection(new)

        def refuse() -> None:
            self._cluster.gateway.tokens = [new]
            self._cluster.gateway.kill()
            self._cluster.gateway.start()

        return refuse

    def _delete_connection(self, _: str) -> Callable[[], None]:
        self._cluster.delete_connection()
        return lambda: self._cluster.put_connection(self._cluster.tokens[self._token % 2])
