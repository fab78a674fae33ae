"""What the benchmarks share: the machine, results.json, and figures as text and tables."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

REPORT = Path(__file__).with_name("report.py")
RESULTS = Path(__file__).with_name("results.json")
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


def put(page: Path, name: str, text: str) -> None:
    """Replace the text between the markers of ``name`` in a page."""
    marked = rf"(<!-- bench:{name} -->\n).*?(<!-- /bench:{name} -->)"
    content, times = re.subn(marked, lambda found: f"{found[1]}{text}\n{found[2]}", page.read_text(), flags=re.S)
    assert times == 1, f"{page} has no place for {name}"
    page.write_text(content)


def keep(name: str, results: Row) -> None:
    """Put the results of one benchmark into results.json, and let report.py write the page and the plot again."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[name] = results
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    subprocess.run([sys.executable, REPORT], check=True)  # noqa: S603 - a script of this folder
