"""httpx's async client over aiohttp, without aiohttp's own cookies. Otherwise a server could set a cookie and receive it again with another token."""

from __future__ import annotations

from typing import Any

import httpx
from aiohttp import ClientSession, DummyCookieJar, TCPConnector
from httpx_aiohttp import AiohttpTransport, HttpxAiohttpClient


class CookielessClient(HttpxAiohttpClient):
    """Keeps no cookies."""

    def _init_transport(self, *args: Any, **kwargs: Any) -> httpx.AsyncBaseTransport:
        return _cookieless(super()._init_transport(*args, **kwargs))

    def _init_proxy_transport(self, *args: Any, **kwargs: Any) -> httpx.AsyncBaseTransport:
        return _cookieless(super()._init_proxy_transport(*args, **kwargs))


def _cookieless(transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
    if isinstance(transport, AiohttpTransport):
        transport.client = lambda: _session(transport)
    return transport


def _session(transport: AiohttpTransport) -> ClientSession:
    """Like the transport's own session, but without cookies."""
    limits = transport.limits
    connector = TCPConnector(
        limit=limits.max_connections or 0, keepalive_timeout=limits.keepalive_expiry, ssl=transport.ssl_context
    )
    return ClientSession(connector=connector, cookie_jar=DummyCookieJar())
