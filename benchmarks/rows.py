"""Rows in, rows out: how many a second go through split, submission, download and join, and how much memory that takes.

    python benchmarks/rows.py [--only ours msgspec] [--rounds 3]

Each contender begins with prompts in a JSONL file and ends with a file of rows; each run has a fresh process and a fresh gateway
(rows_gateway.py), whose batches are completed at once. The figures are the medians of the rounds.
"""

# ruff: noqa: S603, T201 - a script: it prints, and it starts interpreters

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import figures
from rows_gateway import gateway
from run import environment

MEASURE = Path(__file__).with_name("rows_measure.py")
ROWS = 100_000
REACH = 1_000  # rows that an answer is away from its place
NO_ORDER = 50_000  # a whole batch
LABELS = {
    "ours": "**this package: `BatchRunOperator`**",
    "common-ai": "common-ai: `LLMBatchOperator`",
    "steadybatch": "steadybatch",
    "msgspec": "msgspec alone: decodes and encodes the results",
}
PEERS = ("common-ai", "steadybatch")
FIGURES = ("seconds", "making", "cpu", "memory")


@dataclass(frozen=True)
class Run:
    contender: str
    n: int = ROWS
    reach: int = REACH

    def measure(self) -> dict[str, float]:
        with gateway(self.reach) as url, tempfile.TemporaryDirectory() as home:
            child = subprocess.run(
                [sys.executable, MEASURE, self.contender, str(self.n), url],
                env=environment(home) | {"AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"},
                stdout=subprocess.PIPE,
                text=True,
                check=False,
            )
        if child.returncode:
            raise SystemExit(f"{self} failed")
        return dict(json.loads(child.stdout.splitlines()[-1]))


RUNS = (
    Run("ours", 10_000),
    Run("ours"),
    Run("ours", reach=NO_ORDER),
    Run("ours", 200_000),
    Run("common-ai"),
    Run("steadybatch"),
    Run("msgspec"),
)


def section(results: dict[str, Any]) -> str:
    runs = results["runs"]
    head = ["Rows", "Contender", "Rows a second", "Seconds", "CPU a row, µs", "Peak memory, MB"]
    rows = [
        [
            f"{run['n']:,}",
            LABELS[run["contender"]] + (", results in no order" if run["reach"] == NO_ORDER else ""),
            f"{rate(run):,.0f}",
            f"{run['seconds']:.1f}",
            f"{1e6 * run['cpu'] / run['n']:.1f}",
            f"{run['memory'] / 1e6:.1f}",
        ]
        for run in runs
    ]
    return f"{figures.in_words(results['machine'])}\n\n{figures.table(head, rows, left=2)}\n\n{targets(runs)}"


def rate(run: dict[str, Any]) -> float:
    return float(run["n"] / run["seconds"])


def targets(runs: list[dict[str, Any]]) -> str:
    """What the package is to reach, next to what it did; empty for a quick run."""
    kept = {(run["contender"], run["n"], run["reach"]): run for run in runs}
    if set(kept) != {(run.contender, run.n, run.reach) for run in RUNS}:
        return ""
    peer = max(rate(kept[name, ROWS, REACH]) for name in PEERS)
    alone = rate(kept["msgspec", ROWS, REACH])
    least = kept["ours", 10_000, REACH]["memory"]
    rows: list[list[str]] = []

    def raise_unless_accepted(figure: str, value: float, limit: float, met: bool, form: str) -> None:
        rows.append([figure, form.format(value), form.format(limit), "yes" if met else "**no**"])

    for reach, case in ((REACH, ""), (NO_ORDER, ", results in no order")):
        own = rate(kept["ours", ROWS, reach])
        raise_unless_accepted(
            f"rows a second{case}: at least five times the better peer's", own, 5 * peer, own >= 5 * peer, "{:,.0f}"
        )
        raise_unless_accepted(
            f"rows a second{case}: at least a third of msgspec's alone", own, alone / 3, own >= alone / 3, "{:,.0f}"
        )
    most = kept["ours", 200_000, REACH]["memory"]
    figure = "peak memory at 200,000 rows, MB: at most a fifth above that at 10,000"
    raise_unless_accepted(figure, most / 1e6, 1.2 * least / 1e6, most <= 1.2 * least, "{:.1f}")
    return "Targets:\n\n" + figures.table(["Figure", "Measured", "Limit", "Met"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=LABELS, default=list(LABELS), help="written nowhere then")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    machine = figures.machine()
    runs = [run for run in RUNS if run.contender in options.only]
    measured: dict[Run, list[dict[str, float]]] = {run: [] for run in runs}
    for _ in range(options.rounds):
        for run in runs:
            measured[run].append(run.measure())
            print(run, measured[run][-1], flush=True)
    results = [
        {"contender": run.contender, "n": run.n, "reach": run.reach}
        | {figure: median(each[figure] for each in measured[run]) for figure in FIGURES}
        for run in runs
    ]
    kept = {"machine": machine, "rounds": options.rounds, "runs": results}
    print(section(kept))
    if options.only == list(LABELS) and options.rounds >= 3:
        figures.keep("rows", kept)


if __name__ == "__main__":
    main()
