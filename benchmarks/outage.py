"""A thousand waits, and the gateway is away for a minute. It stands for ten minutes with a poll interval of 50 s, not 5 s.

    python benchmarks/outage.py [--only ours bare] [--n 1000] [--away 60]

All batches are done while it is away, so all are due when it is back. Away is: every connection is reset at once, so that each try
is counted. How long a contender itself pauses after a fault is not compressed.
"""

# ruff: noqa: S603, T201 - a script: it prints, and it starts interpreters

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import figures
from contenders import CONTENDERS
from gateway import Gateway
from run import MEASURE, environment

FIRST = 20.0  # seconds from the first wait to the outage
PATIENCE = 120.0  # seconds after it
SUBJECTS = ("ours", "ours-anthropic", "openai", "common-ai", "anthropic", "bare")


def through_it(name: str, gateway: Gateway, home: str, options: argparse.Namespace) -> dict[str, Any]:
    end = FIRST + options.away
    arguments = ["--first", FIRST, "--seconds", end, "--cap", end + PATIENCE, "--interval", options.interval]
    arguments += ["--gateway", gateway.port, gateway.control_port]
    gateway.script(0, 0, 0, 0)
    output = Path(home, "output")  # no pipe: nobody reads it meanwhile, and a child whose warnings fill it stands still
    with output.open("w") as file:
        child = subprocess.Popen(
            [sys.executable, MEASURE, name, *map(str, [options.n, *arguments])],
            env=environment(home) | CONTENDERS[name].connection(gateway.url),
            stdout=file,
        )
    while (script := gateway.counters())["batches"] != options.n:
        if child.poll() is not None:
            raise SystemExit(f"{name} failed")
        time.sleep(0.1)
    time.sleep(script["first"] - time.time())
    gateway.away(True)
    time.sleep(script["last"] - time.time())
    gateway.away(False)
    back = time.time()
    if child.wait():
        raise SystemExit(f"{name} failed")
    result = json.loads(output.read_text().splitlines()[-1])
    seen = gateway.moments()
    return {
        "contender": name,
        "n": options.n,
        "before": sum(script["first"] - 5 <= moment < script["first"] for moment in seen["arrivals"]) / 5,
        "tried": len(seen["refusals"]),
        "first_second": sum(back <= moment < back + 1 for moment in seen["arrivals"]),
        "failed": result["failed"],
        "unnoticed": result["unnoticed"],
        "last": result["last_event"] - back,
    }


def section(results: dict[str, Any]) -> str:
    head = ["Contender", "Requests a second before", "Requests during the outage", "Requests in the first second after"]
    head += ["Waits that failed", "Last noticed, s after"]
    rows = []
    for run in results["runs"]:
        label = CONTENDERS[run["contender"]].label
        last = f"{run['last']:.1f}"
        if run["unnoticed"]:
            last = f"{run['unnoticed']:,} not within {PATIENCE:.0f}"
        elif run["failed"] == run["n"]:
            last = "never"
        rows.append(
            [
                f"**{label}**" if run["contender"] in figures.OURS else label,
                f"{run['before']:.0f}",
                f"{run['tried']:,}",
                f"{run['first_second']:,}",
                f"{run['failed']:,}",
                last,
            ]
        )
    return f"{figures.in_words(results['machine'])}\n\n{figures.table(head, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=list(SUBJECTS), help="written nowhere then")
    parser.add_argument("--n", type=int, default=1000, help="waits")
    parser.add_argument("--away", type=float, default=60.0, help="seconds")
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between two looks")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": figures.machine(), "runs": []}
    with Gateway.start() as gateway, tempfile.TemporaryDirectory() as home:
        for name in options.only:
            results["runs"].append(through_it(name, gateway, home, options))
            print(results["runs"][-1], flush=True)
    print(section(results))
    if options.only == list(SUBJECTS) and (options.n, options.away) == (1000, 60.0):
        figures.keep("outage", results)


if __name__ == "__main__":
    main()
