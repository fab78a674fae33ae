"""Simulates how many waits the triggerers of a deployment can take, in virtual time: no clock, no HTTP, only a triggerer's own schedule.

    make bench-sizing

Writes the table of docs/sizing.md, in half a minute.
"""

# ruff: noqa: T201 - a script: it prints

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import quantiles

import figures
from support.simulation import NOW, Simulation

from airflow_bifrost.waiting.policy import WaitPolicy

PAGE = Path(__file__).parent.parent / "docs" / "sizing.md"
WARM_UP = 180.0  # seconds until the hub has found its pages and every wait was polled
MEASURED = 600.0  # seconds
ENDING = 0.1  # share of the batches that end in that time
CPU_OF_A_REQUEST = 0.002  # seconds, measured: docs/benchmarks.md


@dataclass(frozen=True)
class Deployment:
    """A number of waits, and the triggerers and settings that poll them."""

    waits: int
    triggerers: int
    provider: str
    interval: float
    latency: float
    max_in_flight: int

    def simulate(self) -> tuple[float, float, float]:
        """Requests a minute of all triggerers, and the median and 99th percentile of the seconds from an end to its event.

        The triggerers share nothing, and each has the same number of waits, so one is simulated.
        """
        chance = Random(1)
        each = self.waits // self.triggerers
        ids = [f"batch_{number}" for number in range(each)]
        simulation = Simulation(ids, latency=self.latency, max_in_flight=self.max_in_flight)
        policy = WaitPolicy(self.interval, NOW + 86_400, 300.0)
        for number, batch_id in enumerate(ids):  # first polls are spread over an interval
            simulation.wait(batch_id, policy, self.provider, after=self.interval * number / each)
        simulation.run(WARM_UP)
        before = len(simulation.asked)
        begin = simulation.now
        ends = {
            number: begin + chance.uniform(0, MEASURED) for number in chance.sample(range(each), int(each * ENDING))
        }
        delays: list[float] = []
        waiting = dict(ends)
        while waiting:
            simulation.run(1.0)
            for number, at in list(waiting.items()):
                if at <= simulation.now:
                    simulation.status[ids[number]] = "completed"
                if simulation.waits[number].end is not None:
                    delays.append(simulation.now - at)
                    del waiting[number]
        seconds = simulation.now - begin
        requests = (len(simulation.asked) - before) / seconds * 60 * self.triggerers
        spread = quantiles(delays, n=100)
        return requests, spread[49], spread[98]


DEPLOYMENTS = (
    Deployment(1_000, 1, "openai", 60, 0.5, 8),
    Deployment(1_000, 1, "anthropic", 60, 0.5, 8),
    Deployment(1_000, 1, "anthropic", 60, 0.5, 16),
    Deployment(4_000, 4, "anthropic", 60, 0.5, 16),
    Deployment(10_000, 4, "openai", 60, 0.5, 8),
    Deployment(10_000, 4, "anthropic", 60, 0.5, 8),
    Deployment(10_000, 4, "anthropic", 60, 0.5, 32),
    Deployment(10_000, 4, "anthropic", 300, 0.5, 8),
)


def table() -> str:
    head = [
        "Waits",
        "Triggerers",
        "Provider",
        "`poke_interval`, s",
        "`max_in_flight`",
        "Needed",
        "Requests a minute",
        "CPU of each triggerer, %",
        "Delay p50, s",
        "p99, s",
    ]
    rows = []
    for deployment in DEPLOYMENTS:
        requests, p50, p99 = deployment.simulate()
        print(f"{deployment}: {requests:.0f} requests a minute, delay {p50:.0f} s, {p99:.0f} s", flush=True)
        by_id = deployment.waits / deployment.triggerers * deployment.latency / deployment.interval
        rows.append(
            [
                f"{deployment.waits:,}",
                str(deployment.triggerers),
                deployment.provider,
                f"{deployment.interval:g}",
                str(deployment.max_in_flight),
                "" if deployment.provider == "openai" else f"{by_id:.1f}",
                f"{requests:,.0f}",
                f"{requests / 60 / deployment.triggerers * CPU_OF_A_REQUEST * 100:.1f}",
                f"{p50:.0f}",
                f"{p99:.0f}",
            ]
        )
    return figures.table(head, rows, left=0)


if __name__ == "__main__":
    figures.put(PAGE, "sizing", table())
