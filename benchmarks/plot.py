"""The plot of docs/benchmarks.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from contenders import CONTENDERS
from figures import COLOURS, above_floor, requests
from matplotlib import pyplot as plt

STYLES = ("-", "--")


def waits(results: dict[str, Any], path: Path) -> None:
    """Six figures over the number of batches; a line for each contender and latency."""
    runs = results["runs"]
    panels = [
        ("CPU, s", lambda run: run["cpu"], None),
        ("Requests", requests, None),
        ("Memory above the floor, KB a batch", lambda run: max(0.0, above_floor(run, runs) or 0.0), 20),
        ("Longest block of the loop, ms", lambda run: 1000 * run["longest_block"], 50),
        ("From completion to event, p99, s", lambda run: run["delay_p99"], results["interval"] + 1),
        ("TCP connections", lambda run: run["connections"], None),
    ]
    latencies = sorted({run["latency"] for run in runs})
    plt.rcParams.update({"lines.marker": "o", "lines.markersize": 4, "axes.axisbelow": True})
    figure, axes = plt.subplots(2, 3, figsize=(15, 9))
    for axis, (title, value, target) in zip(axes.flat, panels, strict=True):
        for order, name in enumerate(reversed(CONTENDERS)):  # ours on top
            for latency, style in zip(latencies, STYLES, strict=False):
                chosen = [run for run in runs if run["contender"] == name and run["latency"] == latency]
                points = [(run["n"], value(run)) for run in chosen if value(run)]
                if points:
                    axis.plot(*zip(*points, strict=True), color=COLOURS[name], linestyle=style, zorder=2 + order)
        if target:
            axis.axhline(target, color="black", linewidth=0.8, linestyle=":", marker="")
        axis.set(xscale="log", yscale="log", title=title, xlabel="batches")
        axis.grid(alpha=0.3)
    lines = [plt.Line2D([], [], color=COLOURS[name], marker="o") for name in CONTENDERS]
    labels = [kind.label.replace("`", "") for kind in CONTENDERS.values()]
    lines += [
        plt.Line2D([], [], color="black", linestyle=style, marker="") for style in (*STYLES[: len(latencies)], ":")
    ]
    labels += [*(f"answers take {1000 * latency:g} ms" for latency in latencies), "target for this package, at most"]
    figure.legend(lines, labels, loc="lower center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0.11, 1, 1))
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
