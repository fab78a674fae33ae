"""The section about waits: every contender on its own, and what this package must reach."""

from __future__ import annotations

from contenders import CONTENDERS, PEERS
from figures import OURS, Row, above_floor, in_words, requests, table


def section(results: Row) -> str:
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
    """What the package must reach at 1,000 batches, next to what it reached; and the same per batch at the largest number."""
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
            _compare(rows, case, "requests an interval", requests(run) / intervals, n / 100 + n / intervals, "{:.0f}")
        if peers and lists:
            done = [peer for peer in peers if not peer["unnoticed"]] or peers
            _compare(rows, case, "CPU, s", run["cpu"], min(peer["cpu"] for peer in done) / 100, "{:.2f}")
        elif peers:
            best = min(1000 * peer["cpu"] / requests(peer) for peer in peers)
            _compare(rows, case, "CPU a request, ms", 1000 * run["cpu"] / requests(run), best / 10, "{:.2f}")
        thousand = next((other for other in runs if _key(other) == (run["contender"], 1000, run["latency"])), run)
        if n > 1000 and thousand is not run:
            limit = 1.1 * thousand["cpu"]
            _compare(rows, case, "CPU a batch, ms: that at 1,000 and a tenth", 1000 * run["cpu"] / n, limit, "{:.2f}")
        if (memory := above_floor(run, runs)) is not None:
            _compare(rows, case, "memory above the floor, KB a batch", memory, 20, "{:.1f}")
        _compare(rows, case, "longest block, ms", 1000 * run["longest_block"], 50, "{:.0f}")
        _compare(rows, case, "delay p99, s", run["delay_p99"], interval + 1, "{:.2f}")
    if not rows:
        return ""
    return "Targets:\n\n" + table(["Wait", "Figure", "Measured", "At most", "Met"], rows, left=2)


def _key(run: Row) -> tuple[str, int, float]:
    return run["contender"], run["n"], run["latency"]


def _compare(rows: list[list[str]], case: str, figure: str, value: float, limit: float, form: str) -> None:
    rows.append([case, figure, form.format(value), form.format(limit), "yes" if value <= limit else "**no**"])
