"""Which thing is wrong with a connection: what its form's test button says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_bifrost.exceptions import (
    BifrostAuthError,
    BifrostError,
    BifrostGatewayError,
    BifrostProtocolError,
    BifrostRequestError,
)

if TYPE_CHECKING:
    from airflow_bifrost.gateway.client import GatewayClient

# The gateway's words for what its own governance refuses. A refusal without a word is its login's; any other is the upstream's.
_NOT_ALLOWED = frozenset({"provider_blocked", "model_blocked"})
_GOVERNANCE = ("virtual_key_", "access_")


def check(client: GatewayClient) -> tuple[bool, str]:
    """Ask for one batch of the connection's upstream.

    :return: whether that works, and which thing is wrong if not.
    """
    try:
        page = client.list_page(limit=1)
    except BifrostGatewayError as error:
        return False, _what_is_wrong(client, error)
    if "extra_fields" not in (page.model_extra or {}) and not _is_bifrost(client):
        return False, f"Not a Bifrost gateway: {client.config.base_url} answers with JSON, but not as one."
    return True, f"The gateway answers for upstream {client.config.provider!r}."


def _what_is_wrong(client: GatewayClient, error: BifrostGatewayError) -> str:
    config = client.config
    if error.status_code is None:
        return f"Unreachable: {config.base_url} does not answer. {error}"
    if isinstance(error, BifrostAuthError):
        return f"{_who_refused(error, config.provider)} {error}"
    if isinstance(error, BifrostProtocolError | BifrostRequestError) or error.status_code == 404:
        in_the_gateways_own_words = isinstance(error, BifrostRequestError) and error.status_code >= 500
        if not in_the_gateways_own_words and not _is_bifrost(client):
            return f"Not a Bifrost gateway: {config.base_url} answers, but not as one. {error}"
        if isinstance(error, BifrostProtocolError):
            return f"Wrong path_prefix: there is a gateway, but no batch API below {config.path_prefix!r}. {error}"
        return f"Upstream not usable: the gateway has no batch API for {config.provider!r}. {error}"
    return str(error)


def _who_refused(error: BifrostAuthError, provider: str) -> str:
    word = error.error_type or ""
    if word in _NOT_ALLOWED:
        return f"Upstream not allowed: the token may not use {provider!r}."
    if not word or word.startswith(_GOVERNANCE):
        return "Token refused."
    return f"Refused by the upstream: the gateway's key for {provider!r} does not work."


def _is_bifrost(client: GatewayClient) -> bool:
    try:
        return client.health().components is not None
    except BifrostError:
        return False
