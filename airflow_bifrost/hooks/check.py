"""Which thing is wrong with a connection: what its form's test button says."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
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
    from airflow_bifrost.gateway.responses import RawResponse

# The gateway's words for what its own governance refuses.
_NOT_ALLOWED = frozenset({"provider_blocked", "model_blocked"})
_GOVERNANCE = ("virtual_key_", "access_")


class Refusal(Enum):
    """Whom or what a 401 or 403 refuses."""

    TOKEN = auto()
    PROVIDER_FOR_TOKEN = auto()
    KEY_OF_THE_GATEWAY = auto()


_REFUSED = {
    Refusal.TOKEN: "Token refused.",
    Refusal.PROVIDER_FOR_TOKEN: "Provider not allowed: the token may not use {!r}.",
    Refusal.KEY_OF_THE_GATEWAY: "Refused by the provider: the gateway's key for {!r} does not work.",
}


def check(client: GatewayClient, answers: Sequence[RawResponse]) -> tuple[bool, str]:
    """Ask for one batch of the connection's provider.

    :param answers: all that the client has got, as they came.
    :return: whether that works, and which thing is wrong if not.
    """
    try:
        page = client.list_page(limit=1)
    except BifrostGatewayError as error:
        return False, _what_is_wrong(client, answers, error)
    if "extra_fields" not in (page.model_extra or {}) and not _is_bifrost(client):
        return False, f"Not a Bifrost gateway: {client.config.base_url} answers with JSON, but not as one."
    return True, f"The gateway answers for provider {client.config.provider!r}."


def _what_is_wrong(client: GatewayClient, answers: Sequence[RawResponse], error: BifrostGatewayError) -> str:
    config = client.config
    if error.status_code is None:
        return f"Unreachable: {config.base_url} does not answer. {error}"
    if isinstance(error, BifrostAuthError):
        return f"{_REFUSED[what_is_refused(error, answers[-1])].format(config.provider)} {error}"
    if isinstance(error, BifrostProtocolError | BifrostRequestError) or error.status_code == 404:
        in_the_gateways_own_words = isinstance(error, BifrostRequestError) and error.status_code >= 500
        if not in_the_gateways_own_words and not _is_bifrost(client):
            return f"Not a Bifrost gateway: {config.base_url} answers, but not as one. {error}"
        if isinstance(error, BifrostProtocolError):
            return f"Wrong path_prefix: there is a gateway, but no batch API below {config.path_prefix!r}. {error}"
        if fault := error.fault:
            return f"Provider not usable: {config.provider!r}. {fault[0].upper()}{fault[1:]}. {error}"
        return f"Provider not usable: the gateway has no batch API for {config.provider!r}. {error}"
    return str(error)


def what_is_refused(error: BifrostAuthError, answer: RawResponse) -> Refusal:
    """Governance tells by its words, and any other word is the provider's. Azure and Bedrock refuse without one, as the gateway's login
    does; but only of a provider's answer the gateway says which provider's it is.
    """
    word = error.error_type or ""
    if word in _NOT_ALLOWED:
        return Refusal.PROVIDER_FOR_TOKEN
    if word.startswith(_GOVERNANCE):
        return Refusal.TOKEN
    return Refusal.KEY_OF_THE_GATEWAY if word or _names_an_provider(answer) else Refusal.TOKEN


def _names_an_provider(answer: RawResponse) -> bool:
    from airflow_bifrost.gateway.models import read_json

    try:
        value = read_json(answer.body)
    except ValueError:
        return False
    about = value.get("extra_fields") if isinstance(value, dict) else None
    return isinstance(about, dict) and bool(about.get("provider"))


def _is_bifrost(client: GatewayClient) -> bool:
    try:
        return client.health().components is not None
    except BifrostError:
        return False
