"""Reads the answer in a response body of any API: whether there is one, its text, and why it ended. Pure.

The members of a body show which API it comes from.
"""

from __future__ import annotations

from typing import Any

from airflow_bifrost.results.members import JsonObject, list_of, object_of, text_of

_CUT_SHORT = ("length", "content_filter")
_EMPTY: tuple[Any, ...] = (None, "", [], {})


def has_answer(body: JsonObject) -> bool:
    """Whether a body that reports no error holds an answer. A body of an unknown form counts as an answer unless all its members are empty.

    An answer need not have text: a refusal, a tool call and an embedding are answers, and so is an answer that a limit or a filter cut off.
    """
    match body:
        case {"choices": choices}:
            return _choice_has_answer(list_of(choices)[:1])
        case {"promptFeedback": {"blockReason": str()}}:  # Gemini refused the prompt
            return True
        case {"candidates": candidates}:  # Gemini
            first = object_of(next(iter(list_of(candidates)), None))
            return bool(first.get("content") or first.get("finishReason"))
        case {"output": {"message": message}}:  # Bedrock's Converse, and Nova
            return bool(object_of(message))
        case {"output": output}:  # the Responses API
            return bool(list_of(output)) or _end_of_response(body, []) in _CUT_SHORT
        case {"content": content}:  # Anthropic, whose models may end their turn without text
            return bool(list_of(content)) or text_of(body.get("stop_reason")) is not None
        case {"data": answers} | {"results": answers} | {"outputs": answers}:  # embeddings; Titan, Mistral
            return bool(answers)
    return any(value not in _EMPTY for value in body.values())


def _choice_has_answer(first: list[Any]) -> bool:
    match first:
        case [{"text": str()}]:  # completions
            return True
        case [{"message": dict() as message} as choice]:  # chat completions
            said = any(value is not None and value not in ([], {}) for name, value in message.items() if name != "role")
            return said or finish_reason_of(choice.get("finish_reason")) in _CUT_SHORT
    return False


def text_and_finish_reason(body: JsonObject) -> tuple[str | None, str | None]:
    """The assistant's text, and why it ended; see :class:`airflow_bifrost.results.rows.ResultRow`."""
    match body:
        case {"choices": [{"message": dict() as message} as choice, *_]}:  # chat completions
            text = None if message.get("refusal") else _joined(message.get("content"))
            return text, finish_reason_of(choice.get("finish_reason"))
        case {"choices": [dict() as choice, *_]}:  # completions
            return text_of(choice.get("text")), finish_reason_of(
                choice.get("finish_reason") or choice.get("stop_reason")
            )
        case {"output": [*items]}:  # the Responses API
            parts = [part for item in items for part in list_of(object_of(item).get("content"))]
            return _joined(parts), _end_of_response(body, items)
        case {"output": {"message": dict() as message}}:  # Bedrock's Converse, and Nova
            return _joined(message.get("content")), finish_reason_of(body.get("stopReason"))
        case {"candidates": [dict() as candidate, *_]}:  # Gemini
            return _joined(object_of(candidate.get("content")).get("parts")), finish_reason_of(
                candidate.get("finishReason")
            )
        case {"promptFeedback": {"blockReason": str()}}:  # Gemini refused the prompt
            return None, "content_filter"
        case {"content": [*parts]}:  # Anthropic, and Claude at Bedrock
            return _joined(parts), finish_reason_of(body.get("stop_reason"))
        case {"generation": str() as text}:  # Llama at Bedrock
            return text, finish_reason_of(body.get("stop_reason"))
        case {"results": [{"outputText": str() as text} as result, *_]}:  # Titan at Bedrock
            return text, finish_reason_of(result.get("completionReason"))
        case {"outputs": [{"text": str() as text} as output, *_]}:  # Mistral at Bedrock
            return text, finish_reason_of(output.get("stop_reason"))
        case {"text": str() as text}:  # a Gemini answer that the gateway has reduced to its text
            return text, finish_reason_of(body.get("finish_reason"))
    return None, finish_reason_of(body.get("finish_reason") or body.get("stop_reason"))


def model_of(body: JsonObject) -> str | None:
    """The model that answered, in the provider's spelling."""
    return text_of(body.get("model")) or text_of(body.get("modelVersion"))


def _joined(content: Any) -> str | None:
    """The text of a string or of parts. Parts with reasoning, refusals or tool calls do not count as text."""
    if isinstance(content, str):
        return content
    parts = [part for part in list_of(content) if isinstance(part, dict) and isinstance(part.get("text"), str)]
    texts = [
        part["text"]
        for part in parts
        if part.get("type", "text") in ("text", "output_text") and not part.get("thought")
    ]
    return "".join(texts) if texts else None


def _end_of_response(body: JsonObject, items: list[Any]) -> str | None:
    """Why an answer of the Responses API ended. It reports this in three places."""
    if body.get("status") == "incomplete":
        return finish_reason_of(object_of(body.get("incomplete_details")).get("reason") or "incomplete")
    if any(object_of(item).get("type") in ("function_call", "custom_tool_call") for item in items):
        return "tool_calls"
    return finish_reason_of(body.get("status"))


_FINISH = {
    word: meaning
    for meaning, words in {
        "stop": "stop end_turn stop_sequence completed complete finish",
        "length": "length max_tokens max_output_tokens model_context_window_exceeded",
        "content_filter": "content_filter content_filtered refusal guardrail_intervened"
        " safety image_safety recitation blocklist prohibited_content spii",
        "tool_calls": "tool_calls tool_use",
    }.items()
    for word in words.split()
}


def finish_reason_of(word: Any) -> str | None:
    """A provider's finish reason, translated to OpenAI's words. Unknown reasons are unchanged."""
    said = text_of(word)
    return said and _FINISH.get(said.lower(), said)
