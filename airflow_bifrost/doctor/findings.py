"""The doctor's result: one finding for each check, and all of them in a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from airflow_bifrost.exceptions import BifrostError
from airflow_bifrost.gateway.redact import MIN_TOKEN, STRUCK


class State(StrEnum):
    """The result of a check. A note is harmless. Only a problem changes the verdict."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    :param name: of the check; stable across versions.
    :param finding: what was found, in one line.
    :param advice: what to do about it.
    :param values: the finding as machine-readable values.
    """

    name: str
    state: State
    finding: str
    advice: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether checks that depend on it can run."""
        return self.state in (State.OK, State.NOTE)


def ok(name: str, finding: str, **values: Any) -> Finding:
    return Finding(name, State.OK, finding, None, values)


def note(name: str, finding: str, advice: str | None = None, **values: Any) -> Finding:
    return Finding(name, State.NOTE, finding, advice, values)


def problem(name: str, finding: str, advice: str | None = None, **values: Any) -> Finding:
    return Finding(name, State.PROBLEM, finding, advice, values)


def sentence(said: str) -> str:
    return f"{said[0].upper()}{said[1:].rstrip('.')}." if said else ""


def what_happened(error: BifrostError) -> str:
    """Without the advice, which the report shows separately, and without the money: reading costs nothing."""
    return sentence(error.problem)


@dataclass(frozen=True, slots=True)
class Report:
    """All findings about a connection, in the order of the checks.

    :param connection: ``id``, and if it could be read, ``url``, ``provider`` and ``path_prefix``.
    :param forms: answers in an unknown form, as :class:`airflow_bifrost.doctor.forms.Form` shows them.
    """

    connection: Mapping[str, Any]
    findings: Sequence[Finding]
    forms: Sequence[Mapping[str, Any]] = ()

    @property
    def well(self) -> bool:
        return not any(finding.state is State.PROBLEM for finding in self.findings)

    def without(self, token: str | None) -> Report:
        """The same report with ``token`` masked everywhere."""
        if token is None or len(token) < MIN_TOKEN:
            return self
        findings = [
            replace(
                finding,
                finding=_struck(finding.finding, token),
                advice=_struck(finding.advice, token),
                values=_struck(finding.values, token),
            )
            for finding in self.findings
        ]
        return Report(_struck(self.connection, token), findings, _struck(self.forms, token))


def _struck(value: Any, token: str) -> Any:
    if isinstance(value, str):
        return value.replace(token, STRUCK)
    if isinstance(value, Mapping):
        return {_struck(name, token): _struck(item, token) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_struck(item, token) for item in value]
    return value
