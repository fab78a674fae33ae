"""What both clients share: how a call becomes an HTTP request, the limits of a body, what a network error means, and when to retry.

Redirects are never followed, and the token goes to the connection's origin only, because every URL is built from it.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import ip_address
from typing import IO, Any

import httpx

from airflow_bifrost import __version__
from airflow_bifrost.exceptions import BifrostAuthError, BifrostGatewayError
from airflow_bifrost.gateway import errors
from airflow_bifrost.gateway.body import ENCODING, Patience
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.exchange import GatewayRequest, RawResponse, RequestContext
from airflow_bifrost.gateway.retry import Repeat, RetryPolicy, parse_date

OnAnswer = Callable[[GatewayRequest, RawResponse], None]

KEEPALIVE_EXPIRY = 120.0  # seconds; above the usual poll interval, or every poll would open a new connection
CHUNK = 2**18  # bytes


class Transport:
    """Everything about a client except the I/O.

    ``clock_offset``: seconds by which the gateway's clock is ahead of this machine's, by the ``Date`` of its last answer; None if it sent
    none.
    """

    def __init__(
        self, config: GatewayConfig, *, retry: RetryPolicy, on_answer: OnAnswer | None, worked_before: bool
    ) -> None:
        self.config = config
        self.retry = retry
        self._on_answer = on_answer
        self._root = httpx.URL(config.root)
        self.clock_offset: float | None = None
        self._worked = {True} if worked_before else set()  # whether a route that answered was below the path prefix

    def http_options(self) -> dict[str, Any]:
        """Arguments of httpx's clients."""
        config = self.config
        connections = max(config.max_connections, config.max_in_flight)  # so that the hub's requests do not queue here
        return {
            "verify": config.tls(),
            "follow_redirects": False,
            "timeout": httpx.Timeout(config.timeout, connect=config.connect_timeout),
            "limits": httpx.Limits(
                max_connections=connections,
                max_keepalive_connections=connections,
                keepalive_expiry=KEEPALIVE_EXPIRY,
            ),
            "headers": {
                "accept": "application/json",
                "accept-encoding": ENCODING,
                "user-agent": f"airflow-provider-bifrost/{__version__}",
            },
            "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=())),  # keeps no cookies
            "mounts": self._direct(),
        }

    def _direct(self) -> dict[str, None]:
        """Addresses for which the environment's proxies are not used. The token for a gateway on this machine never leaves the machine."""
        host = self._root.host
        if not _is_loopback(host):
            return {}
        return {f"all://[{host}]" if ":" in host else f"all://{host}": None}

    def arguments(self, request: GatewayRequest, content: IO[bytes] | None, filename: str | None) -> dict[str, Any]:
        """Arguments of httpx's ``stream``."""
        headers = dict(request.headers)
        if request.authenticated and self.config.token:
            headers["authorization"] = f"Bearer {self.config.token}"
        target = self._root.raw_path.rstrip(b"/") + request.target(self.config.path_prefix).encode("ascii")
        arguments: dict[str, Any] = {
            "method": request.method,
            "url": self._root.copy_with(raw_path=target),
            "headers": headers,
        }
        if content is None:
            return arguments | {"json": request.json}
        if request.form is None:
            body, length = _with_rows(request.json or {}, content)
            headers |= {"content-type": "application/json", "content-length": str(length)}
            return arguments | {"content": body}
        return arguments | {"data": request.form, "files": {"file": (filename, content, "application/jsonl")}}

    def patience(self, content: IO[bytes] | None = None) -> Patience:
        """How long a call that sends this file may take."""
        return Patience(self.config.timeout, 0 if content is None else content.seek(0, os.SEEK_END))

    def context(self, request: GatewayRequest) -> RequestContext:
        return RequestContext(request, self.config.name, time.time(), self.config.token)

    def answer(self, response: httpx.Response, body: bytes, context: RequestContext) -> RawResponse:
        """The answer, after ``on_answer`` has seen it."""
        raw = head(response, body)
        if self._on_answer is not None:
            self._on_answer(context.request, raw)
        return raw

    def note_date(self, response: httpx.Response) -> None:
        """Record the gateway's clock."""
        if (moment := parse_date(response.headers.get("date"))) is not None:
            self.clock_offset = moment - time.time()

    def series(self, request: GatewayRequest) -> CallSeries:
        """The attempts of one call."""
        return CallSeries(self, request)

    def note_success(self, request: GatewayRequest) -> None:
        """Note that this kind of route has answered."""
        self._worked.add(request.prefixed)

    def has_worked(self, request: GatewayRequest) -> bool:
        """Whether this kind of route has answered before. A proxy may forward only one kind."""
        return request.prefixed in self._worked

    def take_token_of(self, config: GatewayConfig) -> bool:
        """Use the token of a connection that was read again.

        :return: whether the token has changed. If the connection's URL has changed, the new token is not used, so that it is not sent to
            the old URL.
        """
        if config.root != self.config.root or config.token == self.config.token:
            return False
        self.config = replace(self.config, token=config.token)
        return True


class CallSeries:
    """The attempts of one call: whether and when to retry after an error."""

    def __init__(self, transport: Transport, request: GatewayRequest) -> None:
        self._transport = transport
        self._request = request
        self._attempts = transport.retry.attempts(request.repeat)
        self._may_renew = transport.retry.budget > 0

    def wants_new_token(self, error: BifrostGatewayError) -> bool:
        """Whether to read the connection again, because its token may have been rotated. At most once per call."""
        refused = isinstance(error, BifrostAuthError) and not (
            self._request.repeat is Repeat.IF_NOT_SENT and error.sent
        )
        wants, self._may_renew = refused and self._may_renew, self._may_renew and not refused
        return wants

    def pause_after(self, error: BifrostGatewayError) -> float:
        """Seconds until the next attempt.

        :raises BifrostGatewayError: ``error``, if the call is not retried.
        """
        delay = self._attempts.delay(error, worked=self._transport.has_worked(self._request))
        if delay is None:
            raise error
        return delay


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def head(response: httpx.Response, body: bytes) -> RawResponse:
    """The answer with a body that was read separately."""
    return RawResponse(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)


def never_connected(error: Exception) -> bool:
    """Whether httpx's own transport raised this before it had a connection, so that nothing was sent."""
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)


def network_error(
    error: Exception, context: RequestContext, unsent: Callable[[Exception], bool] = never_connected
) -> BifrostGatewayError:
    """An error below HTTP. An unknown host name or a TLS failure is a wrong configuration, unless the gateway has worked before.

    :param unsent: whether the transport raised the error before it sent anything.
    """
    cause: BaseException | None = error
    transient = True
    while cause is not None:
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            transient = False
        if isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN:
            transient = False
        cause = cause.__cause__ or cause.__context__
    text = str(error)
    if "WRONG_VERSION_NUMBER" in text:
        text += "; the gateway seems to speak plain http: set the connection's schema to http"
    kind = type(error.__cause__ or error).__name__  # aiohttp's own names say more than httpx's
    problem = f"{kind}: {text}" if text else kind
    return errors.unavailable(problem, context, transient=transient, sent=not unsent(error))


def _with_rows(body: Mapping[str, Any], rows: IO[bytes]) -> tuple[Iterator[bytes], int]:
    """A JSON body with the lines of a file as the list ``requests``, and its size in bytes.

    :param rows: JSONL, each line with its newline.
    """
    start, end = json.dumps({**body, "requests": []}).encode()[:-2], b"]}"
    size = rows.seek(0, os.SEEK_END) - 1  # without the last newline
    rows.seek(0)

    def content() -> Iterator[bytes]:
        left = size
        yield start
        while chunk := rows.read(min(CHUNK, left)):
            left -= len(chunk)
            yield chunk.replace(b"\n", b",")
        yield end

    return content(), len(start) + size + len(end)
