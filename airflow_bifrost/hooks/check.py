"""Tests a connection, for the test button of its form, and says what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

from airflow_bifrost.exceptions import (
    BifrostAuthError,
    BifrostError,
    BifrostGatewayError,
    BifrostProtocolError,
    BifrostRequestError,
)
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.exchange import RawResponse
from airflow_bifrost.gateway.retry import NO_RETRY
from airflow_bifrost.gateway.values import read_json
from airflow_bifrost.hooks.connection_errors import naming_the_connection

# The gateway's words for refusals by its own governance.
_NOT_ALLOWED = frozenset({"provider_blocked", "model_blocked"})
_GOVERNANCE = ("virtual_key_", "access_blocked")


class Refusal(Enum):
    """What a 401 or 403 refuses."""

    TOKEN = auto()
    PROVIDER_FOR_TOKEN = auto()
    KEY_OF_THE_GATEWAY = auto()


_REFUSED = {
    Refusal.TOKEN: "Token refused.",
    Refusal.PROVIDER_FOR_TOKEN: "Provider not allowed: the token may not use {!r}.",
    Refusal.KEY_OF_THE_GATEWAY: "Refused by the provider: the gateway's key for {!r} does not work.",
}


def check_connection(config: GatewayConfig) -> tuple[bool, str]:
    """Ask for one batch of the connection's provider.

    :return: whether that works, and if not, what is wrong.
    :raises BifrostConfigurationError: the client cannot be created, e.g. because a CA bundle is missing.
    """
    answers: list[RawResponse] = []
    with naming_the_connection(config.name):
        client = GatewayClient(config, retry=NO_RETRY, on_answer=lambda _, answer: answers.append(answer))
    with client:
        return _check(client, answers)


def _check(client: GatewayClient, answers: Sequence[RawResponse]) -> tuple[bool, str]:
    """:param answers: all that the client has received."""
    try:
        page = client.list_page(limit=1)
    except BifrostGatewayError as error:
        return False, _what_is_wrong(client, answers, error)
    if "extra_fields" not in (page.model_extra or {}) and not _is_bifrost(client):
        return False, f"Not a Bifrost gateway: {client.config.base_url} answers with JSON, but not as a gateway does."
    return True, f"The gateway answers for provider {client.config.provider!r}."


def _what_is_wrong(client: GatewayClient, answers: Sequence[RawResponse], error: BifrostGatewayError) -> str:
    config = client.config
    if error.status_code is None:
        return f"Unreachable: {config.base_url} does not answer. {error}"
    if isinstance(error, BifrostAuthError):
        return f"{_REFUSED[what_is_refused(error, answers[-1])].format(config.provider)} {error}"
    if isinstance(error, BifrostProtocolError | BifrostRequestError) or error.status_code == 404:
        if error.fault is None and not _is_bifrost(client):
            return f"Not a Bifrost gateway: {config.base_url} answers, but not as a gateway does. {error}"
        if isinstance(error, BifrostProtocolError):
            return f"Wrong path_prefix: there is a gateway, but no batch API below {config.path_prefix!r}. {error}"
        if fault := error.fault:
            return f"Provider not usable: {config.provider!r}. {fault[0].upper()}{fault[1:]}. {error}"
        return f"Provider not usable: the gateway has no batch API for {config.provider!r}. {error}"
    return str(error)


def what_is_refused(error: BifrostAuthError, answer: RawResponse) -> Refusal:
    """Who refused: the gateway's governance has its own words, and any other word is the provider's.

    Azure and Bedrock refuse without an error type, as does the gateway's login. But the gateway names the provider only in the provider's answers.
    """
    word = error.error_type or ""
    if word in _NOT_ALLOWED:
        return Refusal.PROVIDER_FOR_TOKEN
    if word.startswith(_GOVERNANCE):
        return Refusal.TOKEN
    return Refusal.KEY_OF_THE_GATEWAY if word or _names_a_provider(answer) else Refusal.TOKEN


def _names_a_provider(answer: RawResponse) -> bool:
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
