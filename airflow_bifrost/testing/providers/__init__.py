"""What each provider looks like through the gateway, one file each. It does not use ``airflow_bifrost.providers``, because tests compare the two."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from airflow_bifrost.testing.providers.anthropic import Anthropic
from airflow_bifrost.testing.providers.azure import Azure
from airflow_bifrost.testing.providers.bedrock import Bedrock
from airflow_bifrost.testing.providers.gemini import Gemini
from airflow_bifrost.testing.providers.openai import OpenAI, Snapshot
from airflow_bifrost.testing.providers.vertex import Vertex

__all__ = ["CONFIGURED", "COUNTS", "PROVIDERS", "WITHOUT_BATCHES", "Provider", "Snapshot", "check_names", "provider_of"]

Provider = OpenAI  # the others are made from it

PROVIDERS: dict[str, Provider] = {
    api.name: api for api in (OpenAI(), Azure(), Anthropic(), Gemini(), Bedrock(), Vertex())
}
WITHOUT_BATCHES = frozenset({"groq", "mistral", "cohere"})  # configured, but they have no batch API
CONFIGURED = (*PROVIDERS, *sorted(WITHOUT_BATCHES))
COUNTS = ("total", "completed", "failed", "succeeded", "expired", "canceled", "pending")  # of all providers together


def check_names(what: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise if a name is unknown, because a misspelled name would silently do nothing.

    :param what: what they are names of.
    """
    for name in given:
        if name not in known:
            raise ValueError(f"{what} is one of {', '.join(known)}, not {name!r}")


def provider_of(name: str) -> Provider:
    """The provider of that name."""
    check_names("a provider with batches", [name], PROVIDERS)
    return PROVIDERS[name]
