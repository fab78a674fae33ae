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
from typing import Any, ClassVar, TypeVar

from hypothesis import settings
from hypothesis import strategies as st

LONGEST = 60  # events of one order

Story = list[tuple[str, dict[str, Any]]]  # names of events, with their arguments
Method = TypeVar("Method", bound=Callable[..., Any])


class World:
    """What the events happen to.

    :cvar first: name of the event that every order begins with; empty: any.
    """

    first: ClassVar[str] = ""

    @property
    def steps(self) -> int:
        """How many decisions the code under test has taken so far."""
        return 0

    def check(self) -> None:
        """Raise an AssertionError if an invariant is violated. Called after each event."""

    def finish(self) -> None:
        """Let nothing fail from now on, and check how it ends."""

    def close(self) -> None:
        """Release what the world holds."""


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
    try:
        for name, arguments in story:
            getattr(played, name)(**arguments)
            played.check()
        played.finish()
    finally:
        played.close()
    return played


def walk(
    world: type[World], *, steps: int = 0, orders: int = 1, longest: int = LONGEST, shorten: bool = True
) -> tuple[int, int]:
    """Play random orders of events until there are as many steps and orders as wanted.

    :param steps: at least so many decisions of the code under test.
    :param orders: at least so many orders.
    :param longest: events of one order.
    :param shorten: look for a shorter order that fails too, which plays many more of them.
    :return: the number of steps and of orders.
    :raises AssertionError: an order fails. The message names it, and the seed that ``BIFROST_WALK_SEED`` takes.
    """
    seed = int(os.environ.get("BIFROST_WALK_SEED") or Random().randrange(10**9))
    random, taken, played = Random(seed), 0, 0
    with _without_logs():
        while taken < steps or played < orders:
            story = _random_story(world, random, longest)
            played += 1
            try:
                taken += max(1, play(world, story).steps)
            except Exception as error:
                told = _shortened(world, story, type(error)) if shorten else story
                message = f"seed {seed}, order {played}, {type(error).__name__}: {error}"
                raise AssertionError("\n".join([message, *map(_as_call, told)])) from error
    return taken, played


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


def _random_story(world: type[World], random: Random, longest: int) -> Story:
    events = _events(world)
    names = random.choices(list(events), [weight for weight, _ in events.values()], k=random.randint(1, longest))
    names = [world.first, *names] if world.first else names
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
