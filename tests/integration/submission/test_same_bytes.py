"""Every attempt of a task is a process of its own. Each must write the same request lines, or a retry submits and pays again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

# Prints, for each case, the digest of its request lines, or "refused".
SCRIPT = """
import json, sys, tempfile, uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import attrs, msgspec
from pydantic import BaseModel, ConfigDict, Field

from airflow_bifrost.exceptions import BatchInputError
from airflow_bifrost.runs.request import sha256_of
from airflow_bifrost.submission.output_schema import params_for
from airflow_bifrost.submission.parts import write_parts
from airflow_bifrost.submission.reading import numbered

WORDS = ["one", "two", "three", "four", "five", "six", "seven"]

@dataclass
class Point:
    x: Any

@attrs.frozen
class Size:
    x: Any

class Box(msgspec.Struct):
    x: Any

class Model(BaseModel):
    x: Any

class Pair(NamedTuple):
    x: Any

class HashOrder(Mapping):
    def __init__(self): self.names = set(WORDS)
    def __getitem__(self, name): return 1
    def __iter__(self): return iter(self.names)
    def __len__(self): return len(self.names)

class Kind(Enum):
    WORDS = frozenset(WORDS)

class Choice(Enum):
    ONE = "one"

def function():
    return set(WORDS)

def generator():
    yield {"messages": [], "stop": set(WORDS)}

class Defaults(BaseModel):
    free: dict[str, int] = {}  # no strict schema
    made: str = Field(default_factory=lambda: str(uuid.uuid4()))
    computed: str = str(uuid.uuid4())
    imported_at: datetime = datetime.now()
    words: set[str] = set(WORDS)
    examples: str = Field("", examples=[str(uuid.uuid4()), set(WORDS)])
    choice: Choice = Field(Choice.ONE, description="d")
    nested: list[Point] = Field([], json_schema_extra={"default": list(set(WORDS))})

class ExtraSet(BaseModel):
    x: str = Field("", json_schema_extra={"enum": set(WORDS)})

class Nested(BaseModel):
    x: list[ExtraSet] = []

Part = type("Part", (BaseModel,), {"__annotations__": {"n": int}})

class Described(BaseModel):
    part: Part = Field(title="t", description="d", json_schema_extra={"x": 1, "y": 2, "z": 3})

class Configured(BaseModel):
    model_config = ConfigDict(json_schema_extra={"x-words": {"deep": set(WORDS)}})

def body(x):
    return [{"messages": [], "x": x}]

ENDPOINT = "/v1/chat/completions"
CASES = {
    "a set": lambda: set(WORDS),
    "a frozenset": lambda: frozenset(WORDS),
    "a dict view of words from a set": lambda: dict.fromkeys(set(WORDS)).keys(),
    "a difference of dict views": lambda: dict.fromkeys(WORDS).keys() - {"one"},
    "a function that returns a set": function,
    "a set in a generator": generator,
    "a list": lambda: WORDS,
    "dict values": lambda: dict(enumerate(WORDS)).values(),
    "a set in a dataclass": lambda: body(Point(set(WORDS))),
    "a set in an attrs class": lambda: body(Size(set(WORDS))),
    "a set in a Struct": lambda: body(Box(set(WORDS))),
    "a set in a pydantic model": lambda: body(Model(x=set(WORDS))),
    "a set in a named tuple": lambda: body(Pair(set(WORDS))),
    "a set deep in lists and dicts": lambda: body([{"deep": (set(WORDS),)}]),
    "a set in an enum": lambda: body(Kind.WORDS),
    "a mapping in the order of its hashes": lambda: body(HashOrder()),
    "a proxy of such a mapping": lambda: body(MappingProxyType(HashOrder())),
    "an object": lambda: body(object()),
    "a plain dataclass": lambda: body(Point(WORDS)),
}

def digest(rows, provider="openai", **options):
    with tempfile.TemporaryDirectory() as folder:
        try:
            model = {} if provider == "gemini" else {"model": "m"}
            parts = write_parts(numbered(rows), Path(folder), provider=provider, endpoint=ENDPOINT, **model, **options).parts
        except BatchInputError:
            return "refused"
        return [part.sha256 for part in parts]

found = {name: digest(make()) for name, make in CASES.items()}
found["the digest of a request"] = sha256_of({"b": [1, 2.5, None, "é"], "a": {"d": True, "c": "x"}})
found["request_params"] = digest(["Hi"], request_params={"stop": set(WORDS)})
for provider in ("openai", "azure", "anthropic", "gemini"):
    for output_type in (Defaults, Described, ExtraSet, Nested, Configured):
        try:
            params = params_for(output_type, provider=provider, endpoint=ENDPOINT)
        except ValueError:
            params = {"refused": set()}
        name = f"{output_type.__name__} of {provider}"
        found[name] = digest(["Hi"], provider, request_params={"max_tokens": 1, **params})
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found() -> list[dict[str, Any]]:
    """What each of two processes says."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    return [json.loads(process.communicate(timeout=120)[0]) for process in started]


def test_what_another_process_would_write_differently_is_refused(found: list[dict[str, Any]]) -> None:
    first, second = found
    assert [name for name in first if first[name] != second[name]] == []


def test_only_what_has_no_stable_order_or_form_is_refused(found: list[dict[str, Any]]) -> None:
    accepted = {name for name, digest in found[0].items() if digest != "refused"}
    assert accepted == {
        "a list",
        "dict values",
        "a plain dataclass",
        "the digest of a request",
        *(f"{name} of {p}" for name in ("Defaults", "Described") for p in ("openai", "azure", "anthropic", "gemini")),
    }
