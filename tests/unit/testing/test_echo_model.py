"""The echo model: prompts, markers, tokens, and answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_bifrost.testing.model import Fate, Row, Verdict, echo_lines, openai_answer, reply, tokens, verdict


def chat(*contents: object) -> Row:
    return Row.read({"custom_id": "r", "body": {"messages": [{"role": "user", "content": c} for c in contents]}})


def test_the_prompt_is_the_last_user_message() -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "first"},
        {"role": "user", "content": "second"},
        {"role": "assistant", "content": "prefill"},
    ]
    assert Row.read({"custom_id": "r", "body": {"messages": messages}}).prompt == "second"


def test_the_prompt_may_be_given_in_parts() -> None:
    assert chat([{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]).prompt == "one two"


@pytest.mark.parametrize("provider", ["openai", "azure", "anthropic", "gemini", "bedrock", "vertex"])
def test_a_row_is_read_in_each_providers_own_shape(provider: str) -> None:
    row = Row.read(echo_lines(provider, 2)[1])
    assert (row.custom_id, row.prompt) == ("row-2", "row 2")


def test_a_responses_row_may_have_a_plain_input() -> None:
    assert Row.read({"custom_id": "r", "body": {"input": "hello", "instructions": "x"}}).prompt == "hello"


def test_input_tokens_count_every_message() -> None:
    assert chat("12345678", "1234").input_tokens == 3


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("hello", Verdict(Fate.OK)),
        ("!fail", Verdict(Fate.FAIL, 400)),
        ("!fail 429 and more", Verdict(Fate.FAIL, 429)),
        ("!flaky", Verdict(Fate.FLAKY, 500)),
        ("!expire", Verdict(Fate.EXPIRE)),
        ("!missing", Verdict(Fate.MISSING)),
        ("!garble", Verdict(Fate.GARBLE)),
        ("!failing is no marker", Verdict(Fate.OK)),
        ("do not !fail", Verdict(Fate.OK)),
    ],
)
def test_a_marker_at_the_beginning_decides_about_the_row(prompt: str, wanted: Verdict) -> None:
    assert verdict(prompt) == wanted


def test_the_answer_echoes_the_prompt() -> None:
    assert reply(chat("hello")) == "echo: hello"


def test_the_answer_is_what_it_was_told_to_say() -> None:
    assert reply(chat('!say {"answer": 42}')) == '{"answer": 42}'


@given(st.text())
def test_every_text_has_at_least_one_token_and_no_more_than_its_characters(text: str) -> None:
    assert 1 <= tokens(text) <= max(1, len(text))


def test_usage_adds_up() -> None:
    usage = openai_answer("/v1/chat/completions", chat("12345678"), "seed")["usage"]
    assert usage == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}


def test_a_responses_row_is_answered_with_output_text() -> None:
    body = openai_answer("/v1/responses", Row.read({"custom_id": "r", "body": {"input": "hi"}}), "seed")
    assert body["output"][0]["content"][0] == {"type": "output_text", "text": "echo: hi", "annotations": []}


def test_embeddings_are_the_same_for_the_same_text_and_differ_for_another() -> None:
    row = Row.read({"custom_id": "r", "body": {"input": ["a", "b", "a"], "dimensions": 4}})
    first, second, third = (entry["embedding"] for entry in openai_answer("/v1/embeddings", row, "seed")["data"])
    assert first == third != second
    assert len(first) == 4


def test_a_text_completion_has_text_and_no_message() -> None:
    body = openai_answer("/v1/completions", Row.read({"custom_id": "r", "body": {"prompt": "hi"}}), "seed")
    assert body["choices"] == [{"index": 0, "text": "echo: hi", "finish_reason": "stop"}]
