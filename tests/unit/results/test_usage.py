"""The tokens of an answer in every API."""

from __future__ import annotations

from typing import Any

import pytest
from support.result_lines import answered

from airflow_bifrost.results.rows import Usage


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        ({"usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}}, (9, 3, 12)),
        ({"usage": {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12}}, (9, 3, 12)),
        ({"usage": {"prompt_tokens": 9, "total_tokens": 9}}, (9, None, 9)),  # embeddings
        ({"usage": {"input_tokens": 9, "output_tokens": 3}}, (9, 3, 12)),
        ({"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3, "totalTokenCount": 12}}, (9, 3, 12)),
        ({"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": 5}}, (9, 8, 17)),
        ({"usageMetadata": {"promptTokenCount": 9, "thoughtsTokenCount": 5, "totalTokenCount": 14}}, (9, 5, 14)),
        ({"usage": {"inputTokens": 9, "outputTokens": 3, "totalTokens": 12}}, (9, 3, 12)),  # Nova
        ({"generation": "", "prompt_token_count": 9, "generation_token_count": 3}, (9, 3, 12)),  # Llama
        ({"inputTextTokenCount": 9, "results": [{"tokenCount": 3, "outputText": ""}]}, (9, 3, 12)),  # Titan
        ({"usage": {"prompt_tokens": "9", "completion_tokens": True, "total_tokens": 12}}, (None, None, 12)),
    ],
)
def test_tokens_are_counted_in_every_api(body: dict[str, Any], usage: tuple[int | None, ...]) -> None:
    assert answered(body).usage == Usage(*usage)


def test_tokens_that_anthropic_cached_count_as_input() -> None:
    usage = {"input_tokens": 1, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 300, "output_tokens": 3}
    assert answered({"usage": usage}).usage == Usage(321, 3, 324)


@pytest.mark.parametrize("usage", [None, {}, [], "9", {"prompt_tokens": -1}, {"total_tokens": 10**30}])
def test_a_body_without_token_counts_has_no_usage(usage: Any) -> None:
    assert answered({"usage": usage}).usage is None
