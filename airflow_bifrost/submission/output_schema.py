"""Turns a type into the members of a request that ask the provider for an answer with the type's JSON schema. Pure.

Each provider enforces a part of JSON Schema, and refuses every row of a batch that uses more. A constraint that a provider does not know
goes into a description, where the model reads it, and is checked when the answer is validated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Set
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

from airflow_bifrost import providers
from airflow_bifrost.providers.forms import OutputSchema, SchemaDialect, canonical_endpoint
from airflow_bifrost.submission.json_values import JsonObject

# characters: https://platform.openai.com/docs/api-reference/chat/create, and likewise the name of a tool of Anthropic
MAX_NAME = 64


def params_for(output_type: type[BaseModel] | Any, *, provider: str, endpoint: str) -> JsonObject:
    """The members of a request body that ask for an answer of ``output_type``.

    A strict schema requires every property, so the model answers each, optional ones with null. For a type without a strict schema
    (free-form dicts, ``Any``, tuples), the request has the schema as pydantic writes it, and the provider does not enforce it.

    Defaults and examples are left out: the model answers every property anyway, and a default that is computed at import (a UUID, the
    time, a set) would make other request bytes in each process, so that a retry would submit and pay again.

    :param output_type: a pydantic model, or anything that ``TypeAdapter`` accepts and whose JSON is an object: a dataclass, a TypedDict.
    :param endpoint: e.g. ``/v1/chat/completions``. Anthropic and Gemini have one form of body for all endpoints.
    :return: the same for the same type and release of pydantic, for the ``request_params`` of
        :func:`~airflow_bifrost.submission.parts.write_parts`. If a body sets a member of the same name, e.g. ``generationConfig``, the body's
        member is sent instead.
    :raises ValueError: the provider or the endpoint supports no schema, or the type has no JSON schema of an object.
    """
    form = providers.get(provider).schema
    if form is None:
        raise ValueError(
            f"This package does not know how to ask {provider} for an output_type. Check the spelling of `provider`. If it is right, put the"
            " schema into request_params, under the name that the model gives it."
        )
    schema = _schema_of(output_type)
    output = OutputSchema(name=_name_of(schema), schema=schema, strict=_strict(schema, form.dialect))
    return form.request(output, canonical_endpoint(endpoint))


def _schema_of(output_type: Any) -> JsonObject:
    """The schema of the input that the type accepts, with an object at its root."""
    try:
        adapter = TypeAdapter(output_type)
        schema: JsonObject = without_values(adapter.json_schema())
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise ValueError(f"output_type has no JSON schema: {error.message}") from error
    if any(map(_has_set, _extras(adapter.core_schema))):
        raise ValueError(
            "output_type has a set in a json_schema_extra. Its order differs from process to process, so a retry would submit and pay again."
            " Give a list."
        )
    if "$ref" in schema:  # a type that contains itself
        schema = {**_definition(schema, schema["$ref"]), "$defs": schema["$defs"]}
    if schema.get("type") != "object":
        raise ValueError(
            "output_type must be an object in JSON, such as a pydantic model,"
            f" but its JSON type is {schema.get('type', 'not a single one')}. Make it a field of a model."
        )
    return schema


def _extras(node: Any) -> Iterator[Any]:
    """Every ``json_schema_extra`` in pydantic's core schema. In the JSON schema, pydantic has already turned their sets into lists."""
    if isinstance(node, dict):
        yield (node.get("metadata") or {}).get("pydantic_js_extra")
        if isinstance(model := node.get("cls"), type) and issubclass(model, BaseModel):
            yield model.model_config.get("json_schema_extra")
        node = node.values()
    elif not isinstance(node, list | tuple):
        return
    for part in node:
        yield from _extras(part)


def _has_set(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_set, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_set, value))
    return isinstance(value, Set)


def without_values(schema: Any) -> Any:
    """A schema without defaults and examples."""
    if not isinstance(schema, dict):
        return schema
    cleaned: JsonObject = {}
    for key, part in schema.items():
        if key in {"properties", "$defs", "patternProperties"} and isinstance(part, dict):
            cleaned[key] = {name: without_values(inner) for name, inner in part.items()}
        elif key in {"anyOf", "oneOf", "allOf", "prefixItems"} and isinstance(part, list):
            cleaned[key] = [without_values(inner) for inner in part]
        elif key not in {"default", "examples"}:
            cleaned[key] = without_values(part) if key in {"items", "additionalProperties"} else part
    return cleaned


def _name_of(schema: JsonObject) -> str:
    """The type's name or title, in characters that every provider accepts."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", schema.get("title", "")).strip("_")[:MAX_NAME] or "output"


class _NotStrictError(Exception):
    """A schema that has no strict equivalent."""


_STRUCTURE = {"$defs", "$ref", "additionalProperties", "anyOf", "const", "enum", "items", "oneOf", "properties"}
_SILENT = {"default", "deprecated", "discriminator", "examples", "readOnly", "required", "writeOnly"}
_NEVER_STRICT = {"allOf", "patternProperties", "prefixItems"}


def _strict(schema: JsonObject, dialect: SchemaDialect) -> JsonObject | None:
    """The schema in the provider's dialect, with every property required and no others allowed; None: there is no such schema."""
    if not dialect.recursion and _is_recursive(schema):
        return None
    try:
        return _strict_node(schema, schema, dialect, frozenset())
    except _NotStrictError:
        return None


def _strict_node(node: Any, root: JsonObject, dialect: SchemaDialect, within: frozenset[str]) -> JsonObject:
    """The strict form of one schema within ``root``.

    :param within: the definitions that this one was copied from.
    """
    if not isinstance(node, dict) or node.keys() & _NEVER_STRICT:
        raise _NotStrictError
    if "$ref" in node:
        ref, siblings = node["$ref"], {key: node[key] for key in node if key not in _SILENT and key != "$ref"}
        if not siblings or ref in within:
            return {"$ref": ref}
        # A reference must stand alone, so its siblings go into a copy of the definition.
        return _strict_node({**_definition(root, ref), **siblings}, root, dialect, within | {ref})

    def inner(part: Any) -> JsonObject:
        return _strict_node(part, root, dialect, within)

    strict: JsonObject = {}
    unenforced: JsonObject = {}
    for key, value in node.items():
        if key not in _STRUCTURE | _SILENT:
            (strict if _is_known(key, value, dialect) else unenforced)[key] = value
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
    if unenforced:
        constraints = ", ".join(f"{key} {json.dumps(value)}" for key, value in unenforced.items())
        strict["description"] = "\n\n".join(filter(None, [node.get("description"), f"Constraints: {constraints}."]))
    if "$defs" in node:
        strict["$defs"] = {name: inner(part) for name, part in node["$defs"].items()}
    return strict


def _is_known(key: str, value: Any, dialect: SchemaDialect) -> bool:
    """Whether a dialect has this keyword with this value."""
    if key == "format":
        return value in dialect.formats
    if key == "pattern" and "(?" in value:  # no provider knows look-around
        return False
    return key in dialect.keywords | {"type", "title", "description"}


_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def _one_of(values: list[Any]) -> JsonObject:
    """A choice of values, grouped by type: a strict schema must name the type."""
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
