"""A type -> the members of a request that ask the provider for an answer of its JSON schema. Pure.

Each provider holds its model to a part of JSON Schema, and refuses every row of a batch that has more. So what one does not know is
said in a description, where the model reads it, and left to the validation of the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

JsonObject = dict[str, Any]

# characters: https://platform.openai.com/docs/api-reference/chat/create, and likewise the name of a tool of Anthropic
MAX_NAME = 64


def params_for(output_type: type[BaseModel] | Any, *, provider: str, endpoint: str) -> JsonObject:
    """What a request body needs, so that the answer is of ``output_type``.

    OpenAI and Azure get a strict schema, in which every property is required: the model gives each, optional ones as null. A type that
    cannot be strict (free-form dicts, ``Any``, tuples) goes as it is with ``strict: False``, and the model is not held to it. Gemini gets
    the one or the other likewise.

    Anthropic gets ``output_config.format``, which Claude 4.5 and later take without a beta header, in batches too
    (https://platform.claude.com/docs/en/build-with-claude/structured-outputs). Only a type that cannot be strict, or contains itself,
    becomes a tool that the model must call: that is an error where it thinks, and some models always do
    (https://platform.claude.com/docs/en/build-with-claude/extended-thinking).

    :param output_type: a pydantic model, or what else ``TypeAdapter`` takes whose JSON is an object: a dataclass, a TypedDict.
    :param endpoint: e.g. ``/v1/chat/completions``. Anthropic and Gemini have one form of body, whatever it is.
    :return: the same for the same type and release of pydantic; for the ``defaults`` of :func:`~airflow_bifrost.submission.requests_file.write_parts`. Beware of others' members under the
        same name, e.g. ``generationConfig``: there a body's own replaces this one as a whole.
    :raises ValueError: the provider or the endpoint has no such thing, or the type has no JSON schema of an object.
    """
    dialect = _DIALECTS.get(provider)
    if dialect is None:
        raise ValueError(
            f"How {provider} is asked for an output_type depends on the model, and is not known here."
            " Put the schema into request_params, by the name that the model has for it."
        )
    schema = _schema_of(output_type)
    name = _name_of(schema)
    strict = _strict(schema, dialect)
    if provider == "anthropic":
        if strict is not None:
            return {"output_config": {"format": {"type": "json_schema", "schema": strict}}}
        tool = {"name": name, "description": "Give the answer.", "input_schema": schema}
        return {"tools": [tool], "tool_choice": {"type": "tool", "name": name}}
    asked = schema if strict is None else strict
    if provider == "gemini":  # https://ai.google.dev/api/generate-content#generationconfig
        return {"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": asked}}
    wish = {"name": name, "schema": asked, "strict": strict is not None}
    if endpoint == "/v1/chat/completions":
        return {"response_format": {"type": "json_schema", "json_schema": wish}}
    if endpoint == "/v1/responses":
        return {"text": {"format": {"type": "json_schema", **wish}}}
    raise ValueError(
        f"{endpoint} of {provider} takes no output_type: only /v1/chat/completions and /v1/responses answer by a schema."
    )


def _schema_of(output_type: Any) -> JsonObject:
    """The schema of what the type takes, an object at its root."""
    try:
        schema = TypeAdapter(output_type).json_schema()
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise ValueError(f"output_type has no JSON schema: {error.message}") from error
    if "$ref" in schema:  # a type that contains itself
        schema = {**_definition(schema, schema["$ref"]), "$defs": schema["$defs"]}
    if schema.get("type") != "object":
        raise ValueError(
            "output_type must be an object in JSON, such as a pydantic model,"
            f" and this is {schema.get('type', 'of no one type')}: put it into a field of a model."
        )
    return schema


def _name_of(schema: JsonObject) -> str:
    """The type's name, or the title that it has instead, of the characters that providers take."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", schema.get("title", "")).strip("_")[:MAX_NAME] or "output"


@dataclass(frozen=True, slots=True)
class _Dialect:
    """What of JSON Schema a provider holds its model to, beside the types themselves.

    :param keywords: the constraints.
    :param formats: the values of ``format``.
    :param recursion: whether a type may contain itself.
    """

    keywords: frozenset[str] = frozenset()
    formats: frozenset[str] = frozenset()
    recursion: bool = True


_NUMBERS = frozenset({"minimum", "maximum"})
_LENGTHS = frozenset({"minItems", "maxItems"})
_TIMES = frozenset({"date-time", "date", "time"})
_NAMES = frozenset({"duration", "email", "hostname", "ipv4", "ipv6", "uuid"})

_DIALECTS = {
    # https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
    "openai": _Dialect(
        keywords=_NUMBERS | _LENGTHS | {"exclusiveMinimum", "exclusiveMaximum", "multipleOf", "pattern"},
        formats=_TIMES | _NAMES,
    ),
    # none of these: https://learn.microsoft.com/azure/ai-services/openai/how-to/structured-outputs
    "azure": _Dialect(),
    # https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations
    "anthropic": _Dialect(formats=_TIMES | _NAMES | {"uri"}, recursion=False),
    # recursion only where a property may be left out: https://ai.google.dev/api/generate-content#generationconfig
    "gemini": _Dialect(keywords=_NUMBERS | _LENGTHS, formats=_TIMES, recursion=False),
}


class _NotStrictError(Exception):
    """A schema that no strict one can stand for."""


_STRUCTURE = {"$defs", "$ref", "additionalProperties", "anyOf", "const", "enum", "items", "oneOf", "properties"}
_SILENT = {"default", "deprecated", "discriminator", "examples", "readOnly", "required", "writeOnly"}
_NEVER_STRICT = {"allOf", "patternProperties", "prefixItems"}


def _strict(schema: JsonObject, dialect: _Dialect) -> JsonObject | None:
    """The schema with every property required and none beside them, in the provider's dialect; None: there is none."""
    if not dialect.recursion and _is_recursive(schema):
        return None
    try:
        return _strict_node(schema, schema, dialect, frozenset())
    except _NotStrictError:
        return None


def _strict_node(node: Any, root: JsonObject, dialect: _Dialect, within: frozenset[str]) -> JsonObject:
    """One schema of those that ``root`` is made of.

    :param within: the definitions that this one was copied out of.
    """
    if not isinstance(node, dict) or node.keys() & _NEVER_STRICT:
        raise _NotStrictError
    if "$ref" in node:
        ref, beside = node["$ref"], {key: node[key] for key in node if key not in _SILENT and key != "$ref"}
        if not beside or ref in within:
            return {"$ref": ref}
        # a reference must stand alone: what stands beside goes into a copy of what it refers to
        return _strict_node({**_definition(root, ref), **beside}, root, dialect, within | {ref})

    def inner(part: Any) -> JsonObject:
        return _strict_node(part, root, dialect, within)

    strict: JsonObject = {}
    told: JsonObject = {}
    for key, value in node.items():
        if key not in _STRUCTURE | _SILENT:
            (strict if _is_known(key, value, dialect) else told)[key] = value
    if node.get("type") == "object":
        if node.get("additionalProperties", False) is not False:
            raise _NotStrictError
        strict["properties"] = {name: inner(part) for name, part in node.get("properties", {}).items()}
        strict["required"] = list(strict["properties"])
        strict["additionalProperties"] = False
    elif node.get("type") == "array":
        strict["items"] = inner(node.get("items"))
    elif choices := node.get("anyOf") or node.get("oneOf"):
        strict["anyOf"] = [inner(choice) for choice in choices]
    elif values := [node["const"]] if "const" in node else node.get("enum"):
        strict |= _one_of(values)
    elif "type" not in node:
        raise _NotStrictError
    if told:
        constraints = ", ".join(f"{key} {json.dumps(value)}" for key, value in told.items())
        strict["description"] = "\n\n".join(filter(None, [node.get("description"), f"Constraints: {constraints}."]))
    if "$defs" in node:
        strict["$defs"] = {name: inner(part) for name, part in node["$defs"].items()}
    return strict


def _is_known(key: str, value: Any, dialect: _Dialect) -> bool:
    """Whether a dialect has this keyword with this value."""
    if key == "format":
        return value in dialect.formats
    if key == "pattern" and "(?" in value:  # no look-around anywhere
        return False
    return key in dialect.keywords | {"type", "title", "description"}


_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def _one_of(values: list[Any]) -> JsonObject:
    """A choice of values, each type for itself: a strict schema must name its type."""
    by_type: dict[str, list[Any]] = {}
    for value in values:
        if type(value) not in _TYPES:
            raise _NotStrictError
        by_type.setdefault(_TYPES[type(value)], []).append(value)
    choices: list[JsonObject] = [
        {"type": name} if name == "null" else {"type": name, "enum": alike} for name, alike in by_type.items()
    ]
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def _definition(root: JsonObject, ref: str) -> JsonObject:
    definition: JsonObject = root["$defs"][ref.removeprefix("#/$defs/")]
    return definition


def _is_recursive(schema: JsonObject) -> bool:
    left = {f"#/$defs/{name}": set(_refs(node)) for name, node in schema.get("$defs", {}).items()}
    while plain := [ref for ref, others in left.items() if others.isdisjoint(left)]:
        for ref in plain:
            del left[ref]
    return bool(left)


def _refs(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(ref := node.get("$ref"), str):
            yield ref
        node = node.values()
    elif not isinstance(node, list):
        return
    for part in node:
        yield from _refs(part)
