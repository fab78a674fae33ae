"""Records the requests to the gateway."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

BODY_CAP = 65_536  # bytes of a request body that are kept
_KEPT = 50_000  # requests that are kept, the latest ones


@dataclass(slots=True)
class RecordedRequest:
    """One request as it came over the wire.

    ``path`` is the raw target up to the query, percent-encoding as sent; ``headers`` have lower-case names; ``body``
    is cut at 64 KiB; ``at`` is the arrival in seconds since the epoch.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    at: float

    def add_body(self, chunk: bytes) -> None:
        """Keep a chunk of the body, up to ``BODY_CAP`` in total."""
        self.body += chunk[: BODY_CAP - len(self.body)]


class Recorder:
    """The latest requests, oldest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: deque[RecordedRequest] = deque(maxlen=_KEPT)

    def add(self, request: RecordedRequest) -> None:
        """Keep a request; its body may still be growing."""
        with self._lock:
            self._requests.append(request)

    def all(self) -> list[RecordedRequest]:
        """Everything that is kept."""
        with self._lock:
            return list(self._requests)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._requests.clear()
