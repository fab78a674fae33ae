"""Waits for N batches, by this package and by others, one after the other in fresh processes against one scripted gateway.

python benchmarks/run.py                       all of it, 45 minutes: writes results.json, docs/benchmarks.md and the plot
python benchmarks/run.py --quick               three minutes; the figures are not written
python benchmarks/run.py --only ours floor     while developing; written nowhere
python benchmarks/run.py --sizes 10,100 --latency 50
"""

# ruff: noqa: S603, T201 - a script: it prints, and it starts interpreters

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import figures
import waits
from contenders import CONTENDERS
from gateway import Gateway

MEASURE = Path(__file__).with_name("measure.py")
MANY = 10_000  # batches that only these wait for
MANY_BY = ("ours-many", "floor")
SETTING_FROM = 1000  # batches, from which on more requests at a time than by default are worth a run
FEW = 100  # batches; up to these a run takes a third of the time


@dataclass(frozen=True)
class Run:
    """One contender, once."""

    contender: str
    n: int
    latency: float
    interval: float
    seconds: float

    @property
    def cap(self) -> float:
        """Seconds after which it is stopped, done or not."""
        return 2 * self.seconds

    def measure(self, gateway: Gateway, home: str) -> dict[str, Any]:
        arguments = [self.contender, self.n, "--gateway", gateway.port, gateway.control_port, "--latency", self.latency]
        arguments += ["--interval", self.interval, "--seconds", self.seconds, "--cap", self.cap]
        before = os.getloadavg()[0]
        child = subprocess.run(
            [sys.executable, MEASURE, *map(str, arguments)],
            env=environment(home) | CONTENDERS[self.contender].connection(gateway.url),
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if child.returncode:
            raise SystemExit(f"{self} failed")
        return asdict(self) | json.loads(child.stdout.splitlines()[-1]) | {"load_before": round(before, 2)}


def environment(home: str) -> dict[str, str]:
    """Of a process that knows no Airflow but an empty one, and whose log lines cost nothing: they are not what is measured."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return inherited | {"AIRFLOW_HOME": home, "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}


def plan(options: argparse.Namespace) -> list[Run]:
    runs = []
    for n in options.sizes:
        seconds = options.seconds / 3 if n <= FEW else options.seconds
        for latency in options.latency:
            for name in options.only:
                asks_nobody_again = name == "floor" and latency != options.latency[0]
                too_few = name.endswith("-many") and n < SETTING_FROM
                if not asks_nobody_again and not too_few and (n < MANY or name in MANY_BY):
                    runs.append(Run(name, n, latency / 1000, options.interval, seconds))
    return runs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=_numbers, default=[10, 100, 1000, MANY], help="batches, such as 10,100")
    parser.add_argument("--latency", type=_numbers, default=[50, 500], help="ms, such as 50,500")
    parser.add_argument("--seconds", type=float, default=60.0, help=f"of a run; up to {FEW} batches, a third")
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between two polls")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="these contenders")
    parser.add_argument("--quick", action="store_true", help="100 batches, 50 ms")
    options = parser.parse_args()
    if options.quick:
        options.sizes, options.latency, options.seconds = [100], [50], 45.0

    runs, results = plan(options), []
    print(f"{len(runs)} runs, {sum(run.seconds + 8 for run in runs) / 60:.0f} minutes if all end in time")
    began, machine = time.monotonic(), figures.machine()
    with Gateway.start() as gateway, tempfile.TemporaryDirectory() as home:
        for number, run in enumerate(runs, 1):
            result = run.measure(gateway, home)
            results.append(result)
            print(f"{number}/{len(runs)} {figures.in_short(result)}", flush=True)
    minutes = (time.monotonic() - began) / 60
    kept = {"machine": machine, "minutes": round(minutes, 1), "interval": options.interval, "runs": results}
    print(f"\n{minutes:.0f} minutes\n\n{waits.section(kept)}")
    if options.quick or set(options.only) != set(CONTENDERS):
        print("\nA partial run: results.json and the docs stay as they are.")
    else:
        figures.keep("waits", kept)
    return 0


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
