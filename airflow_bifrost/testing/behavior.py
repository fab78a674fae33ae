"""Behavior in which real providers differ: files that are processed late, results that are named late, faulty lists.

Everything counts requests, never seconds, so that a test behaves the same on a busy machine.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from airflow_bifrost.testing.providers import PROVIDERS, check_names

LIST_LIES = ("no_cursor", "repeated_cursor", "empty_pages", "unreadable")


@dataclass(frozen=True, slots=True)
class ProviderBehavior:
    """How one provider behaves.

    :param file_pending: how many requests find a file ``pending`` that was uploaded over the API: each GET of the file
        counts, and each create that names it, which is refused with 400. After them, the file is ``processed``.
    :param file_fails: the file becomes ``error`` instead, and every create that names it is refused.
    :param running_polls: how many retrieves of a batch show it as it was created, however long ago that was.
    :param files_late: how many retrieves of a terminal batch show no ``output_file_id`` and no ``error_file_id``.
    :param late_counts: whether these retrieves show the batch's counts; False: they show 0/0/0.
    :param list_page: the most entries on a page of a list of batches, whatever the client asks for.
    :param list_lie: what is wrong with lists of batches:

        - ``no_cursor``: ``has_more`` is true, and there is no ``next_cursor``;
        - ``repeated_cursor``: each page is the first one, with the same cursor;
        - ``empty_pages``: every page is empty, with ``has_more`` and a new cursor;
        - ``unreadable``: every page after the first is not JSON.
    :param placeholder_results: whether the native results are the gateway's one invented row, as for a Gemini batch whose results Google
        names in ``response``.
    :param list_metadata: whether entries of a list show their batch's metadata.
    """

    file_pending: int = 0
    file_fails: bool = False
    running_polls: int = 0
    files_late: int = 0
    late_counts: bool = True
    list_page: int | None = None
    list_lie: str | None = None
    list_metadata: bool = True
    placeholder_results: bool = False

    def __post_init__(self) -> None:
        for name in ("file_pending", "running_polls", "files_late"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ValueError(f"{name} is a number of requests, not {value!r}")
        if self.list_page is not None and (type(self.list_page) is not int or self.list_page < 1):
            raise ValueError(f"list_page is at least 1, or None, not {self.list_page!r}")
        for name in ("file_fails", "late_counts", "list_metadata", "placeholder_results"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} is True or False, not {getattr(self, name)!r}")
        if self.list_lie is not None:
            check_names("list_lie", [self.list_lie], LIST_LIES)

    @classmethod
    def read(cls, members: Mapping[str, Any]) -> ProviderBehavior:
        """Read a behavior from JSON; a misspelled member is an error."""
        check_names("a member", members, tuple(field.name for field in fields(cls)))
        return cls(**members)


DEFAULT_BEHAVIOR = {"azure": ProviderBehavior(file_pending=1)}
"""How each provider behaves that does not behave like ``ProviderBehavior()``. Azure processes a file after the upload:
https://learn.microsoft.com/azure/ai-services/openai/how-to/batch"""


class Behaviors:
    """The behavior of every provider, and how often each file and batch was asked about.

    :param given: the behaviors to start with, by provider.
    """

    def __init__(self, given: Mapping[str, ProviderBehavior] | None = None) -> None:
        self._given = {**DEFAULT_BEHAVIOR, **(given or {})}
        for provider, behavior in self._given.items():
            _check(provider, behavior)
        self._lock = threading.Lock()
        self._now = dict(self._given)
        self._asked: Counter[tuple[str, int]] = Counter()
        self._uploads: dict[int, ProviderBehavior] = {}

    def of(self, provider: str) -> ProviderBehavior:
        """The behavior of a provider."""
        return self._now.get(provider, _USUAL)

    def set(self, provider: str, behavior: ProviderBehavior) -> None:
        """Let a provider behave so from now on."""
        _check(provider, behavior)
        self._now[provider] = behavior

    def restore(self) -> None:
        """Restore the initial behaviors, and forget the counted requests."""
        with self._lock:
            self._now = dict(self._given)
            self._asked.clear()
            self._uploads.clear()

    def add_upload(self, seq: int, provider: str) -> None:
        """Let an uploaded file be processed as its provider behaves now."""
        self._uploads[seq] = self.of(provider)

    def file_status(self, seq: int) -> str:
        """Whether a batch may use a file: ``pending``, ``processed`` or ``error``. Each call counts as a request."""
        upload = self._uploads.get(seq, _USUAL)
        if self.is_one_of_the_first(upload.file_pending, "file", seq):
            return "pending"
        return "error" if upload.file_fails else "processed"

    def is_one_of_the_first(self, limit: int, kind: str, seq: int) -> bool:
        """Count a request about a file or a batch; True if it is one of the first ``limit``."""
        with self._lock:
            self._asked[kind, seq] += 1
            return self._asked[kind, seq] <= limit


_USUAL = ProviderBehavior()


def _check(provider: str, behavior: Any) -> None:
    check_names("a provider with batches", [provider], PROVIDERS)
    if not isinstance(behavior, ProviderBehavior):
        raise TypeError(f"give a ProviderBehavior(...), not {behavior!r}")
