"""The members of a request that ask for an answer of a type."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, ConfigDict, Field, RootModel, create_model
from typing_extensions import TypedDict

from airflow_bifrost.submission.output_schema import MAX_NAME, params_for
from airflow_bifrost.submission.parts import write_parts

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"


class Urgency(Enum):
    LOW = "low"
    HIGH = "high"


class Address(BaseModel):
    street: str
    zip: str | None = None


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"


class Ticket(BaseModel):
    """What a customer wants."""

    subject: str = Field(description="In a few words.")
    urgency: Urgency = Urgency.LOW
    sender: Address
    reply_to: Address | None = Field(None, description="If it is another.")
    billing: Address = Field(Address(street="?"), description="Where the bill goes.")
    tags: list[str] = []
    score: Annotated[int, Field(ge=1, le=5)] = 3
    due: date | None = None
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] = Field(default_factory=Cat)
    certain: Literal["yes", "no", 1, None] = None


class Tree(BaseModel):
    name: str
    left: Tree | None = Field(None, description="What is smaller.")
    others: list[Tree] = []


class Loose(BaseModel):
    values: dict[str, int]
    note: str = ""


def requested(output_type: Any, provider: str = "openai") -> dict[str, Any]:
    """The ``json_schema`` of a request to chat completions."""
    wanted: dict[str, Any] = params_for(output_type, provider=provider, endpoint=CHAT)["response_format"]["json_schema"]
    return wanted


def strict(output_type: Any, provider: str = "openai") -> dict[str, Any]:
    wanted = requested(output_type, provider)
    assert wanted["strict"] is True
    schema: dict[str, Any] = wanted["schema"]
    return schema


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema within a strict one."""
    yield schema
    for part in [
        *schema.get("properties", {}).values(),
        *schema.get("$defs", {}).values(),
        *schema.get("anyOf", []),
        *([schema["items"]] if "items" in schema else []),
    ]:
        yield from nodes(part)


@pytest.mark.parametrize("provider", ["openai", "azure"])
def test_chat_completions_take_the_schema_as_response_format(provider: str) -> None:
    params = params_for(Address, provider=provider, endpoint=CHAT)
    assert params == {
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "Address",
                "schema": {
                    "title": "Address",
                    "type": "object",
                    "properties": {
                        "street": {"title": "Street", "type": "string"},
                        "zip": {"title": "Zip", "anyOf": [{"type": "string"}, {"type": "null"}]},
                    },
                    "required": ["street", "zip"],
                    "additionalProperties": False,
                },
                "strict": True,
            },
        }
    }


@pytest.mark.parametrize("provider", ["openai", "azure"])
@pytest.mark.parametrize("output_type", [Ticket, Loose])
def test_responses_take_the_same_schema_as_text_format(provider: str, output_type: Any) -> None:
    params = params_for(output_type, provider=provider, endpoint=RESPONSES)
    assert params == {"text": {"format": {"type": "json_schema", **requested(output_type, provider)}}}


@pytest.mark.parametrize("provider", ["openai", "azure"])
@pytest.mark.parametrize("endpoint", [CHAT, RESPONSES])
def test_an_endpoint_without_v1_takes_the_same_schema(provider: str, endpoint: str) -> None:
    short = endpoint.removeprefix("/v1")
    assert params_for(Ticket, provider=provider, endpoint=short) == params_for(
        Ticket, provider=provider, endpoint=endpoint
    )


def test_anthropic_takes_the_schema_as_output_config_which_needs_no_header() -> None:
    params = params_for(Address, provider="anthropic", endpoint="/v1/messages")
    assert params == {"output_config": {"format": {"type": "json_schema", "schema": strict(Address)}}}


@pytest.mark.parametrize("output_type", [Loose, Tree])
def test_anthropic_gets_a_forced_tool_for_a_type_without_a_strict_schema(output_type: type[BaseModel]) -> None:
    params = params_for(output_type, provider="anthropic", endpoint=CHAT)
    name = output_type.__name__
    [tool] = params["tools"]
    assert params == {"tools": [tool], "tool_choice": {"type": "tool", "name": name}}
    assert (tool["name"], tool["input_schema"]["type"]) == (name, "object")
    jsonschema.validate({"name": "a", "values": {"b": 1}}, tool["input_schema"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": 1, "values": {"b": "c"}}, tool["input_schema"])


def test_gemini_takes_the_schema_in_the_generation_config() -> None:
    params = params_for(Address, provider="gemini", endpoint=CHAT)
    config = {"responseMimeType": "application/json", "responseJsonSchema": strict(Address)}
    assert params == {"generationConfig": config}


def test_gemini_takes_a_free_form_dict() -> None:
    config = params_for(Loose, provider="gemini", endpoint=CHAT)["generationConfig"]
    schema = Loose.model_json_schema()
    del schema["properties"]["note"]["default"]
    assert config["responseJsonSchema"] == schema


def test_gemini_takes_recursion_only_in_optional_properties() -> None:
    config = params_for(Tree, provider="gemini", endpoint=CHAT)["generationConfig"]
    assert config["responseJsonSchema"]["required"] == ["name"]


@pytest.mark.parametrize("provider", ["bedrock", "a new one"])
def test_a_provider_without_a_known_schema_form_is_an_error_that_names_request_params(provider: str) -> None:
    with pytest.raises(ValueError, match=rf"{provider} .*request_params"):
        params_for(Address, provider=provider, endpoint=CHAT)


@pytest.mark.parametrize("endpoint", ["/v1/embeddings", "/v1/completions", "/v1/messages"])
def test_an_endpoint_that_takes_no_schema_is_an_error(endpoint: str) -> None:
    with pytest.raises(ValueError, match=f"output_type does not work with {endpoint}. Only /v1/chat/completions"):
        params_for(Address, provider="openai", endpoint=endpoint)


@pytest.mark.parametrize("provider", ["openai", "azure", "anthropic", "gemini", "vertex"])
@pytest.mark.parametrize("output_type", [Ticket, Tree, Loose])
def test_the_members_go_into_every_line_of_a_batch(tmp_path: Path, provider: str, output_type: Any) -> None:
    params = params_for(output_type, provider=provider, endpoint=CHAT)
    files = write_parts(
        [(1, "Hi")],
        tmp_path,
        provider=provider,
        endpoint=CHAT,
        model="m",
        request_params={"max_tokens": 9, **params},
    )
    line = json.loads(files.parts[0].path.read_text())
    body = line.get("body") or line.get("params") or line["request"]
    assert params.items() <= body.items()


Item = TypeVar("Item")


class Box(BaseModel, Generic[Item]):
    item: Item


@pytest.mark.parametrize(
    ("output_type", "name"),
    [(Ticket, "Ticket"), (Box[int], "Box_int"), (Annotated[Ticket, "x"], "Ticket"), (create_model("Größe"), "Gr_e")],
)
def test_the_schema_is_named_after_the_type(output_type: Any, name: str) -> None:
    assert requested(output_type)["name"] == name


@settings(deadline=None)
@given(st.text())
def test_any_title_becomes_a_name_that_providers_accept(title: str) -> None:
    name = requested(create_model("Model", __config__=ConfigDict(title=title)))["name"]
    assert 1 <= len(name) <= MAX_NAME
    assert all(char.isascii() and (char.isalnum() or char in "_-") for char in name)


@pytest.mark.parametrize("provider", ["openai", "azure"])
@pytest.mark.parametrize("output_type", [Ticket, Tree, Address])
def test_a_strict_schema_requires_every_property_and_has_no_others_and_no_defaults(
    provider: str, output_type: Any
) -> None:
    for node in nodes(strict(output_type, provider)):
        assert not node.keys() & {"default", "discriminator", "oneOf", "const", "examples"}
        assert node.keys() & {"type", "anyOf", "$ref"}
        if node.get("type") == "object":
            assert node["additionalProperties"] is False
            assert node["required"] == list(node["properties"])


@pytest.mark.parametrize("output_type", [Ticket, Tree])
def test_a_reference_stands_alone_and_its_description_is_kept(output_type: Any) -> None:
    schema = strict(output_type)
    assert all(node.keys() == {"$ref"} for node in nodes(schema) if "$ref" in node)
    if output_type is Ticket:
        assert schema["properties"]["billing"]["description"] == "Where the bill goes."
        assert schema["properties"]["billing"]["required"] == ["street", "zip"]


def test_a_described_reference_to_the_type_itself_ends() -> None:
    class Chain(BaseModel):
        next: Annotated[Chain, Field(description="The next one.")]

    assert strict(Chain)["properties"]["next"]["properties"]["next"] == {"$ref": "#/$defs/Chain"}


def test_a_type_that_contains_itself_has_an_object_at_its_root() -> None:
    schema = strict(Tree)
    assert schema["type"] == "object"
    assert schema["$defs"].keys() == {"Tree"}


def test_a_choice_of_values_names_its_types() -> None:
    assert strict(Ticket)["properties"]["certain"]["anyOf"] == [
        {"type": "string", "enum": ["yes", "no"]},
        {"type": "integer", "enum": [1]},
        {"type": "null"},
    ]


class Numbered(IntEnum):
    ONE = 1


class Constrained(BaseModel):
    score: int = Field(ge=1, lt=5, description="Of five.")
    code: str = Field(pattern="^[A-Z]+$", min_length=2)
    ahead: Annotated[str, Field(json_schema_extra={"pattern": "(?=a)a"})]
    few: list[str] = Field(min_length=1, max_length=3)
    distinct: set[Numbered]
    day: date
    link: AnyUrl
    id: UUID


UNENFORCED = {
    "openai": {
        "code": "Constraints: minLength 2.",
        "ahead": 'Constraints: pattern "(?=a)a".',
        "distinct": "Constraints: uniqueItems true.",
        "link": 'Constraints: format "uri", minLength 1.',
    },
    "azure": {
        "score": "Of five.\n\nConstraints: exclusiveMaximum 5, minimum 1.",
        "code": 'Constraints: minLength 2, pattern "^[A-Z]+$".',
        "ahead": 'Constraints: pattern "(?=a)a".',
        "few": "Constraints: maxItems 3, minItems 1.",
        "distinct": "Constraints: uniqueItems true.",
        "day": 'Constraints: format "date".',
        "link": 'Constraints: format "uri", minLength 1.',
        "id": 'Constraints: format "uuid".',
    },
}


@pytest.mark.parametrize("provider", UNENFORCED)
def test_a_constraint_that_the_provider_does_not_know_goes_into_the_description(provider: str) -> None:
    properties = strict(Constrained, provider)["properties"]
    described = {name: node["description"] for name, node in properties.items() if "description" in node}
    assert described == {"score": "Of five."} | UNENFORCED[provider]
    known = {"minimum", "exclusiveMaximum", "pattern", "minItems", "maxItems", "format"} if provider == "openai" else {}
    assert set().union(*properties.values()) - {"type", "title", "description", "items"} == set(known)


def test_anthropic_and_gemini_know_other_keywords() -> None:
    format_ = params_for(Constrained, provider="anthropic", endpoint=CHAT)["output_config"]["format"]
    config = params_for(Constrained, provider="gemini", endpoint=CHAT)["generationConfig"]
    ours = {"type", "title", "description", "items"}
    assert set().union(*format_["schema"]["properties"].values()) - ours == {"format"}
    properties = config["responseJsonSchema"]["properties"]
    assert set().union(*properties.values()) - ours == {"minimum", "minItems", "maxItems", "format"}


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


@pytest.mark.parametrize(
    "field",
    [dict[str, int], dict, Any, list[Any], tuple[int, str], Open, dict[Urgency, int], list[dict[str, Any]] | None],
    ids=str,
)
def test_a_type_without_a_strict_schema_is_sent_as_pydantic_writes_it(field: Any) -> None:
    output_type = create_model("Free", value=(field, ...), other=(int, ...))
    wanted = requested(output_type)
    assert wanted["strict"] is False
    assert wanted["schema"] == output_type.model_json_schema()


@dataclass
class Point:
    x: int
    y: int = 0


class Pair(TypedDict, total=False):
    left: Point


@pytest.mark.parametrize("output_type", [Point, Pair, RootModel[Point], Annotated[Address, Field(description="It.")]])
def test_any_type_whose_json_is_an_object_is_accepted(output_type: Any) -> None:
    assert strict(output_type)["type"] == "object"


@pytest.mark.parametrize(
    ("output_type", "what"),
    [(list[Address], "array"), (int, "integer"), (Address | Ticket, "not a single one"), (Any, "not a single one")],
    ids=str,
)
def test_a_type_that_is_not_an_object_is_an_error_that_says_where_to_put_it(output_type: Any, what: str) -> None:
    with pytest.raises(ValueError, match=f"its JSON type is {what}. Make it a field of a model"):
        requested(output_type)


@pytest.mark.parametrize("output_type", [type("Plain", (), {}), 3, "Nowhere"], ids=str)
def test_a_type_without_a_schema_is_an_error(output_type: Any) -> None:
    with pytest.raises(ValueError, match="output_type has no JSON schema: "):
        requested(output_type)


def test_the_type_itself_is_not_changed() -> None:
    before = Ticket.model_json_schema()
    for provider in ("openai", "azure", "anthropic", "gemini"):
        params_for(Ticket, provider=provider, endpoint=CHAT)
    assert Ticket.model_json_schema() == before


ADDRESSES = st.builds(Address, street=st.text(), zip=st.none() | st.text())
TICKETS = st.builds(
    Ticket,
    subject=st.text(),
    urgency=st.sampled_from(Urgency),
    sender=ADDRESSES,
    reply_to=st.none() | ADDRESSES,
    billing=ADDRESSES,
    tags=st.lists(st.text(), max_size=2),
    score=st.integers(1, 5),
    due=st.none() | st.dates(),
    pet=st.builds(Cat, lives=st.integers()) | st.just(Dog()),
    certain=st.sampled_from(["yes", "no", 1, None]),
)
TREES = st.recursive(
    st.builds(Tree, name=st.text()),
    lambda trees: st.builds(Tree, name=st.text(), left=st.none() | trees, others=st.lists(trees, max_size=2)),
    max_leaves=4,
)


VALIDATORS = {
    (output_type, provider): jsonschema.Draft202012Validator(strict(output_type, provider))
    for output_type in (Ticket, Tree)
    for provider in ("openai", "azure")
}


@settings(deadline=None)
@given(value=TICKETS | TREES, provider=st.sampled_from(["openai", "azure"]))
def test_the_strict_schema_accepts_what_the_type_accepts(value: BaseModel, provider: str) -> None:
    VALIDATORS[type(value), provider].validate(value.model_dump(mode="json"))


def test_the_strict_schema_is_a_schema() -> None:
    for validator in VALIDATORS.values():
        jsonschema.Draft202012Validator.check_schema(validator.schema)


@pytest.mark.parametrize("left_out", ["urgency", "tags", "due"])
def test_the_strict_schema_requires_properties_with_defaults(left_out: str) -> None:
    answer = Ticket(subject="", sender=Address(street="")).model_dump(mode="json")
    jsonschema.validate(answer, strict(Ticket))
    del answer[left_out]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(answer, strict(Ticket))


class Price(BaseModel):
    amount: Decimal = Field(ge=0, description="In euros.")


def test_a_decimal_may_be_answered_as_a_number_or_as_text() -> None:
    for provider in ("openai", "azure"):
        choices = strict(Price, provider)["properties"]["amount"]["anyOf"]
        assert [choice["type"] for choice in choices] == ["number", "string"]
