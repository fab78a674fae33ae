"""Reads the token counts of an answer of any API. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_bifrost.results.members import JsonObject, number_of
from airflow_bifrost.results.rows import Usage

# Each provider's name for a count, and the counts to add to it. Anthropic's input_tokens do not include cached tokens, and Gemini's
# candidates do not include thoughts. Both are billed, and all other providers include them.
_INPUT: Mapping[str, tuple[str, ...]] = {
    "prompt_tokens": (),
    "input_tokens": ("cache_creation_input_tokens", "cache_read_input_tokens"),
    "promptTokenCount": ("toolUsePromptTokenCount",),
    "inputTokens": (),
    "prompt_token_count": (),
    "inputTextTokenCount": (),
}
_OUTPUT: Mapping[str, tuple[str, ...]] = {
    "completion_tokens": (),
    "output_tokens": (),
    "candidatesTokenCount": ("thoughtsTokenCount",),
    "thoughtsTokenCount": (),  # the answer was cut off before its first token
    "outputTokens": (),
    "generation_token_count": (),
    "tokenCount": (),
}
_TOTAL: Mapping[str, tuple[str, ...]] = {"total_tokens": (), "totalTokenCount": (), "totalTokens": ()}


def usage_of(body: JsonObject) -> Usage | None:
    """The token counts of an answer; None if it has no counts."""
    match body:
        case {"usage": dict() as counts} | {"usageMetadata": dict() as counts}:
            pass
        case {"results": [{"tokenCount": count}, *_]}:  # Titan
            counts = {**body, "tokenCount": count}
        case _:  # Llama
            counts = body
    given, written, total = (_tokens(counts, names) for names in (_INPUT, _OUTPUT, _TOTAL))
    if given is None and written is None and total is None:
        return None
    return Usage(given, written, (given or 0) + (written or 0) if total is None else total)


def _tokens(counts: JsonObject, names: Mapping[str, tuple[str, ...]]) -> int | None:
    for name, more in names.items():
        number = number_of(counts.get(name))
        if number is not None:
            return number + sum(number_of(counts.get(other)) or 0 for other in more)
    return None
