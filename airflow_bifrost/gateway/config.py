"""What a client must know of a gateway: where it is, who we are, how patient to be."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

DEFAULT_PROVIDER = "openai"  # the gateway's own default
DEFAULT_PATH_PREFIX = "/openai"
DEFAULT_TIMEOUT = 60.0  # seconds; the gateway waits 30 s for a provider, by key
DEFAULT_CONNECT_TIMEOUT = 10.0  # seconds
DEFAULT_MAX_CONNECTIONS = 16
DEFAULT_MAX_IN_FLIGHT = 8
DEFAULT_CONNECTION_TTL = 300.0  # seconds
DEFAULT_POLL_INTERVAL = 60.0  # seconds
TRANSPORTS = ("aiohttp", "httpx")  # the first is the default: a poll costs half the CPU


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Where a gateway is and how to speak to it. Validated on construction; the token never shows in its repr.

    :param base_url: ``http(s)://host[:port][/path]``, without query and without user.
    :param token: sent as ``Authorization: Bearer``; None for an open gateway.
    :param provider: provider used where a call names none.
    :param path_prefix: where the OpenAI-compatible routes are, below ``base_url``.
    :param timeout: seconds that one request may take to be answered.
    :param connect_timeout: seconds to connect.
    :param verify: True, False, or the path of a CA bundle.
    :param max_connections: size of the client's connection pool, which has room for ``max_in_flight`` in any case.
    :param max_in_flight: how many requests the waits of a triggerer have on their way at a time.
    :param connection_ttl: seconds after which the waits look the connection up again.
    :param coalesce: whether the waits look at pages of the list instead of at each batch, where that pays.
    :param poll_interval: seconds between two looks at a batch where a task does not say.
    :param transport: what carries the async client's requests: ``aiohttp``, or httpx's own.
    :param name: how messages call this gateway: the Airflow connection's id.
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
    transport: str = TRANSPORTS[0]
    name: str = "bifrost"

    def __post_init__(self) -> None:
        if not isinstance(self.base_url, str) or not re.fullmatch(r"\S+", self.base_url):
            raise ValueError("host: there is none in the gateway's URL, or white space")
        try:
            parts = urlsplit(self.base_url)
        except ValueError:
            raise ValueError("host: it is no host name and no IP address") from None
        if parts.scheme not in ("http", "https"):
            raise ValueError(f"schema: {parts.scheme or 'none'!r} is not http or https")
        if parts.username or parts.password or "@" in parts.netloc:
            raise ValueError("host: the URL must not hold a user or password; put the token into the password field")
        if not parts.hostname:
            raise ValueError("host: there is none in the gateway's URL")
        if "?" in self.base_url or "#" in self.base_url:
            raise ValueError("host: the URL must not have a query or fragment")
        try:
            parts.port  # noqa: B018 - reading it is the check
        except ValueError:
            raise ValueError("port: it is not a number from 0 to 65535") from None
        try:
            httpx.URL(self.root)
        except httpx.InvalidURL as error:
            raise ValueError(f"host: {error}") from None
        if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", self.path_prefix):
            raise ValueError("path_prefix: it must look like '/openai', without a slash at its end")
        base_path = parts.path.rstrip("/")
        for tail in (f"{self.path_prefix}/v1", "/v1", self.path_prefix):
            if tail and base_path.endswith(tail):
                raise ValueError(f"host: leave {tail!r} out of the URL, it is added (see path_prefix)")
        for name in ("timeout", "connect_timeout"):
            seconds = getattr(self, name)
            if not isinstance(seconds, int | float) or not 0 < seconds < 86_400:
                raise ValueError(f"{name}: it must be a number of seconds above 0 and below 86400")
        for name in ("max_connections", "max_in_flight"):
            if not isinstance(number := getattr(self, name), int) or not 1 <= number <= 10_000:
                raise ValueError(f"{name}: it must be a whole number from 1 to 10000")
        if not 0 < self.connection_ttl <= 86_400:
            raise ValueError("connection_ttl: it must be a number of seconds above 0 and at most 86400")
        if not 0 < self.poll_interval <= 86_400:
            raise ValueError("poll_interval: it must be a number of seconds above 0 and at most 86400")
        if self.transport not in TRANSPORTS:
            raise ValueError(f"transport: it must be {' or '.join(TRANSPORTS)}, not {self.transport!r}")
        if self.token is not None and not re.fullmatch(r"[\x21-\x7e]+", self.token):
            raise ValueError(
                "password: the token has characters that no HTTP header can carry (white space, or not ASCII)"
            )

    @property
    def root(self) -> str:
        """The base URL without a slash at its end."""
        return self.base_url.rstrip("/")

    def provider_for(self, provider: str | None) -> str:
        """The provider's name as the gateway wants it: lower case, never empty."""
        return (provider or "").strip().lower() or self.provider.strip().lower() or DEFAULT_PROVIDER

    def tls(self) -> ssl.SSLContext | bool:
        """What httpx takes as ``verify``.

        :raises ValueError: the CA bundle cannot be read.
        """
        if isinstance(self.verify, bool):
            return self.verify
        try:
            return ssl.create_default_context(cafile=self.verify)
        except OSError as error:
            raise ValueError(
                f"verify: {self.verify!r} is no CA bundle that can be read ({error.strerror or error})"
            ) from None
