"""Faults on request: what goes wrong, for which calls, how often."""

from __future__ import annotations

import json
import random
import threading
from dataclasses import dataclass
from types import NoneType
from typing import Any

from airflow_bifrost.testing.provider_answers import ProviderAnswer
from airflow_bifrost.testing.providers import CONFIGURED, check_names
from airflow_bifrost.testing.routes import CALLS

_TYPES: dict[str, tuple[tuple[type, ...], str]] = {  # field -> what it may be, and how to say so
    "status": ((int, NoneType), "an HTTP status as an int"),
    "content_type": ((str,), "a text"),
    "retry_after": ((str, int, float, NoneType), "a text or a number"),
    "delay": ((int, float), "a number of seconds"),
    "drop": ((bool,), "True or False"),
    "garbage": ((bool,), "True or False"),
    "provider_answer": ((ProviderAnswer, NoneType), "a ProviderAnswer(...)"),
    "times": ((int, NoneType), "a number of calls, or None"),
    "rate": ((int, float), "a probability"),
    "method": ((str, NoneType), "a text"),
    "path_contains": ((str, NoneType), "a text"),
    "provider": ((str, NoneType), "a text"),
    "call": ((str, NoneType), "a text"),
    "applied": ((bool,), "True or False"),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong with the calls that it matches.

    :param status: answer with this HTTP status.
    :param body: what to answer (text, bytes or JSON); None: the gateway's own error body for ``status``.
    :param content_type: of the answer.
    :param retry_after: value of a Retry-After header; gateways up to 1.5 send none, a proxy in front of them may.
    :param delay: seconds before the answer. Alone, the call takes effect at once and only its answer is late.
    :param drop: close the connection without an answer.
    :param garbage: answer with bytes that are not JSON, whatever the content type says.
    :param provider_answer: what the provider answers to the gateway, which the gateway passes on in its own way. Only calls
        that reach the provider meet this fault. All other faults come first.
    :param times: for how many matching calls; None: until cleared.
    :param rate: probability for each matching call.
    :param method: match only this method.
    :param path_contains: match only raw paths that contain this text. The query is not part of the path: match the list
        with ``call``.
    :param provider: match only calls for this provider.
    :param call: match only this call of the gateway: ``health``, ``version``, ``batch_list``, ``batch_create``,
        ``batch_retrieve``, ``batch_cancel``, ``batch_results``, ``file_list``, ``file_upload``, ``file_retrieve``,
        ``file_delete``, ``file_content``.
    :param applied: the call takes effect first (a batch is created), and only its answer is lost.
    """

    status: int | None = None
    body: Any = None
    content_type: str = "application/json"
    retry_after: str | float | None = None
    delay: float = 0.0
    drop: bool = False
    garbage: bool = False
    provider_answer: ProviderAnswer | None = None
    times: int | None = 1
    rate: float = 1.0
    method: str | None = None
    path_contains: str | None = None
    provider: str | None = None
    call: str | None = None
    applied: bool = False

    def __post_init__(self) -> None:
        self._check_types()
        if self.status is None and not (self.delay or self.drop or self.garbage or self.provider_answer):
            raise ValueError("a fault needs one of status, delay, drop, garbage, provider_answer")
        if self.provider_answer and (self.replaces_answer or self.body is not None or self.retry_after is not None):
            raise ValueError(
                "with provider_answer, the answer is the gateway's own: give no status, body, retry_after, drop or garbage"
            )
        if not 0.0 <= self.rate <= 1.0:
            raise ValueError(f"rate is a probability, not {self.rate}")
        if self.status is not None and not 200 <= self.status <= 599:
            raise ValueError(f"status is an HTTP status from 200 to 599, not {self.status}")
        if self.times is not None and self.times < 1:
            raise ValueError(f"times is at least 1, or None for every call, not {self.times}")
        if self.path_contains is not None and "?" in self.path_contains:
            raise ValueError(
                'path_contains is compared with the path, which has no query: name a list with call="batch_list"'
            )
        check_names("a provider", [] if self.provider is None else [self.provider], CONFIGURED)
        check_names("a call", [] if self.call is None else [self.call], CALLS)

    def _check_types(self) -> None:
        """Fail early: in the server, a wrong type would be a 500 that the client retries until the fault is used up."""
        for name, (types, wanted) in _TYPES.items():
            value = getattr(self, name)
            if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
                raise TypeError(f"{name} is {wanted}, not {value!r}")
        if not isinstance(self.body, bytes):
            try:
                json.dumps(self.body)
            except (TypeError, ValueError) as error:
                raise TypeError(f"body is text, bytes or JSON: {error}") from error

    @property
    def replaces_answer(self) -> bool:
        """Whether the caller gets something other than the real answer."""
        return self.drop or self.garbage or self.status is not None

    def matches(self, method: str, path: str, provider: str | None, call: str | None) -> bool:
        """Whether a call is one that this fault is meant for."""
        return (
            (self.method is None or self.method.upper() == method)
            and (self.path_contains is None or self.path_contains in path)
            and (self.provider is None or self.provider == provider)
            and (self.call is None or self.call == call)
        )


class FaultPlan:
    """The pending faults, in the order in which they were injected. For each call, the first match applies."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._due: list[tuple[Fault, int | None]] = []
        self._misuses: list[str] = []

    def add(self, fault: Fault) -> None:
        """Queue a fault."""
        _check_is_fault(fault)
        with self._lock:
            self._due.append((fault, fault.times))

    def clear(self) -> None:
        """Forget every fault."""
        with self._lock:
            self._due.clear()

    def note_misuse(self, what: str) -> None:
        """Note a ProviderAnswer that is not a fault. This is known only when a call meets it, perhaps in another thread."""
        with self._lock:
            self._misuses.append(what)

    def misuses(self) -> list[str]:
        """The injected answers that were not faults, oldest first."""
        with self._lock:
            return list(self._misuses)

    def forget_misuses(self) -> None:
        """Forget the answers that were not faults."""
        with self._lock:
            self._misuses.clear()

    def pending(self) -> list[Fault]:
        """The faults that are still pending."""
        with self._lock:
            return [fault for fault, _ in self._due]

    def take(
        self, method: str, path: str, provider: str | None, *, call: str | None = None, at_provider: bool = False
    ) -> Fault | None:
        """The fault for this call, counted as used; None if nothing goes wrong.

        :param call: the gateway's name of the call; None: no call that it knows.
        :param at_provider: whether the call has come to its provider, where the faults with ``provider`` wait for it.
        """
        with self._lock:
            for index, (fault, left) in enumerate(self._due):
                if (fault.provider_answer is not None) != at_provider or not fault.matches(
                    method, path, provider, call
                ):
                    continue
                if self._random.random() >= fault.rate:
                    continue
                if left is not None and left <= 1:
                    del self._due[index]
                elif left is not None:
                    self._due[index] = (fault, left - 1)
                return fault
        return None


def _check_is_fault(given: Any) -> None:
    if isinstance(given, ProviderAnswer):
        raise TypeError("a ProviderAnswer is a part of a fault: give Fault(provider_answer=ProviderAnswer(...))")
    if not isinstance(given, Fault):
        raise TypeError(f"give a Fault(...), not {given!r}")
