"""Answers for requests that ask for JSON in a schema: a small instance of the schema, the same for the same prompt."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import jsonschema  # type: ignore[import-untyped]

JsonObject = dict[str, Any]

_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uri": "https://example.com/",
}
# Tried for a `pattern`
_TEXTS = (
    "text",
    "a",
    "A",
    "0",
    "a-1",
    "A1",
    "2026-01-01",
    "00000",
    "abc@example.com",
    "+10000000000",
)


class NoInstanceError(ValueError):
    """The local gateway cannot make an instance of a schema."""


def schema_of(body: Mapping[str, Any]) -> JsonObject | None:
    """The JSON schema that a request body asks for, in the form of any provider; None if it asks for none."""
    places = (
        ("response_format", "json_schema", "schema"),  # chat completions
        ("text", "format", "schema"),  # responses
        ("output_config", "format", "schema"),  # Anthropic
        ("generationConfig", "responseJsonSchema"),  # Gemini and Vertex
    )
    for place in places:
        found: Any = body
        for name in place:
            found = found.get(name) if isinstance(found, Mapping) else None
        if isinstance(found, dict):
            return found
    return None


def forced_tool(body: Mapping[str, Any]) -> tuple[str, JsonObject] | None:
    """The tool that a request to Anthropic forces the model to call, and the schema of its input."""
    choice, tools = body.get("tool_choice"), body.get("tools")
    if not (isinstance(choice, dict) and choice.get("type") == "tool" and isinstance(tools, list)):
        return None
    for tool in tools:
        if isinstance(tool, dict) and tool.get("name") == choice.get("name"):
            return str(tool["name"]), tool.get("input_schema") or {}
    return None


def instance_of(schema: JsonObject, seed: str) -> Any:
    """A small instance of a schema: required members only, lists as short as allowed, and if there are several values, the one that ``seed`` selects.

    :raises NoInstanceError: none was found, for example for an unusual ``pattern``.
    """
    value = _Maker(schema, seed).make(schema)
    error = next(jsonschema.Draft202012Validator(schema).iter_errors(value), None)
    if error is not None:
        raise NoInstanceError(
            f"the local gateway found no value for {error.json_path} that satisfies `{error.validator}`"
        )
    return value


def text_for(schema: JsonObject, prompt: str) -> str:
    """The same as JSON text. The prompt is the seed."""
    return json.dumps(instance_of(schema, prompt), ensure_ascii=False)


class _Maker:
    def __init__(self, root: JsonObject, seed: str) -> None:
        self._root = root
        self._seed = seed
        self._made = 0  # choices so far
        self._depth = 0

    def make(self, schema: Any) -> Any:
        self._depth += 1
        if self._depth > 50:
            raise NoInstanceError("the local gateway found no value for a schema that contains itself")
        try:
            return self._make(schema if isinstance(schema, dict) else {})
        finally:
            self._depth -= 1

    def _make(self, schema: JsonObject) -> Any:
        if "$ref" in schema:
            return self.make(self._resolved(schema["$ref"]) | {k: v for k, v in schema.items() if k != "$ref"})
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._one_of(schema["enum"])
        for name in ("anyOf", "oneOf"):
            if options := schema.get(name):
                return self.make(self._simplest(options))
        if parts := schema.get("allOf"):
            return self.make(
                {k: v for part in parts for k, v in part.items()} | {k: v for k, v in schema.items() if k != "allOf"}
            )
        kind = schema.get("type") or ("object" if "properties" in schema else "string")
        return self._of_type(kind[0] if isinstance(kind, list) else kind, schema)

    def _of_type(self, kind: str, schema: JsonObject) -> Any:
        match kind:
            case "object":
                properties = schema.get("properties", {})
                return {name: self.make(properties.get(name, {})) for name in schema.get("required", [])}
            case "array":
                items = [self.make(item) for item in schema.get("prefixItems", [])]
                return items + [
                    self.make(schema.get("items", {})) for _ in range(schema.get("minItems", 0) - len(items))
                ]
            case "integer" | "number":
                return self._number(schema, whole=kind == "integer")
            case "boolean":
                return self._one_of([True, False])
            case "null":
                return None
            case _:
                return self._text(schema)

    def _text(self, schema: JsonObject) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        if pattern := schema.get("pattern"):
            return next((text for text in _TEXTS if re.search(pattern, text)), "")
        shortest, longest = schema.get("minLength", 0), schema.get("maxLength", math.inf)
        text = str(self._one_of(["apple", "birch", "cedar", "daisy"])).ljust(shortest, ".")
        return text if len(text) <= longest else text[: int(longest)]

    def _number(self, schema: JsonObject, *, whole: bool) -> float:
        step = schema.get("multipleOf", 1 if whole else 0.5)
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        if low is None:
            low = 0 if high is None or high > 0 else high - 2 * step
        number = math.ceil(low / step) * step
        if number == schema.get("exclusiveMinimum"):
            number += step
        if high is not None and number > high:
            number = (low + high) / 2
        return int(number) if whole else number

    def _simplest(self, options: list[Any]) -> Any:
        """The first option that is neither null nor a reference back to an outer type, if there is one."""
        ranked = sorted(options, key=lambda option: (option == {"type": "null"}, "$ref" in option and self._depth > 5))
        return ranked[0] if self._depth <= 5 else next((each for each in options if "$ref" not in each), ranked[0])

    def _one_of(self, values: list[Any]) -> Any:
        self._made += 1
        digest = hashlib.sha256(f"{self._seed}\x1f{self._made}".encode(errors="replace")).digest()
        return values[int.from_bytes(digest[:4]) % len(values)]

    def _resolved(self, reference: str) -> JsonObject:
        found: Any = self._root
        for name in reference.removeprefix("#").strip("/").split("/"):
            if name:
                found = found[name.replace("~1", "/").replace("~0", "~")]
        return found if isinstance(found, dict) else {}
