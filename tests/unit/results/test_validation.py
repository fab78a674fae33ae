"""The answer of a row is validated against a type, or the row says why it is invalid."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator

from airflow_bifrost.results.parse import result_row
from airflow_bifrost.results.rows import ResultRow, RowError, RowOutcome, Usage
from airflow_bifrost.results.validation import validated
from airflow_bifrost.testing.model import Row, anthropic_answer, gemini_summary, openai_answer

CHAT = "/v1/chat/completions"


class Urgency(Enum):
    LOW = "low"
    HIGH = "high"


class Item(BaseModel):
    name: str
    price: float | None = None


class Invoice(BaseModel):
    items: list[Item]
    due: date | None = None
    urgency: Urgency = Urgency.LOW


INVOICES = TypeAdapter(Invoice)
ANSWER = {"items": [{"name": "pen", "price": 1.5}, {"name": "ink"}], "due": "2026-04-05"}
OUTPUT = {
    "items": [{"name": "pen", "price": 1.5}, {"name": "ink", "price": None}],
    "due": "2026-04-05",
    "urgency": "low",
}


def row_of(text: str | None, **members: Any) -> ResultRow:
    row = ResultRow("row-1", RowOutcome.SUCCEEDED, text, "stop", response={"id": "x"}, usage=Usage(1, 2, 3))
    return replace(row, **members)


def failure(text: str | None, adapter: TypeAdapter[Any] = INVOICES, **members: Any) -> str:
    """The error message of an invalid row. Its other members must be unchanged."""
    row = row_of(text, **members)
    invalid = validated(row, adapter)
    assert invalid.error is not None
    assert invalid.error.code == "invalid_output"
    assert invalid.error.message is not None
    assert invalid == replace(row, outcome=RowOutcome.FAILED, error=invalid.error)
    return invalid.error.message


# Valid answers


def test_the_answer_becomes_the_output_in_json_types_with_its_defaults() -> None:
    row = row_of(json.dumps(ANSWER))
    assert validated(row, INVOICES) == replace(row, output=OUTPUT)


PROMPT = f"!say {json.dumps(ANSWER)}"
REQUEST = Row("row-1", {}, PROMPT, 1)


@pytest.mark.parametrize(
    "line",
    [
        {"custom_id": "row-1", "response": {"status_code": 200, "body": openai_answer(CHAT, REQUEST, "s")}},
        {"custom_id": "row-1", "response": {"status_code": 200, "body": openai_answer("/v1/responses", REQUEST, "s")}},
        {"custom_id": "row-1", "result": {"type": "succeeded", "message": anthropic_answer(REQUEST, "s")}},
        {"custom_id": "row-1", "response": {"status_code": 200, "body": gemini_summary(REQUEST)}},
    ],
    ids=["chat", "responses", "anthropic", "gemini"],
)
def test_the_answer_is_the_text_of_any_provider(line: dict[str, Any]) -> None:
    row = result_row(line)
    assert row is not None
    assert validated(row, INVOICES).output == OUTPUT


@pytest.mark.parametrize(
    "body",
    [
        {
            "content": [
                {"type": "text", "text": "Here it is."},
                {"type": "tool_use", "id": "t", "name": "Invoice", "input": ANSWER},
            ],
            "stop_reason": "tool_use",
        },
        {
            "choices": [
                {
                    "message": {
                        "content": None,
                        "tool_calls": [{"function": {"name": "Invoice", "arguments": json.dumps(ANSWER)}}],
                    },
                    "finish_reason": "tool_calls",
                }
            ]
        },
        {
            "output": [
                {"type": "reasoning", "summary": []},
                {"type": "function_call", "name": "Invoice", "arguments": json.dumps(ANSWER)},
            ],
            "status": "completed",
        },
        {
            "output": {"message": {"content": [{"text": "Here."}, {"toolUse": {"name": "Invoice", "input": ANSWER}}]}},
            "stopReason": "tool_use",
        },
    ],
    ids=["anthropic", "chat", "responses", "converse"],
)
def test_the_answer_is_the_input_of_a_tool_call(body: dict[str, Any]) -> None:
    row = result_row({"custom_id": "row-1", "response": {"status_code": 200, "body": body}})
    assert row is not None
    assert validated(row, INVOICES) == replace(row, output=OUTPUT)


@pytest.mark.parametrize("fence", ["```json\n{}\n```", "\n```\n{}```  \n", "```JSON \r\n{}\r\n```"], ids=repr)
@settings(deadline=None)
@given(name=st.text() | st.just("```\n```"))
def test_a_code_fence_around_the_answer_is_removed(fence: str, name: str) -> None:
    answer = Item(name=name).model_dump_json()
    assert validated(row_of(fence.replace("{}", answer)), TypeAdapter(Item)).output == {"name": name, "price": None}


def test_a_strict_type_accepts_values_that_json_spells_as_strings() -> None:
    class Day(BaseModel):
        model_config = ConfigDict(strict=True)
        day: date

    day = {"day": "2026-04-05"}
    called = {"content": [{"type": "tool_use", "input": day}]}
    assert validated(row_of(json.dumps(day)), TypeAdapter(Day)).output == day
    assert validated(row_of(None, response=called), TypeAdapter(Day)).output == day


@pytest.mark.parametrize("outcome", [outcome for outcome in RowOutcome if outcome is not RowOutcome.SUCCEEDED])
def test_a_row_that_did_not_succeed_stays_as_it_is(outcome: RowOutcome) -> None:
    row = row_of("no JSON", outcome=outcome, error=RowError("x"))
    assert validated(row, INVOICES) is row


# Invalid answers


def test_an_answer_that_is_not_json_is_invalid() -> None:
    assert failure("Sure! Here it is.") == "Invalid JSON: expected value at line 1 column 1"


@pytest.mark.parametrize("text", ["", " ", "[" * 100_000, '{"items": "\ud800"}', "```json\n```", "null", "[]", "1e999"])
def test_an_answer_that_does_not_match_the_type_is_invalid(text: str) -> None:
    assert failure(text)


def test_the_message_names_each_place_that_is_wrong() -> None:
    text = json.dumps({"items": [{"name": "pen"}, {"price": "cheap"}], "urgency": "middling"})
    assert failure(text) == (
        "items.1.name: Field required; items.1.price: Input should be a valid number, unable to parse string as a number;"
        " urgency: Input should be 'low' or 'high'"
    )


def test_the_message_names_a_few_places_and_counts_the_others() -> None:
    message = failure(json.dumps({"items": [{}] * 1000}))
    assert message.startswith("items.0.name: Field required; ")
    assert message.endswith("items.4.name: Field required; and 995 more")


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]
    age: int = Field(0, le=30)


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    since: date
    nick: str = Field(pattern="^[a-z]+$", max_length=8)
    urgency: Urgency


@pytest.mark.parametrize(
    ("pet", "said"),
    [
        ({"kind": "SECRET"}, "pet: Input tag does not match any of the expected tags: 'cat', 'dog'"),
        ({"kind": "dog", "age": "SECRET"}, "pet.dog.age: Input should be a valid integer"),
    ],
)
def test_the_message_does_not_quote_values(pet: dict[str, Any], said: str) -> None:
    text = json.dumps({"pet": pet, "since": "SECRET", "nick": "SECRETSECRET", "urgency": "SECRET"})
    message = failure(text, TypeAdapter(Owner))
    assert said in message
    assert "SECRET" not in message


def test_the_message_has_the_words_of_the_types_own_validators() -> None:
    class Even(BaseModel):
        number: int

        @field_validator("number")
        @classmethod
        def even(cls, number: int) -> int:
            if number % 2:
                raise ValueError("must be even")
            return number

    assert failure('{"number": 3}', TypeAdapter(Even)) == "number: Value error, must be even"


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1), st.text(), min_size=1))
def test_a_message_is_one_line_of_at_most_500_characters(extra: dict[str, str]) -> None:
    class Closed(BaseModel):
        model_config = ConfigDict(extra="forbid")

    message = failure(json.dumps(extra), TypeAdapter(Closed))
    assert len(message) <= 500
    assert message.isprintable()


@pytest.mark.parametrize("text", ['{"items": [{"na', None])
def test_the_message_about_a_cut_off_answer_says_what_to_do(text: str | None) -> None:
    message = failure(text, finish_reason="length")
    assert message.startswith("The answer was cut off: raise max_tokens")


def test_a_cut_off_answer_that_is_valid_succeeds() -> None:
    assert validated(row_of(json.dumps(ANSWER) + "\n", finish_reason="length"), INVOICES).output == OUTPUT


@pytest.mark.parametrize("reason", ["content_filter", "stop"])
def test_an_answer_without_text_says_why_it_ended(reason: str) -> None:
    message = failure(None, finish_reason=reason)
    assert message == f"The answer has no text (finish_reason {reason}). See `response` for the whole answer."


def test_a_type_that_cannot_be_serialized_is_named_in_the_message() -> None:
    class Opaque(BaseModel):
        value: Any

        @field_validator("value")
        @classmethod
        def hide(cls, value: Any) -> object:
            return object()

    assert "cannot be written as JSON: give it a serializer" in failure('{"value": 1}', TypeAdapter(Opaque))


def test_an_answer_without_a_body_is_validated() -> None:
    assert validated(row_of(json.dumps(ANSWER), response=None), INVOICES).output == OUTPUT
