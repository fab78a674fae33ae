"""The text of an answer, and why it ended, in every API."""

from __future__ import annotations

from typing import Any

import pytest
from support.result_lines import answered, bedrock, chat


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (chat("Hi"), "Hi"),
        (chat(""), ""),
        (chat([{"type": "text", "text": "H"}, {"type": "image_url"}, {"type": "text", "text": "i"}]), "Hi"),
        (chat([{"type": "thinking", "text": "hm"}, {"type": "text", "text": "Hi"}]), "Hi"),
        (chat(None, refusal="I cannot"), None),
        (chat("", refusal="I cannot"), None),
        (chat([{"type": "refusal", "refusal": "I cannot"}]), None),
        (chat(None, "tool_calls", tool_calls=[{"id": "1"}]), None),
        ({"choices": [{"text": "Hi", "finish_reason": "stop"}]}, "Hi"),
        ({"choices": []}, None),
        ({"choices": [None]}, None),
        (
            {
                "output": [
                    {"type": "reasoning", "summary": []},
                    {"type": "message", "content": [{"type": "output_text", "text": "H"}, {"type": "refusal"}]},
                    {"type": "message", "content": [{"type": "output_text", "text": "i"}]},
                ]
            },
            "Hi",
        ),
        ({"output": []}, None),
        ({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hi"}]}, "Hi"),
        ({"content": [{"type": "tool_use", "input": {}}]}, None),
        ({"candidates": [{"content": {"parts": [{"text": "hm", "thought": True}, {"text": "Hi"}]}}]}, "Hi"),
        ({"candidates": [{"finishReason": "SAFETY"}]}, None),
        ({"text": "Hi", "finish_reason": "STOP"}, "Hi"),
        ({"data": [{"object": "embedding", "embedding": [0.1]}], "model": "e"}, None),
        ({"embedding": {"values": [0.1]}}, None),
    ],
)
def test_the_assistants_text_is_found_in_every_api(body: dict[str, Any], text: str | None) -> None:
    assert answered(body).text == text


@pytest.mark.parametrize(
    ("output", "finish_reason"),
    [
        ({"content": [{"type": "text", "text": "Hi"}], "stop_reason": "max_tokens"}, "length"),
        (
            {"output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}}, "stopReason": "max_tokens"},
            "length",
        ),
        ({"generation": "Hi", "stop_reason": "length"}, "length"),
        ({"results": [{"outputText": "Hi", "completionReason": "LENGTH"}]}, "length"),
        ({"outputs": [{"text": "Hi", "stop_reason": "length"}]}, "length"),
        (
            {"output": {"message": {"content": [{"text": "Hi"}]}}, "stopReason": "guardrail_intervened"},
            "content_filter",
        ),
        ({"results": [{"outputText": "Hi", "completionReason": "FINISH"}]}, "stop"),
    ],
)
def test_every_family_of_bedrocks_models_is_read(output: dict[str, Any], finish_reason: str) -> None:
    row = bedrock(output)
    assert (row.outcome, row.text, row.finish_reason, row.response) == ("succeeded", "Hi", finish_reason, output)


def anthropic(reason: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": "Hi"}], "stop_reason": reason}


def gemini(reason: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": reason}]}


def responses(status: str, **more: Any) -> dict[str, Any]:
    return {"status": status, "output": [{"type": "message", "content": []}], **more}


@pytest.mark.parametrize(
    ("body", "finish_reason"),
    [
        (chat(finish_reason="length"), "length"),
        (chat(finish_reason="eos"), "eos"),
        (chat(finish_reason=None), None),
        (chat(finish_reason=7), None),
        (anthropic("end_turn"), "stop"),
        (anthropic("stop_sequence"), "stop"),
        (anthropic("max_tokens"), "length"),
        (anthropic("model_context_window_exceeded"), "length"),
        (anthropic("tool_use"), "tool_calls"),
        (anthropic("refusal"), "content_filter"),
        (anthropic("pause_turn"), "pause_turn"),
        (gemini("STOP"), "stop"),
        (gemini("MAX_TOKENS"), "length"),
        (gemini("SAFETY"), "content_filter"),
        (gemini("OTHER"), "OTHER"),
        ({"promptFeedback": {"blockReason": "SAFETY"}}, "content_filter"),
        ({"text": "Hi", "finish_reason": "MAX_TOKENS"}, "length"),
        (responses("completed"), "stop"),
        (responses("completed", output=[{"type": "function_call"}]), "tool_calls"),
        (responses("incomplete", incomplete_details={"reason": "max_output_tokens"}), "length"),
        (responses("incomplete", incomplete_details={"reason": "content_filter"}), "content_filter"),
        (responses("incomplete"), "incomplete"),
    ],
)
def test_the_finish_reason_is_in_openais_words(body: dict[str, Any], finish_reason: str | None) -> None:
    assert answered(body).finish_reason == finish_reason
