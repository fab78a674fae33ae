"""Rows that cannot be sent, and the error that names them. An error never shows a prompt."""

from __future__ import annotations

from airflow_bifrost.exceptions import BatchInputError

ERRORS_SHOWN = 5  # in the message; the error's `errors` has all of them
MAX_SHOWN = 80  # characters of an ID, a model or a member's name


class BadRow(ValueError):
    """A row that cannot be sent. Its text continues "row 7 ..."."""


class LastRow(BadRow):
    """A bad row that ends the reading of further rows."""


def shown(text: object) -> str:
    """An ID or a name for a message: quoted, on one line, shortened."""
    text = str(text)
    return repr(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…")


def input_error(problem: str, advice: str, errors: list[tuple[int | str, str]] | None = None) -> BatchInputError:
    """The error for an input that cannot be sent.

    :param errors: the number of each bad row, and what is wrong with it.
    """
    message = f"{problem} {advice} Nothing was submitted, and nothing is billed."
    return BatchInputError(message, problem=problem, advice=advice, errors=errors or [])


def refusal(errors: list[tuple[int | str, str]], unit: str, *, stopped: bool) -> BatchInputError:
    """The error that names bad rows. Rows that are wrong for the same reason are named together.

    :param unit: what the numbers count: ``row`` or ``line``.
    :param stopped: whether rows after the last error were not read.
    """
    alike: dict[str, list[int | str]] = {}
    for number, reason in errors:
        alike.setdefault(reason, []).append(number)
    reasons = [
        f"{unit} {first}{f' (and {len(others)} more)' if others else ''} {reason}"
        for reason, (first, *others) in alike.items()
    ]
    hidden = len(reasons) - ERRORS_SHOWN
    count = f"{len(errors)} {unit}{'s' if len(errors) > 1 else ''}"
    problem = (
        f"The input was not sent because of {count}{', where reading stopped' if stopped else ''}: "
        f"{'; '.join(reasons[:ERRORS_SHOWN])}{f'; and {hidden} more reasons' if hidden > 0 else ''}."
    )
    return input_error(problem, "Fix the input or the task's arguments, and run the task again.", errors)
