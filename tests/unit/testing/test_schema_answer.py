"""The local gateway answers with an instance of the schema that a request asks for."""

from __future__ import annotations

import json
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Le, Len, Lt, MultipleOf
from pydantic import BaseModel, Field, TypeAdapter

from airflow_bifrost import providers
from airflow_bifrost.submission.output_schema import params_for
from airflow_bifrost.testing.model import Row, anthropic_answer, openai_answer, reply
from airflow_bifrost.testing.schema_answer import NoInstanceError, instance_of


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


class Node(BaseModel):
    name: str
    children: list[Node] = []
    parent: Node | None = None


class Opinion(BaseModel):
    mood: Mood
    kind: Literal["a", "b"]
    score: Annotated[float, Ge(0), Le(1)]
    stars: Annotated[int, Gt(0), Lt(6)]
    even: Annotated[int, MultipleOf(2), Ge(3)]
    topics: Annotated[list[str], Len(2)]
    day: date
    comment: str | None
    code: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    pair: tuple[int, bool]
    name: Annotated[str, Field(min_length=10, max_length=12)]


class Simple(BaseModel):
    mood: Mood
    topics: list[str]


@pytest.mark.parametrize(
    "kind", [Opinion, Node, list[Node], Mood, Literal["x"], int | str, bool, dict[str, Any], tuple[int, ...]]
)
def test_an_instance_is_valid_and_the_same_for_the_same_prompt(kind: Any) -> None:
    adapter = TypeAdapter(kind)
    instance = instance_of(adapter.json_schema(), "prompt")
    adapter.validate_json(json.dumps(instance))
    assert instance == instance_of(adapter.json_schema(), "prompt")


def test_other_prompts_get_other_values() -> None:
    schema = TypeAdapter(Mood).json_schema()
    assert {instance_of(schema, f"prompt {number}") for number in range(20)} == {"good", "bad"}


def test_a_schema_without_a_known_instance_is_an_error_that_says_which_part() -> None:
    with pytest.raises(NoInstanceError, match="satisfies `pattern`"):
        instance_of({"type": "string", "pattern": "^x{40}y$"}, "prompt")


ASKED = [
    (name, "/v1/responses" if endpoint else "/v1/chat/completions")
    for name, provider in providers.ALL.items()
    if provider.schema is not None
    for endpoint in ((False, True) if name in ("openai", "azure") else (False,))
]


@pytest.mark.parametrize(("provider", "endpoint"), ASKED)
def test_a_request_in_the_form_of_each_provider_gets_an_instance(provider: str, endpoint: str) -> None:
    body = {"model": "m", **params_for(Simple, provider=provider, endpoint=endpoint)}
    Simple.model_validate_json(reply(Row("a", body, "Is it good?", 1)))


def test_anthropics_forced_tool_is_called_with_an_instance() -> None:
    body = {"model": "m", **params_for(Node, provider="anthropic", endpoint="/v1/messages")}
    [content] = anthropic_answer(Row("a", body, "Who?", 1), "1")["content"]
    assert content["type"] == "tool_use"
    Node.model_validate(content["input"])


def test_what_the_prompt_says_goes_before_the_schema() -> None:
    body = {"model": "m", **params_for(Opinion, provider="openai", endpoint="/v1/chat/completions")}
    answer = openai_answer("/v1/chat/completions", Row("a", body, "!say no", 1), "1")
    assert answer["choices"][0]["message"]["content"] == "no"
