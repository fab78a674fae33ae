"""Arguments that several operators take, checked when the task runs: before that they may be templates."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import Any

OUTCOMES = (
    "succeeded",
    "partial",
    "failed",
    "expired",
    "cancelled",
)  # providers.statuses.Outcome, which DAG files must not load
DEFAULT_ACCEPT = ("succeeded", "partial")


def batch_ids_of(value: Any) -> list[str]:
    """The ids in ``batch_id``, which is one id or an iterable of ids (a list, the output of a mapped task).

    :raises ValueError: says what is wrong, and with which id.
    """
    from airflow_bifrost.gateway.requests import checked_id

    if value is None or value == "None":  # the text is what a template makes of None
        raise ValueError("batch_id is None: the task that makes it has pushed nothing")
    if isinstance(value, str) and value.startswith("["):
        raise ValueError(
            f"batch_id {value[:80]!r} is a list that was rendered to text: pass the task's output (`submit.output`), or set"
            " render_template_as_native_obj=True on the DAG"
        )
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | dict):
        return [checked_id(item, f"batch_id[{index}]") for index, item in enumerate(value)]
    return [checked_id(value)]


def provider_of(value: Any) -> str | None:
    """The provider in ``provider``; None, or empty, is the connection's.

    :raises ValueError: it is not a string, or a None that was rendered to text.
    """
    if value == "None":
        raise ValueError("provider is None, rendered to text: the task that makes it has pushed nothing")
    if value is not None and not isinstance(value, str):
        raise ValueError(f"provider must be a string, not {type(value).__name__}")
    return value or None


def checked_accept(accept: Collection[str], name: str = "accept") -> tuple[str, ...]:
    """``accept`` as a tuple.

    :raises ValueError: it names an outcome that there is not.
    """
    if isinstance(accept, str):
        raise ValueError(f"{name} must be a collection of outcomes, such as ({accept!r},), not a string")
    if unknown := sorted(set(accept) - set(OUTCOMES)):
        raise ValueError(f"{name} has {unknown[0]!r}; outcomes are {', '.join(OUTCOMES)}")
    return tuple(accept)


def seconds_of(name: str, value: float | timedelta) -> float:
    """A span of time in seconds.

    :raises ValueError: it is negative, or neither a number nor a timedelta.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ValueError(f"{name} must be a timedelta or a number of seconds, 0 or more, not {value!r}")
    return float(value)


def whole_number(name: str, value: int) -> int:
    """``value``, which is 1 or more.

    :raises ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number, 1 or more, not {value!r}")
    return value


def only_one_of(**arguments: Any) -> None:
    """
    :raises ValueError: not exactly one of them is given.
    """
    if sum(value is not None for value in arguments.values()) != 1:
        raise ValueError(f"give one of {', '.join(arguments)}")
