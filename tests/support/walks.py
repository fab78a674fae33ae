"""Random orders of events for a pure world: a long random walk, and the same events as a Hypothesis strategy.

A world is a class whose events are methods marked with :func:`event`. Hypothesis finds short orders and shrinks them. The walk plays many
more orders in the same time, and shortens the one that fails.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, Protocol, TypeVar

from hypothesis import settings
from hypothesis import strategies as st

LONGEST = 60  # events of one order

Story = list[tuple[str, dict[str, Any]]]  # names of events, with their arguments
Method = TypeVar("Method", bound=Callable[..., Any])


class World(Protocol):
    """What the events happen to."""

    steps: int  # decisions taken so far, of the code under test

    def check(self) -> None:
        """Raise an AssertionError if an invariant is violated. Called after each event."""

    def finish(self) -> None:
        """Let everything go well from now on, and check how it ends."""


def event(weight: int = 1, /, **choices: Sequence[Any]) -> Callable[[Method], Method]:
    """Mark a method of a world as an event.

    :param weight: how often it happens, compared with the others.
    :param choices: the values of each argument.
    """

    def mark(method: Method) -> Method:
        method.event = weight, choices  # type: ignore[attr-defined]
        return method

    return mark


def is_nightly() -> bool:
    """Whether the tests run with Hypothesis's profile for the night."""
    return settings.get_current_profile_name() == "nightly"


def stories(world: type[World]) -> st.SearchStrategy[Story]:
    """Orders of events, for Hypothesis."""
    each = [
        st.tuples(
            st.just(name), st.fixed_dictionaries({key: st.sampled_from(values) for key, values in choices.items()})
        )
        for name, (_, choices) in _events(world).items()
    ]
    return st.lists(st.one_of(each), max_size=LONGEST)


def play(world: type[World], story: Story) -> World:
    """Let the events happen one after the other, and check the world after each and at the end."""
    played = world()
    for name, arguments in story:
        getattr(played, name)(**arguments)
        played.check()
    played.finish()
    return played


def walk(world: type[World], steps: int, seed: int | None = None) -> int:
    """Play random orders of events until the code under test has taken so many decisions. Return the number of orders.

    :raises AssertionError: an order fails. The message names the shortest order that was found.
    """
    seed = int(os.environ.get("BIFROST_WALK_SEED", Random().randrange(10**9) if seed is None else seed))
    random, taken, orders = Random(seed), 0, 0
    with _without_logs():
        while taken < steps:
            story = _random_story(world, random)
            orders += 1
            try:
                taken += max(1, play(world, story).steps)
            except Exception as error:
                told = "\n".join(map(_as_call, _shortened(world, story, type(error))))
                message = f"seed {seed}, order {orders}, {type(error).__name__}: {error}\n{told}"
                raise AssertionError(message) from error
    return orders


@contextmanager
def _without_logs() -> Iterator[None]:
    """Nobody reads the logs of thousands of orders, and pytest would keep them."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _as_call(happened: tuple[str, dict[str, Any]]) -> str:
    name, arguments = happened
    return f"    {name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def _events(world: type[World]) -> dict[str, tuple[int, dict[str, Sequence[Any]]]]:
    return {name: method.event for name in sorted(dir(world)) if hasattr(method := getattr(world, name), "event")}


def _random_story(world: type[World], random: Random) -> Story:
    events = _events(world)
    names = random.choices(list(events), [weight for weight, _ in events.values()], k=random.randint(1, LONGEST))
    return [(name, {key: random.choice(values) for key, values in events[name][1].items()}) for name in names]


def _shortened(world: type[World], story: Story, kind: type[Exception]) -> Story:
    """Leave out events as long as the rest fails with the same kind of error."""
    size = len(story) // 2
    while size:
        shorter = (story[:place] + story[place + size :] for place in range(0, len(story), size))
        found = next((rest for rest in shorter if _fails(world, rest, kind)), None)
        story, size = (story, size // 2) if found is None else (found, min(size, len(found)))
    return story


def _fails(world: type[World], story: Story, kind: type[Exception]) -> bool:
    try:
        play(world, story)
    except kind:
        return True
    return False
