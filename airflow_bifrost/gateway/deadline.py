"""A time limit for the sync client. httpx's own timeouts start again with every byte that arrives, so a server that sends single bytes can keep a
call waiting forever."""

from __future__ import annotations

import math
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore
import httpx

_until = ContextVar("_until", default=math.inf)  # seconds on the monotonic clock


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Within this block, a :class:`LimitedClient` reads and writes for at most so many seconds, in this thread."""
    token = _until.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _until.reset(token)


class LimitedClient(httpx.Client):
    """httpx's client, for calls within a :func:`deadline`."""

    def _init_transport(self, *args: Any, **kwargs: Any) -> httpx.BaseTransport:
        return _limited(super()._init_transport(*args, **kwargs))

    def _init_proxy_transport(self, *args: Any, **kwargs: Any) -> httpx.BaseTransport:
        return _limited(super()._init_proxy_transport(*args, **kwargs))


def _limited(transport: httpx.BaseTransport) -> httpx.BaseTransport:
    """httpcore lets its network backend be replaced, but httpx has no public argument for it."""
    if isinstance(transport, httpx.HTTPTransport):
        transport._pool._network_backend = _Backend(transport._pool._network_backend)
    return transport


class _Backend(httpcore.NetworkBackend):
    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        self._backend = backend

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *args: Any, **kwargs: Any
    ) -> httpcore.NetworkStream:
        return _Stream(self._backend.connect_tcp(host, port, _some(timeout, httpcore.ConnectTimeout), *args, **kwargs))

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _some(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _some(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        timeout = _some(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _some(timeout: float | None, too_late: type[Exception]) -> float | None:
    """Seconds that the next step may take."""
    left = _until.get() - time.monotonic()
    if left <= 0:
        raise too_late("the time for the whole call is over")
    return timeout if math.isinf(left) else left if timeout is None else min(timeout, left)
