"""One exchange with the gateway: the request, the answer, and what an error message says about both. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from airflow_bifrost.gateway.redact import quote
from airflow_bifrost.gateway.retry import Repeat


@dataclass(frozen=True, slots=True)
class Fate:
    """What a failed request means for the money, as one sentence each.

    :param unknown: the request may have had an effect.
    :param refused: the provider refused it; None: the same as ``unknown``.
    :param not_sent: it certainly did not reach the provider; None: the same as ``unknown``.
    :param broken: added if the connection broke while the request was on its way.
    """

    unknown: str
    refused: str | None = None
    not_sent: str | None = None
    broken: str | None = None


@dataclass(frozen=True, slots=True)
class GatewayRequest:
    """One request, not yet bound to a gateway.

    :param doing: what the request does, for messages: ``retrieving batch 'b1' of 'openai'``.
    :param fate: what its failure means for the money, for messages.
    :param path: below the gateway's root, exactly as it goes over the wire.
    :param prefixed: whether ``path`` is below the connection's ``path_prefix``.
    :param repeat: when it may be sent again after an error.
    :param authenticated: whether it carries the token.
    :param if_refused: what to check if the provider refuses it, for messages.
    """

    doing: str
    fate: Fate
    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    json: Mapping[str, Any] | None = field(default=None, repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)
    prefixed: bool = True
    repeat: Repeat = Repeat.ALWAYS
    authenticated: bool = True
    if_refused: str | None = None

    def target(self, path_prefix: str) -> str:
        """Path and query below the gateway's root."""
        path = f"{path_prefix}{self.path}" if self.prefixed else self.path
        return f"{path}?{urlencode(self.query)}" if self.query else path


@dataclass(frozen=True, slots=True)
class RawResponse:
    """A complete answer. Header names are in lower case."""

    status_code: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").split(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The request that an answer belongs to, and what error messages about it need.

    :param gateway: name of the connection, for messages.
    :param now: Unix seconds, to read a ``Retry-After`` date.
    :param token: the connection's token, so that messages mask it.
    """

    request: GatewayRequest
    gateway: str
    now: float
    token: str | None = field(default=None, repr=False)

    def quote(self, text: str) -> str:
        return quote(text, token=self.token)
