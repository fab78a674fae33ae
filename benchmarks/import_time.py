"""What a DAG file that uses this package costs to parse, above what Airflow itself costs there.

Airflow's DAG processor parses each DAG file in a new process. Each run here is a fresh interpreter too. It imports ``airflow.sdk``
and runs ``dags/bare.py``, a sensor and an operator on Airflow's own base classes, so that all that Airflow loads is loaded. Then
it times, side by side, ``dags/bare.py`` once more and ``dags/ours.py``, which has every public operator of this package. Their
difference is the cost. CPU time decides, for it does not count what else the machine does.

    python benchmarks/import_time.py [--runs 15] [--limit 30]
    python benchmarks/import_time.py --peers    compared with DAG files of other providers; needs them, and writes docs/benchmarks.md
"""

# ruff: noqa: S603, T201 - a script: it prints, and it starts interpreters

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import figures

DAGS = Path(__file__).parent / "dags"
BARE, OURS = DAGS / "bare.py", DAGS / "ours.py"
PEERS = [DAGS / f"peer_{name}.py" for name in ("openai", "common_ai", "anthropic")]
CLOCKS = ("wall", "cpu")

CHILD = """
import json, runpy, sys, time

def timed(step):
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    return {"wall": 1000 * (time.perf_counter() - wall), "cpu": 1000 * (time.process_time() - cpu)}

bare, subject = sys.argv[1:]
times = {"import airflow.sdk": timed(lambda: __import__("airflow.sdk"))}
times["bare.py, first"] = timed(lambda: runpy.run_path(bare))
before = set(sys.modules)
times["bare.py, again"] = timed(lambda: runpy.run_path(bare))
times["subject"] = timed(lambda: runpy.run_path(subject))
print(json.dumps({"times": times, "loaded": sorted(set(sys.modules) - before)}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15, help="fresh interpreters (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=30.0, help="ms that it may cost (default: %(default)s)")
    parser.add_argument("--peers", action="store_true", help="measure other providers' DAG files too")
    options = parser.parse_args()
    unused = [name for name in public_operators() if name not in OURS.read_text()]
    if unused:
        print(f"{OURS} does not use {', '.join(unused)}", file=sys.stderr)
        return 2

    subjects = [OURS, *PEERS] if options.peers else [OURS]
    with tempfile.TemporaryDirectory() as home:
        for subject in subjects:
            measure(home, subject)  # byte code, the file cache, Airflow's own first start
        runs = [[measure(home, subject) for subject in subjects] for _ in range(options.runs)]

    print(f"Python {sys.version.split()[0]}, median of {options.runs} fresh interpreters, in ms\n")
    print(f"{'':24} {'wall':>8} {'CPU':>8}")
    for row in ("import airflow.sdk", "bare.py, first", "bare.py, again"):
        wall, cpu = (statistics.median(run[0]["times"][row][clock] for run in runs) for clock in CLOCKS)
        print(f"{row:24} {wall:8.1f} {cpu:8.1f}")
    costs = {subject.name: _cost([run[place] for run in runs]) for place, subject in enumerate(subjects)}
    print("\nCost above bare.py, again:")
    for name, (wall, cpu) in costs.items():
        print(
            f"{name:24} {wall:8.1f} {cpu:8.1f}"
            + (f"   (at most {options.limit:g}, of CPU)" if name == OURS.name else "")
        )

    loaded = runs[-1][0]["loaded"]
    ours = [name for name in loaded if name.partition(".")[0] == "airflow_bifrost"]
    print("\nModules of this package that were loaded:", *ours, sep="\n  ")
    print("\nOther modules that ours.py loads:", *(sorted(set(loaded) - set(ours)) or ["none"]), sep="\n  ")
    if options.peers:
        figures.keep("import", {"machine": figures.machine(), "cpu": {name: cpu for name, (_, cpu) in costs.items()}})
    return 1 if costs[OURS.name][1] > options.limit else 0


def _cost(runs: list[dict[str, Any]]) -> list[float]:
    """Medians above ``bare.py``, by clock."""
    return [
        statistics.median(run["times"]["subject"][clock] - run["times"]["bare.py, again"][clock] for run in runs)
        for clock in CLOCKS
    ]


def public_operators() -> list[str]:
    import airflow_bifrost

    return [name for name in airflow_bifrost.__all__ if name.endswith(("Operator", "Sensor"))]


def measure(home: str, subject: Path) -> dict[str, Any]:
    """One fresh interpreter, which knows no Airflow but an empty one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(BARE), str(subject)],
        env={**environment, "AIRFLOW_HOME": home},
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        raise SystemExit(child.stderr)
    result: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    sys.exit(main())
