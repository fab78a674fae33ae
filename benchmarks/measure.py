"""One contender, once, in this fresh process: N waits in one event loop, and what they cost. Prints one line of JSON.

    python benchmarks/measure.py CONTENDER N --gateway PORT CONTROL_PORT [--latency 0.05] [--interval 5] [--first 5] [--seconds 60] [--cap 120]

Before anything is counted, one wait for a batch that is done already loads what is loaded once. Then the waits begin, spread over one
interval, as a triggerer takes them up by and by; the batches are done between ``--first`` and ``--seconds``.
"""

# ruff: noqa: T201 - a script: it prints

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import os
import resource
import selectors
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from contenders import CONTENDERS, Contender
from gateway import Gateway

START_EVERY = 0.05  # seconds; at each step a few waits are begun


class Selector(selectors.EpollSelector):
    """Knows the longest time for which the loop could not turn to anything new. Unlike a ticking coroutine it costs next to nothing.

    That is the time between two visits here, and what a visit took beyond its timeout: the wait for Python's lock. The time in which
    the thread was ready to run and the kernel let another process run is not counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self._queue = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
        self.reset()

    def reset(self) -> None:
        self._inside, self._longest, self._since = False, 0.0, self._clock()

    def select(self, timeout: float | None = None) -> Any:
        came = self._clock()
        self._longest = max(self._longest, came - self._since)
        self._inside = True
        ready = super().select(timeout)
        self._since, self._inside = self._clock(), False
        if timeout is not None:
            self._longest = max(self._longest, self._since - came - max(timeout, 0.0))
        return ready

    def longest_block(self) -> float:
        """In seconds, one that still lasts included."""
        return self._longest if self._inside else max(self._longest, self._clock() - self._since)

    def _clock(self) -> float:
        return time.perf_counter() - int(os.pread(self._queue, 64, 0).split()[1]) / 1e9


class GarbageCollection:
    """The longest pass of Python's garbage collector, in seconds. It walks through all that Airflow has loaded, too."""

    def __init__(self) -> None:
        self.longest, self._began = 0.0, 0.0
        gc.callbacks.append(self._pass)

    def _pass(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.longest = max(self.longest, time.perf_counter() - self._began)


class Measurement:
    """Of one run: begun when made, read by :meth:`result` at any moment and from any thread."""

    def __init__(self, gateway: Gateway, selector: Selector, done_at: list[float], latency: float) -> None:
        self.gateway, self.selector, self.done_at, self.latency = gateway, selector, done_at, latency
        self.events: list[tuple[float, bool] | None] = [None] * len(done_at)
        gc.collect()
        self.collection = GarbageCollection()
        Path("/proc/self/clear_refs").write_text("5")  # forget the highest memory so far
        self.memory = _memory("VmRSS")
        selector.reset()
        self.began, self.cpu = time.monotonic(), _cpu()

    def result(self) -> dict[str, Any]:
        cpu, seconds = _cpu() - self.cpu, time.monotonic() - self.began
        now, n = time.time(), len(self.done_at)
        delays, unnoticed, failed = [], 0, 0
        for event, done_at in zip(list(self.events), self.done_at, strict=True):
            if event is None:
                unnoticed += 1
                delays.append(max(0.0, now - done_at))  # at least
            elif event[1]:
                delays.append(event[0] - done_at)
            else:
                failed += 1
        counters = self.gateway.counters()
        return {
            "n": n,
            "latency": self.latency,
            "seconds": seconds,
            "requests": counters["requests"],
            "connections": counters["connections"],
            "cpu": cpu,
            "memory": _memory("VmHWM") - self.memory,
            "longest_block": self.selector.longest_block(),
            "longest_collection": self.collection.longest,
            "delay_p50": percentile(delays, 50),
            "delay_p99": percentile(delays, 99),
            "delay_max": max(delays, default=None),
            "unnoticed": unnoticed,
            "failed": failed,
            "last_event": max((event[0] for event in self.events if event), default=None),
        }


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _memory(name: str) -> int:
    """Bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def percentile(values: list[float], percent: float) -> float | None:
    """The smallest value that ``percent`` of them do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)] if values else None


async def run(contender: type[Contender], gateway: Gateway, selector: Selector, options: argparse.Namespace) -> None:
    gateway.script(1, 0, 0, options.latency)
    warm = contender(gateway.url, 1.0)
    _, good = await warm.wait(0, time.time())
    await warm.close()
    if not good:
        raise SystemExit(f"{contender.__name__} does not work here")

    began = time.time()
    done_at = gateway.script(options.n, began + options.first, began + options.seconds, options.latency)
    subject = contender(gateway.url, options.interval)
    measurement = Measurement(gateway, selector, done_at, options.latency)
    # Not by the loop, which a contender may block for minutes.
    limit = threading.Timer(options.cap, finish, [measurement])
    limit.daemon = True
    limit.start()

    async def one(index: int) -> None:
        try:
            measurement.events[index] = await subject.wait(index, done_at[index])
        except Exception:  # noqa: BLE001 - one that breaks is a figure, too
            measurement.events[index] = time.time(), False
            traceback.print_exc()

    async with asyncio.TaskGroup() as waits:
        begun = 0
        while begun < options.n:
            target = min(options.n, math.ceil(options.n * (time.time() - began + START_EVERY) / options.interval))
            target = min(target, begun + math.ceil(options.n * START_EVERY / options.interval))
            for index in range(begun, target):
                waits.create_task(one(index))
            begun = target
            await asyncio.sleep(START_EVERY)
    limit.cancel()
    finish(measurement)


def finish(measurement: Measurement) -> None:
    print(json.dumps(measurement.result()), flush=True)
    os._exit(0)  # threads may hang in requests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("n", type=int)
    parser.add_argument("--gateway", type=int, nargs=2, required=True, metavar=("PORT", "CONTROL_PORT"))
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--interval", type=float, default=5.0)
    parser.add_argument("--first", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--cap", type=float, default=120.0)
    options = parser.parse_args()
    selector = Selector()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(run(CONTENDERS[options.contender], Gateway(*options.gateway), selector, options))


if __name__ == "__main__":
    main()
