"""What a client must know about a gateway: its address, the token, how long to wait."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import urlsplit

import httpx

from airflow_bifrost.gateway.retry import DEFAULT_RETRY_BUDGET

DEFAULT_PROVIDER = "openai"  # the gateway's own default
DEFAULT_PATH_PREFIX = "/openai"
DEFAULT_TIMEOUT = 60.0  # seconds; for a provider, the gateway waits 30 s (1.4) or 300 s (1.5) for each key
DEFAULT_CONNECT_TIMEOUT = 10.0  # seconds
DEFAULT_MAX_CONNECTIONS = 16
DEFAULT_MAX_IN_FLIGHT = 8
DEFAULT_CONNECTION_TTL = 300.0  # seconds
# If an answer is cut short, the gateway sends a create twice, and waits 300 s for each answer (1.5.16, recorded). With max_retries n it sends
# it 2 (n + 1) times.
DEFAULT_SETTLE_TIME = 2 * 300.0
DEFAULT_POLL_INTERVAL = 60.0  # seconds
TRANSPORTS = ("aiohttp", "httpx")  # the first is the default: a poll costs half the CPU


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """The address of a gateway and how to use it. Validated on construction. The repr does not show the token.

    :param base_url: ``http(s)://host[:port][/path]``, without query and user.
    :param token: sent as ``Authorization: Bearer``; None: no token is sent.
    :param provider: model provider of calls that do not name one.
    :param path_prefix: where the OpenAI-compatible routes are, below ``base_url``.
    :param timeout: seconds to wait for the answer to one request.
    :param connect_timeout: seconds to connect.
    :param verify: True, False, or the path of a CA bundle.
    :param max_connections: size of the client's connection pool, which is at least ``max_in_flight``.
    :param max_in_flight: how many requests the waits of one triggerer send at the same time.
    :param connection_ttl: seconds after which the waits read the Airflow connection again.
    :param coalesce: whether the waits poll pages of the list instead of each batch, if that saves requests.
    :param poll_interval: seconds between two polls of a batch, if the task does not set it.
    :param retry_budget: seconds within which a failed call is retried; 0: never.
    :param settle_time: seconds for which the gateway may still send a create that got no answer.
    :param transport: carries the async client's requests: ``aiohttp`` or ``httpx``.
    :param name: of this gateway in messages: the Airflow connection's ID.
    :raises ValueError: names the field that is wrong.
    """

    base_url: str
    token: str | None = field(default=None, repr=False)
    provider: str = DEFAULT_PROVIDER
    path_prefix: str = DEFAULT_PATH_PREFIX
    timeout: float = DEFAULT_TIMEOUT
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT
    verify: bool | str = True
    max_connections: int = DEFAULT_MAX_CONNECTIONS
    max_in_flight: int = DEFAULT_MAX_IN_FLIGHT
    connection_ttl: float = DEFAULT_CONNECTION_TTL
    coalesce: bool = True
    poll_interval: float = DEFAULT_POLL_INTERVAL
    retry_budget: float = DEFAULT_RETRY_BUDGET
    settle_time: float = DEFAULT_SETTLE_TIME
    transport: str = TRANSPORTS[0]
    name: str = "bifrost"

    def __post_init__(self) -> None:
        self._check_url()
        if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", self.path_prefix):
            raise ValueError("path_prefix: it must look like '/openai', without a trailing slash")
        base_path = urlsplit(self.base_url).path.rstrip("/")
        for tail in (f"{self.path_prefix}/v1", "/v1", self.path_prefix):
            if tail and base_path.endswith(tail):
                raise ValueError(f"host: remove {tail!r} from the URL, because it is added (see path_prefix)")
        for name in ("timeout", "connect_timeout"):
            seconds = getattr(self, name)
            if not isinstance(seconds, int | float) or not 0 < seconds < 86_400:
                raise ValueError(f"{name}: it must be a number of seconds above 0 and below 86400")
        for name in ("max_connections", "max_in_flight"):
            if not isinstance(number := getattr(self, name), int) or not 1 <= number <= 10_000:
                raise ValueError(f"{name}: it must be an integer from 1 to 10000")
        for name in ("connection_ttl", "poll_interval"):
            if not 0 < getattr(self, name) <= 86_400:
                raise ValueError(f"{name}: it must be a number of seconds above 0 and at most 86400")
        for name in ("retry_budget", "settle_time"):
            if not 0 <= getattr(self, name) <= 86_400:
                raise ValueError(f"{name}: it must be a number of seconds from 0 to 86400")
        if self.transport not in TRANSPORTS:
            raise ValueError(f"transport: it must be {' or '.join(TRANSPORTS)}, not {self.transport!r}")
        if self.token is not None and not re.fullmatch(r"[\x21-\x7e]+", self.token):
            raise ValueError(
                "password: the token contains characters that an HTTP header cannot hold (whitespace, or not ASCII)"
            )

    def _check_url(self) -> None:
        if not isinstance(self.base_url, str) or not re.fullmatch(r"\S+", self.base_url):
            raise ValueError("host: the URL has no host, or contains whitespace")
        try:
            parts = urlsplit(self.base_url)
        except ValueError:
            raise ValueError("host: it is neither a host name nor an IP address") from None
        if parts.scheme not in ("http", "https"):
            raise ValueError(f"schema: it must be http or https, not {parts.scheme!r}")
        if parts.username or parts.password or "@" in parts.netloc:
            raise ValueError(
                "host: the URL must not contain a user or password. Enter the token in the password field."
            )
        if not parts.hostname:
            raise ValueError("host: the URL has no host")
        if "?" in self.base_url or "#" in self.base_url:
            raise ValueError("host: the URL must not have a query or fragment")
        try:
            parts.port  # noqa: B018 - reading it is the check
        except ValueError:
            raise ValueError("port: it must be a number from 0 to 65535") from None
        try:
            httpx.URL(self.root)
        except httpx.InvalidURL as error:
            raise ValueError(f"host: {error}") from None

    @property
    def root(self) -> str:
        """The base URL without a trailing slash."""
        return self.base_url.rstrip("/")

    @property
    def key_id(self) -> str:
        """A fingerprint of the token: eight hex digits, too few to recover it from; empty without a token."""
        return hashlib.sha256(f"airflow_bifrost {self.token}".encode()).hexdigest()[:8] if self.token else ""

    def provider_for(self, provider: str | None) -> str:
        """The provider's name as the gateway spells it: lower case, never empty."""
        return (provider or "").strip().lower() or self.provider.strip().lower() or DEFAULT_PROVIDER

    def tls(self) -> ssl.SSLContext | bool:
        """The value of httpx's ``verify``.

        :raises ValueError: the CA bundle cannot be read.
        """
        if self.verify is False:
            return False
        file = self.verify if isinstance(self.verify, str) else os.environ.get("SSL_CERT_FILE") or None
        try:
            modified_at = None if file is None else os.stat(file).st_mtime_ns
            return _trusting(file, modified_at, os.environ.get("SSL_CERT_DIR"))
        except OSError as error:
            raise ValueError(f"verify: {file!r} cannot be read as a CA bundle ({error.strerror or error})") from None


@lru_cache(maxsize=8)
def _trusting(file: str | None, modified_at: int | None, directory: str | None) -> ssl.SSLContext:
    """One TLS context for all clients that trust the same certificate authorities. Reading them again takes several times the CPU of a call.

    :param file: a CA bundle; None: that of certifi, or ``directory``.
    :param modified_at: modification time of the file, so that a changed file is read again.
    :param directory: the environment's SSL_CERT_DIR. OpenSSL reads a file in it when it needs the file.
    """
    return httpx.create_ssl_context() if file is None else ssl.create_default_context(cafile=file)
