"""A thousand deferred tasks in a real Airflow: what its triggerer pays for them, and how long a task takes to go on.

    PYTHONPATH=tests python benchmarks/triggerer.py [--only ours] [--n 1000]

A real Airflow is started for each contender (SQLite, LocalExecutor, all of it on this machine). A DAG with N mapped sensors defers them
all. While all wait, the triggerer's two processes are measured for a minute: the runner, where the triggers run, and its supervisor,
which speaks with the database. Then a batch is done each second, and the time from there to the task's success is taken.
"""

# ruff: noqa: T201 - a script: it prints

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import figures
import psutil
from contenders import CONTENDERS
from gateway import Gateway
from measure import percentile
from support.local_airflow import LocalAirflow
from wire import batch_id

DAGS = Path(__file__).with_name("triggerer_dags")
SUBJECTS = ("ours", "floor")
LATENCY = 0.05  # seconds that each answer takes
START = 90.0  # seconds that Airflow may take to start
FAR = 86_400.0  # seconds
PROCESSES = ("supervisor", "runner")


def in_a_triggerer(name: str, gateway: Gateway, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    n = options.n
    # A batch a second, and one that all begins with. The floor must know when before it is deferred.
    first = time.time() + START + (options.defer_within if name == "floor" else FAR) + options.window
    moments = gateway.script(n + 1, first, first + n, LATENCY)
    case = folder / "case.json"
    ids = [batch_id(index) for index in range(n + 1)]
    contender = {"contender": name, "interval": options.interval, "batch_ids": ids, "moments": moments}
    case.write_text(json.dumps(contender))
    settings = {
        **CONTENDERS[name].connection(gateway.url),
        "BENCH_CASE": str(case),
        "AIRFLOW__CORE__PARALLELISM": "8",
        "AIRFLOW__CORE__MAX_MAP_LENGTH": str(max(n, 1024)),
        "AIRFLOW__TRIGGERER__CAPACITY": str(n + 1),
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
    }
    with LocalAirflow(DAGS, env=settings) as airflow:
        processes = dict(zip(PROCESSES, _triggerer(), strict=True))
        run_id = airflow.trigger("one_wait")
        airflow.wait_for("one_wait", run_id, "wait", "deferred", timeout=60, map_index=0)
        time.sleep(10)
        before = {what: _memory(process) for what, process in processes.items()}
        run_id = airflow.trigger("waits")
        began = time.time()
        instances = f"/api/v2/dags/waits/dagRuns/{run_id}/taskInstances"

        def number(state: str) -> int:
            query = {"state": state, "limit": 1}
            return int(airflow.request("GET", instances, params=query)["total_entries"])

        airflow.until(lambda: number("deferred") >= n, f"{n} deferred tasks", options.defer_within)
        deferral = time.time() - began
        time.sleep(5)  # the last triggers are taken up
        if name != "floor":
            first = time.time() + options.window
            moments = gateway.script(n + 1, first, first + n, LATENCY)
        asked = sum(gateway.counters()["requests"].values())
        cpu, clock = {what: _cpu(process) for what, process in processes.items()}, time.time()
        time.sleep(options.window)
        seconds = time.time() - clock
        cost = {what: (_cpu(process) - cpu[what]) / seconds for what, process in processes.items()}
        asked = sum(gateway.counters()["requests"].values()) - asked
        memory = {what: _memory(process) - before[what] for what, process in processes.items()}
        time.sleep(max(0.0, first - time.time()) + options.resumes + 15)

        until, ended = first + options.resumes, []
        for offset in range(0, n, 100):
            query = {"state": ["success", "failed"], "limit": 100, "offset": offset, "order_by": "map_index"}
            ended += airflow.request("GET", instances, params=query)["task_instances"]
        due = [index for index, moment in enumerate(moments[:n]) if moment <= until]
        times = {each["map_index"]: each for each in ended if each["state"] == "success"}
        delays = [_moment(times[index]["end_date"]) - moments[index] for index in due if index in times]
        queued = [_moment(times[index]["queued_when"]) - moments[index] for index in due if index in times]
    return {
        "contender": name,
        "n": n,
        "deferral": deferral,
        "requests": asked,
        "window": seconds,
        "cpu": cost,
        "memory": memory,
        "resumed": len(delays),
        "due": len(due),
        "failed": sum(each["state"] == "failed" for each in ended),
        **{f"queued_p{percent}": percentile(queued, percent) for percent in (50, 99)},
        **{f"resume_p{percent}": percentile(delays, percent) for percent in (50, 99)},
    }


def _triggerer() -> tuple[psutil.Process, psutil.Process]:
    """Supervisor and runner, of the one Airflow that this process has started."""
    found = [process for process in psutil.Process().children(recursive=True) if "triggerer" in process.cmdline()]
    supervisor = min(found, key=lambda process: len(process.parents()))
    (runner,) = supervisor.children()
    return supervisor, runner


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _memory(process: psutil.Process) -> int:
    """Bytes; what the two share is counted half for each."""
    return int(process.memory_full_info().pss)


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def section(results: dict[str, Any]) -> str:
    head = [
        "Contender",
        "Requests a minute",
        "CPU of the runner, %",
        "of the supervisor, %",
        "Memory of the runner, KB a trigger",
    ]
    head += ["Completion to queued, p50, s", "p99, s", "Completion to success, p50, s", "p99, s", "Resumed", "Failed"]
    rows = []
    for run in results["runs"]:
        label = CONTENDERS[run["contender"]].label
        rows.append(
            [
                f"**{label}**" if run["contender"] in figures.OURS else label,
                f"{60 * run['requests'] / run['window']:,.0f}",
                *(f"{100 * run['cpu'][what]:.1f}" for what in ("runner", "supervisor")),
                f"{run['memory']['runner'] / run['n'] / 1024:.1f}",
                *(
                    "" if run[figure] is None else f"{run[figure]:.1f}"
                    for figure in ("queued_p50", "queued_p99", "resume_p50", "resume_p99")
                ),
                f"{run['resumed']} of {run['due']}",
                str(run["failed"]),
            ]
        )
    return f"{figures.in_words(results['machine'])}\n\n{figures.table(head, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=list(SUBJECTS), help="written nowhere then")
    parser.add_argument("--n", type=int, default=1000, help="waits")
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between two looks")
    parser.add_argument("--defer-within", type=float, default=900.0, help="seconds from start to the last deferral")
    parser.add_argument("--window", type=float, default=60.0, help="seconds of measuring while all wait")
    parser.add_argument("--resumes", type=int, default=120, help="batches that are done, one a second")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # Airflow keeps a log file open for each trigger
    results: dict[str, Any] = {"machine": figures.machine(), "runs": []}
    with Gateway.start() as gateway, tempfile.TemporaryDirectory() as folder:
        for name in options.only:
            if results["runs"]:  # the floor comes last, and is given no longer than the others needed
                longest = max(run["deferral"] for run in results["runs"])
                options.defer_within = min(options.defer_within, 1.3 * longest + 30)
            results["runs"].append(in_a_triggerer(name, gateway, Path(folder), options))
            print(results["runs"][-1], flush=True)
    print(section(results))
    if options.only == list(SUBJECTS) and options.n == 1000:
        figures.keep("triggerer", results)


if __name__ == "__main__":
    main()
