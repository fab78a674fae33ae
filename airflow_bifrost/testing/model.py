"""The echo model: what a row asks for, its fate, and the answer in each provider's own format.

Everything here is a pure function of the row, so an answer can be computed when it is requested.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from airflow_bifrost.testing.schema_answer import (
    NoInstanceError,
    forced_tool,
    instance_of,
    schema_of,
    text_for,
)

JsonObject = dict[str, Any]

LABEL = "bifrost_custom_id"  # of a request to Vertex: the custom ID of its row


class Fate(StrEnum):
    """The fate of a row."""

    OK = "ok"
    FAIL = "fail"
    FLAKY = "flaky"  # fails in the first batch that has this prompt, succeeds in any later one
    EXPIRE = "expire"
    MISSING = "missing"
    GARBLE = "garble"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A row's fate, and the provider's HTTP status where it fails."""

    fate: Fate
    code: int = 200


@dataclass(frozen=True, slots=True)
class Row:
    """One request line, whatever its provider calls the parts."""

    custom_id: str
    body: JsonObject
    prompt: str
    input_tokens: int

    @classmethod
    def read(cls, line: JsonObject) -> Row:
        """Read a request line of OpenAI (``body``), Anthropic (``params``), Gemini and Vertex (``request``) or Bedrock (``modelInput``)."""
        body: JsonObject = next(
            (line[k] for k in ("body", "params", "request", "modelInput") if isinstance(line.get(k), dict)), {}
        )
        custom_id = next((line[k] for k in ("custom_id", "key", "recordId") if line.get(k)), "") or _label(body)
        turns = _turns(body)
        asked = [text for role, text in turns if role == "user"] or [text for _, text in turns] or [""]
        return cls(str(custom_id), body, asked[-1], sum(tokens(text) for _, text in turns))


_MARKER = re.compile(r"!(fail|flaky|expire|missing|garble)\b\s*(\d{3})?")
_SAY = re.compile(r"!say\s+", re.ASCII)
_DEFAULT_CODE = {Fate.FAIL: 400, Fate.FLAKY: 500}


def verdict(prompt: str) -> Verdict:
    """The fate that a prompt asks for by a marker at its beginning."""
    found = _MARKER.match(prompt)
    if found is None:
        return Verdict(Fate.OK)
    fate = Fate(found[1])
    return Verdict(fate, int(found[2]) if found[2] else _DEFAULT_CODE.get(fate, 200))


def reply(row: Row) -> str:
    """The model's text: what it was told to say, an instance of the schema that the request asks for, or the prompt again."""
    if said := _SAY.match(row.prompt):
        return row.prompt[said.end() :]
    if (schema := schema_of(row.body)) is not None:
        with suppress(NoInstanceError):
            return text_for(schema, row.prompt)
    return f"echo: {row.prompt}"


def tokens(text: str) -> int:
    """Tokens of a text: one for every four characters begun, at least one."""
    return max(1, -(-len(text) // 4))


def digest(*parts: object, length: int = 24) -> str:
    """A name that is the same for the same parts."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:length]


def _label(body: JsonObject) -> Any:
    labels = body.get("labels")
    return labels.get(LABEL, "") if isinstance(labels, dict) else ""


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_text(part) for part in content)
    if isinstance(content, dict):
        return _text(next((content[k] for k in ("text", "content", "parts") if k in content), ""))
    return ""


def _turns(body: JsonObject) -> list[tuple[str, str]]:
    """Who says what in a request body, in order."""
    turns = [("system", _text(body[k])) for k in ("system", "instructions", "systemInstruction") if k in body]
    said: Any = next((body[k] for k in ("messages", "contents", "input", "prompt", "inputText") if k in body), [])
    if isinstance(said, list) and said and all(isinstance(turn, dict) for turn in said):
        return turns + [(str(turn.get("role", "user")), _text(turn)) for turn in said]
    if isinstance(said, list):
        return turns + [("user", _text(text)) for text in said]
    return [*turns, ("user", _text(said))]


def openai_answer(endpoint: str, row: Row, seed: str) -> JsonObject:
    """The body of a successful row at ``endpoint``; anything unknown answers like chat completions."""
    model = str(row.body.get("model", "echo-1"))
    text = reply(row)
    if endpoint.endswith("/embeddings"):
        return _embeddings(model, row)
    if endpoint.endswith("/responses"):
        return {
            "id": f"resp_{seed}",
            "object": "response",
            "status": "completed",
            "model": model,
            "output": [
                {
                    "id": f"msg_{seed}",
                    "type": "message",
                    "status": "completed",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": text, "annotations": []}],
                }
            ],
            "usage": {
                "input_tokens": row.input_tokens,
                "output_tokens": tokens(text),
                "total_tokens": row.input_tokens + tokens(text),
            },
        }
    chat = not endpoint.endswith("/completions") or endpoint.endswith("/chat/completions")
    said: JsonObject = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    return {
        "id": f"chatcmpl-{seed}",
        "object": "chat.completion" if chat else "text_completion",
        "model": model,
        "choices": [{"index": 0, **said, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": row.input_tokens,
            "completion_tokens": tokens(text),
            "total_tokens": row.input_tokens + tokens(text),
        },
    }


def _embeddings(model: str, row: Row) -> JsonObject:
    given = row.body.get("input", "")
    size = row.body.get("dimensions")
    vectors = [
        _vector(_text(text), size if isinstance(size, int) else 8)
        for text in (given if isinstance(given, list) else [given])
    ]
    return {
        "object": "list",
        "model": model,
        "data": [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)],
        "usage": {"prompt_tokens": row.input_tokens, "total_tokens": row.input_tokens},
    }


def _vector(text: str, size: int) -> list[float]:
    """Numbers between -1 and 1, the same for the same text."""
    return [round(int(digest(text, i, length=6), 16) / 0x7FFFFF - 1, 6) for i in range(size)]


def anthropic_answer(row: Row, seed: str) -> JsonObject:
    """A Messages API message."""
    content, text = _anthropic_content(row, seed)
    return {
        "id": f"msg_{seed}",
        "type": "message",
        "role": "assistant",
        "model": str(row.body.get("model", "echo-1")),
        "content": [content],
        "stop_reason": "tool_use" if content["type"] == "tool_use" else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": row.input_tokens, "output_tokens": tokens(text)},
    }


def _anthropic_content(row: Row, seed: str) -> tuple[JsonObject, str]:
    """The content block of an answer, and its text: the input of the tool that the request forces, or plain text."""
    tool = forced_tool(row.body)
    if tool is not None and not _SAY.match(row.prompt):
        with suppress(NoInstanceError):
            value = instance_of(tool[1], row.prompt)
            return {"type": "tool_use", "id": f"toolu_{seed}", "name": tool[0], "input": value}, json.dumps(value)
    text = reply(row)
    return {"type": "text", "text": text}, text


def vertex_answer(row: Row, seed: str, model: str) -> JsonObject:
    """A response of Google's ``generateContent``."""
    text = reply(row)
    return {
        "candidates": [
            {"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": "STOP", "index": 0},
        ],
        "modelVersion": model,
        "responseId": seed,
        "usageMetadata": {
            "promptTokenCount": row.input_tokens,
            "candidatesTokenCount": tokens(text),
            "totalTokenCount": row.input_tokens + tokens(text),
        },
    }


def gemini_summary(row: Row) -> JsonObject:
    """What the gateway leaves of Gemini's answer."""
    text = reply(row)
    return {
        "finish_reason": "STOP",
        "text": text,
        "usage": {
            "completion_tokens": tokens(text),
            "prompt_tokens": row.input_tokens,
            "total_tokens": row.input_tokens + tokens(text),
        },
    }


def echo_lines(provider: str, count: int) -> list[JsonObject]:
    """``count`` request lines that ask for an echo, in the provider's own shape."""
    lines = []
    for number in range(1, count + 1):
        custom_id, prompt = f"row-{number}", f"row {number}"
        messages = [{"role": "user", "content": prompt}]
        if provider == "anthropic":
            line: JsonObject = {
                "custom_id": custom_id,
                "params": {"model": "echo-1", "max_tokens": 64, "messages": messages},
            }
        elif provider == "gemini":
            line = {"key": custom_id, "request": {"contents": [{"role": "user", "parts": [{"text": prompt}]}]}}
        elif provider == "vertex":
            contents = [{"role": "user", "parts": [{"text": prompt}]}]
            line = {"request": {"contents": contents, "labels": {LABEL: custom_id}}}
        elif provider == "bedrock":
            line = {"recordId": custom_id, "modelInput": {"max_tokens": 64, "messages": messages}}
        else:
            line = {
                "custom_id": custom_id,
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": "echo-1", "messages": messages},
            }
        lines.append(line)
    return lines


def to_line(value: JsonObject) -> bytes:
    """One line of JSONL."""
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"
