"""The forms of a provider's requests: lines, prompts and schemas, and which custom IDs it accepts."""

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
    :param description: the same in words; completes the sentence "a custom_id must be ...".
    """

    pattern: re.Pattern[str]
    description: str


ANY_ID = IdRule(re.compile(r".+", re.DOTALL), "a non-empty string")


@dataclass(frozen=True, slots=True)
class LineForm:
    """The form of an input line.

    :param id: member that holds the custom ID.
    :param label: the entry of the body's ``labels`` that holds the custom ID instead.
    :param body: member that holds the request body.
    :param envelope: whether the line also has ``method`` and ``url``.
    :param names_model: whether the body names the model. If not, the create call does.
    :param required: members that every body must have, each with the error text for a row without it.
    """

    id: str = "custom_id"
    label: str | None = None
    body: str = "body"
    envelope: bool = True
    names_model: bool = True
    required: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PromptForm:
    """How a prompt becomes a request body.

    :param body: makes a request body from a prompt.
    :param content: members of which a request body needs one, because they hold what the model is asked; empty: unknown.
    :param system: makes the members that hold a system prompt; None if the body has no such member.
    :param system_is_message: whether the system prompt is the first of the ``messages`` instead.
    """

    body: Callable[[Any], JsonObject]
    content: tuple[str, ...] = ()
    system: Callable[[str], JsonObject] | None = None
    system_is_message: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaDialect:
    """The part of JSON Schema that a provider enforces, in addition to the types themselves.

    A provider refuses every row of a batch whose schema has anything else, so the rest goes into descriptions.

    :param keywords: constraints that the provider supports.
    :param formats: values of ``format`` that the provider supports.
    :param recursion: whether a type may contain itself.
    """

    keywords: frozenset[str] = frozenset()
    formats: frozenset[str] = frozenset()
    recursion: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSchema:
    """The JSON schema of an answer.

    :param name: name of the type, in characters that every provider accepts.
    :param schema: the schema that pydantic generates.
    :param strict: the same in the provider's dialect, with every property required; None if the type has no such schema.
    """

    name: str
    schema: JsonObject
    strict: JsonObject | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaForm:
    """How a request asks for an answer in a JSON schema.

    :param dialect: what the provider enforces.
    :param request: makes the members of the body from the schema and the endpoint.
        It raises ``ValueError`` for an endpoint that takes no schema.
    """

    dialect: SchemaDialect
    request: Callable[[OutputSchema, str], JsonObject]


def text_of(value: Any) -> str | None:
    """The value if it is text that is not empty."""
    return value if isinstance(value, str) and value else None


def canonical_endpoint(endpoint: str) -> str:
    """An endpoint in OpenAI's spelling. Azure's documentation leaves out the ``/v1``: ``/chat/completions``.

    https://learn.microsoft.com/azure/ai-foundry/openai/how-to/batch
    """
    return endpoint if endpoint.startswith("/v1/") or not endpoint.startswith("/") else f"/v1{endpoint}"
