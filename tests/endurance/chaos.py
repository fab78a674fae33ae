"""The events of a run and their times: a plan that follows from the seed. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

RATE = 0.3  # of the calls that fail in a window of faults

FAULTS: tuple[Mapping[str, Any], ...] = (
    {"status": 503},
    {"status": 500},
    {"status": 502, "body": "<html>Bad Gateway</html>", "content_type": "text/html"},
    {"status": 429, "retry_after": 2},
    {"drop": True},
    {"drop": True, "applied": True},
    {"garbage": True},
    {"status": 200, "body": ""},
)
"""What goes wrong in a window of faults, each equally often."""


def faults(rate: float = RATE) -> list[dict[str, Any]]:
    """The faults that together let this share of all calls fail. The gateway draws for each fault in turn."""
    each = 1 - (1 - rate) ** (1 / len(FAULTS))
    return [{**fault, "rate": each} for fault in FAULTS]


@dataclass(frozen=True)
class Event:
    """Something that is done to the run.

    :param at: seconds after the start of the chaos.
    :param seconds: until it is undone.
    """

    at: float
    what: str
    target: str
    seconds: float

    @property
    def end(self) -> float:
        return self.at + self.seconds

    def __str__(self) -> str:
        return f"{self.at:6.1f} s  {self.what} {self.target} for {self.seconds:.0f} s"


@dataclass(frozen=True)
class Kind:
    """A kind of event.

    :param targets: it happens to one of these.
    :param seconds: the shortest and the longest time until it is undone.
    :param uses: what no other event may affect at the same time, in addition to the target.
    :param least: the minimum number of occurrences, as far as the time allows.
    :param weight: how likely it is to be drawn beyond that, relative to the others.
    """

    what: str
    targets: Sequence[str]
    seconds: tuple[float, float]
    uses: tuple[str, ...] = ()
    least: int = 1
    weight: float = 1.0


def kinds(
    components: Sequence[str],
    runs_tasks: Sequence[str],
    *,
    api_away: float,
    small_disk: str | None = None,
    clocked: str | None = None,
) -> list[Kind]:
    """The kinds of events for a cluster.

    :param components: of Airflow.
    :param runs_tasks: those of them that run tasks.
    :param api_away: seconds for which the API server is down, once.
    :param small_disk: the component whose disk can be full; None: no component's can.
    :param clocked: the component whose clock can jump; None: no component's can.
    """
    killed = [name for name in components if name != "api-server"]
    found = [
        Kind("kill", killed, (2, 10), least=2, weight=4),
        Kind("freeze", killed, (5, 25), least=2, weight=3),
        Kind("kill_task", runs_tasks, (5, 10), least=4, weight=6),
        Kind("faults", ["gateway"], (15, 30), weight=2),
        Kind("kill_gateway", ["gateway"], (1, 8), weight=2),
        Kind("freeze_gateway", ["gateway"], (5, 15)),
        Kind("upgrade_gateway", ["gateway"], (2, 5), weight=0.5),
        Kind("restart_postgres", ["postgres"], (1, 4), ("api-server",)),
        Kind("kill", ["api-server"], (api_away, api_away)),
        Kind("rotate_token", ["gateway"], (12, 12), ("api-server",)),
        Kind("delete_connection", ["gateway"], (3, 6), ("api-server", "postgres")),
    ]
    if small_disk:
        found.append(Kind("fill_disk", [small_disk], (10, 20)))
    if clocked:
        found.append(Kind("jump_clock", [clocked], (10, 30)))
    return found


def plan(seed: int, seconds: float, kinds: Sequence[Kind], *, by_minute: float = 4.0) -> list[Event]:
    """Draw the events, in the order of their time.

    Each kind occurs its minimum number of times, as far as the time allows. More are drawn by weight. Two events never affect the same target at the same time.
    """
    chance = random.Random(f"chaos {seed}")
    needed = [kind for kind in kinds for _ in range(kind.least)]
    chance.shuffle(needed)
    wanted = max(len(needed), round(seconds / 60 * by_minute))
    more = chance.choices(kinds, [kind.weight for kind in kinds], k=wanted - len(needed))
    planned: list[tuple[Event, set[str]]] = []
    for kind in [*needed, *more]:
        for _ in range(40):
            lasts = min(chance.uniform(*kind.seconds), seconds / 3)
            event = Event(round(chance.uniform(0, seconds - lasts), 1), kind.what, chance.choice(kind.targets), lasts)
            uses = {event.target, *kind.uses}
            if not any(uses & others and _overlap(event, other) for other, others in planned):
                planned.append((event, uses))
                break
    return sorted((event for event, _ in planned), key=lambda event: event.at)


def _overlap(one: Event, other: Event, margin: float = 5.0) -> bool:
    return one.at < other.end + margin and other.at < one.end + margin
