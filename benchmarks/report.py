"""From figures to the page: benchmarks/results.json, the sections of docs/benchmarks.md between its markers, the plot.

python benchmarks/report.py     write the page and the plot again, from results.json
"""

from __future__ import annotations

import json
import os
import platform
import re
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from contenders import CONTENDERS, PEERS

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_name("results.json")
PAGE = ROOT / "docs" / "benchmarks.md"
PLOT = ROOT / "docs" / "images" / "bench.png"
OURS = ("ours", "ours-many", "ours-anthropic", "ours-anthropic-many")
PACKAGES = (
    "apache-airflow",
    "airflow-provider-bifrost",
    "apache-airflow-providers-openai",
    "apache-airflow-providers-common-ai",
    "apache-airflow-providers-anthropic",
    "apache-airflow-providers-standard",
    "openai",
    "anthropic",
    "httpx",
    "pydantic",
    "msgspec",
    "steadybatch",
)
DAG_FILES = {
    "ours.py": "**this package: `BatchSensor` and each operator**",
    "peer_openai.py": "openai: `OpenAITriggerBatchOperator`",
    "peer_common_ai.py": "common-ai: `LLMBatchOperator`",
    "peer_anthropic.py": "anthropic: `AnthropicBatchSensor`, `AnthropicBatchOperator`",
}
COLOURS = {
    "ours": "#0072b2",
    "ours-many": "#004a7c",
    "ours-anthropic": "#56b4e9",
    "ours-anthropic-many": "#a6d8f5",
    "openai": "#d55e00",
    "common-ai": "#e69f00",
    "anthropic": "#cc79a7",
    "bare": "#009e73",
    "floor": "#888888",
}

Row = dict[str, Any]


def machine() -> Row:
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.+)", info)
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cpu": model.group(1) if model else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def in_words(machine: Row) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    return (
        f"Measured on {machine['date']}: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, "
        f"Python {machine['python']}; {packages}. Load before: {machine['load'][0]:g}."
    )


def in_short(run: Row) -> str:
    ms = "" if run["contender"] == "floor" else f" {1000 * run['latency']:g} ms"
    left = f", {run['unnoticed']} NOT NOTICED" if run["unnoticed"] else ""
    failed = f", {run['failed']} FAILED" if run["failed"] else ""
    return (
        f"{run['contender']} {run['n']}{ms}: {run['seconds']:.0f} s, {requests(run)} requests, {run['connections']} connections, "
        f"CPU {run['cpu']:.2f} s, {run['memory'] / run['n'] / 1024:.1f} KB a batch, block {1000 * run['longest_block']:.0f} ms, "
        f"delay {run['delay_p50']:.2f} / {run['delay_p99']:.2f} s{left}{failed} (load {run['load_before']})"
    )


def requests(run: Row) -> int:
    return sum(run["requests"].values())


def above_floor(run: Row, runs: list[Row]) -> float | None:
    """KB a batch above Airflow's sleeping trigger."""
    floor = next((other for other in runs if other["contender"] == "floor" and other["n"] == run["n"]), None)
    return (run["memory"] - floor["memory"]) / run["n"] / 1024 if floor else None


def table(head: list[str], rows: list[list[str]], left: int = 1) -> str:
    """Markdown; all columns but the first ``left`` are numbers."""
    rule = ["---" if column < left else "--:" for column in range(len(head))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])


def waits(results: Row) -> str:
    runs = results["runs"]
    head = ["Batches", "Latency", "Contender", "Requests", "TCP connections", "CPU, s", "CPU a request, ms"]
    head += [
        "Memory above the floor, KB a batch",
        "Longest block, ms",
        "Longest garbage collection, ms",
        "Delay p50, s",
        "p99, s",
        "Not noticed or failed",
    ]
    rows = []
    for run in runs:
        floor, asked = run["contender"] == "floor", requests(run)
        memory = above_floor(run, runs)
        label = CONTENDERS[run["contender"]].label
        at_least = "≥ " if run["unnoticed"] > run["n"] / 100 else ""
        rows.append(
            [
                f"{run['n']:,}",
                "" if floor else f"{1000 * run['latency']:g} ms",
                f"**{label}**" if run["contender"] in OURS else label,
                "" if floor else f"{asked:,}",
                "" if floor else f"{run['connections']:,}",
                f"{run['cpu']:.2f}",
                f"{1000 * run['cpu'] / asked:.1f}" if asked else "",
                "0" if floor else "" if memory is None else f"{memory:.1f}",
                f"{1000 * run['longest_block']:.0f}",
                f"{1000 * run['longest_collection']:.0f}" if "longest_collection" in run else "",
                f"{'≥ ' if 2 * run['unnoticed'] > run['n'] else ''}{run['delay_p50']:.2f}",
                f"{at_least}{run['delay_p99']:.2f}",
                f"{run['unnoticed'] + run['failed']:,}",
            ]
        )
    return f"{in_words(results['machine'])}\n\n{table(head, rows, left=3)}\n\n{targets(results)}"


def targets(results: Row) -> str:
    """What the package is to reach at 1,000 batches, beside what it did, and the same per batch at the most that were run."""
    runs, interval = results["runs"], results["interval"]
    rows: list[list[str]] = []
    for run in runs:
        if run["contender"] not in OURS or run["n"] < 1000:
            continue
        n, case = run["n"], f"{CONTENDERS[run['contender']].label}, {run['n']:,}, {1000 * run['latency']:g} ms"
        intervals = run["seconds"] / interval
        same = [other for other in runs if (other["n"], other["latency"]) == (n, run["latency"])]
        peers = [other for other in same if other["contender"] in PEERS]
        lists = "anthropic" not in run["contender"]
        if lists:
            _judge(rows, case, "requests an interval", requests(run) / intervals, n / 100 + n / intervals, "{:.0f}")
        if peers and lists:
            done = [peer for peer in peers if not peer["unnoticed"]] or peers
            _judge(rows, case, "CPU, s", run["cpu"], min(peer["cpu"] for peer in done) / 100, "{:.2f}")
        elif peers:
            best = min(1000 * peer["cpu"] / requests(peer) for peer in peers)
            _judge(rows, case, "CPU a request, ms", 1000 * run["cpu"] / requests(run), best / 10, "{:.2f}")
        thousand = next((other for other in runs if _key(other) == (run["contender"], 1000, run["latency"])), run)
        if n > 1000 and thousand is not run:
            limit = 1.1 * thousand["cpu"]
            _judge(rows, case, "CPU a batch, ms: that at 1,000 and a tenth", 1000 * run["cpu"] / n, limit, "{:.2f}")
        if (memory := above_floor(run, runs)) is not None:
            _judge(rows, case, "memory above the floor, KB a batch", memory, 20, "{:.1f}")
        _judge(rows, case, "longest block, ms", 1000 * run["longest_block"], 50, "{:.0f}")
        _judge(rows, case, "delay p99, s", run["delay_p99"], interval + 1, "{:.2f}")
    if not rows:
        return ""
    return "Targets:\n\n" + table(["Wait", "Figure", "Measured", "At most", "Met"], rows, left=2)


def _key(run: Row) -> tuple[str, int, float]:
    return run["contender"], run["n"], run["latency"]


def _judge(rows: list[list[str]], case: str, figure: str, value: float, limit: float, form: str) -> None:
    rows.append([case, figure, form.format(value), form.format(limit), "yes" if value <= limit else "**no**"])


def keep(name: str, results: Row) -> None:
    """Put the results of one benchmark into results.json, and write the page and the plot again."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[name] = results
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    write(kept)


def write(kept: Row) -> None:
    import outage
    import rows
    import triggerer

    sections = {"waits": waits, "triggerer": triggerer.section, "outage": outage.section, "rows": rows.section}
    sections["import"] = imports
    page = PAGE.read_text()
    for name, section in sections.items():
        if name in kept:
            marked = rf"(<!-- bench:{name} -->\n).*?(<!-- /bench:{name} -->)"
            text = section(kept[name])
            page, times = re.subn(marked, lambda found, text=text: f"{found[1]}{text}\n{found[2]}", page, flags=re.S)
            assert times == 1, f"{PAGE} has no place for {name}"
    PAGE.write_text(page)
    if "waits" in kept:
        import plot

        plot.waits(kept["waits"], PLOT)


def imports(results: Row) -> str:
    rows = [[DAG_FILES[name], f"{cpu:.1f}"] for name, cpu in results["cpu"].items()]
    return f"{in_words(results['machine'])}\n\n{table(['DAG file with', 'CPU, ms'], rows)}"


if __name__ == "__main__":
    write(json.loads(RESULTS.read_text()))
