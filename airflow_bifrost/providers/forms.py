"""How a provider spells a request: lines, prompts and schemas, and which custom IDs it accepts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class IdRule:
    """Which ``custom_id`` a provider accepts.

    :param pattern: matches a whole ID.
    :param description: the same for people, as in "a custom_id must be ...".
    """

    pattern: re.Pattern[str]
    description: str


ANY_ID = IdRule(re.compile(r".+", re.DOTALL), "a non-empty string")


@dataclass(frozen=True, slots=True)
class LineForm:
    """How a provider spells a line of the input.

    :param id: member that holds the custom ID.
    :param body: member that holds the request body.
    :param envelope: whether the line also has ``method`` and ``url``.
    :param names_model: whether the body names the model. If not, the create call does.
    :param required: members that every body needs, each with the advice for a row without it.
    """

    id: str = "custom_id"
    body: str = "body"
    envelope: bool = True
    names_model: bool = True
    required: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PromptForm:
    """How a prompt becomes a request body.

    :param body: makes a body of a prompt.
    :param system: makes the members that hold a system prompt; None: the body has no place for one.
    :param system_is_message: the system prompt is the first of the ``messages`` instead.
    """

    body: Callable[[Any], JsonObject]
    system: Callable[[str], JsonObject] | None = None
    system_is_message: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaDialect:
    """The part of JSON Schema that a provider enforces, in addition to the types themselves.

    A provider refuses every row of a batch whose schema has more, so the rest goes into descriptions.

    :param keywords: constraints that it knows.
    :param formats: values of ``format`` that it knows.
    :param recursion: whether a type may contain itself.
    """

    keywords: frozenset[str] = frozenset()
    formats: frozenset[str] = frozenset()
    recursion: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSchema:
    """The JSON schema of an answer.

    :param name: of the type, in characters that every provider takes.
    :param schema: as pydantic wrote it.
    :param strict: the same in the provider's dialect, with every property required; None: there is no such schema.
    """

    name: str
    schema: JsonObject
    strict: JsonObject | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaForm:
    """How a request asks for an answer of a JSON schema.

    :param dialect: what the provider enforces.
    :param request: makes the members of the body from the schema and the endpoint.
        It raises ``ValueError`` for an endpoint that takes no schema.
    """

    dialect: SchemaDialect
    request: Callable[[OutputSchema, str], JsonObject]


def canonical_endpoint(endpoint: str) -> str:
    """An endpoint in OpenAI's spelling. Azure's documentation leaves out the ``/v1``: ``/chat/completions``.

    https://learn.microsoft.com/azure/ai-foundry/openai/how-to/batch
    """
    return endpoint if endpoint.startswith("/v1/") or not endpoint.startswith("/") else f"/v1{endpoint}"
