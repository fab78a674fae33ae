"""What is known about each model provider behind the gateway: one file each.

Other modules call ``get(name)``, and none of them compares a provider's name. A provider without a file here gets the strictest limits and
rules of all known providers, and nothing is assumed about its list of batches.
"""

from __future__ import annotations

from functools import cache

from airflow_bifrost.providers import anthropic, azure, bedrock, gemini, openai, vertex
from airflow_bifrost.providers.base import Limits, Provider
from airflow_bifrost.providers.forms import LineForm

ALL = {module.PROVIDER.name: module.PROVIDER for module in (openai, azure, anthropic, gemini, bedrock, vertex)}


def get(name: str) -> Provider:
    """What is known about the provider of that name, as the gateway spells it."""
    return ALL.get(name) or _unknown(name)


@cache
def _unknown(name: str) -> Provider:
    known = [provider.limits for provider in ALL.values()]
    return Provider(
        name=name,
        # No minimum number of rows: it would only refuse batches that an unknown provider may accept.
        limits=Limits(
            rows=min(limits.rows for limits in known), bytes=min(limits.bytes for limits in known), one_model=True
        ),
        custom_ids=anthropic.PROVIDER.custom_ids,
        lines=LineForm(),
        prompts=openai.PROMPTS,
    )


__all__ = ["ALL", "Provider", "get"]
