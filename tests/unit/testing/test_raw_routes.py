"""Which call a method and a raw path are."""

from __future__ import annotations

import pytest

from airflow_bifrost.testing.routes import Route, match, redirect


@pytest.mark.parametrize("prefix", ["/openai/v1", "/openai", "/openai/openai"])
def test_the_openai_routes_have_three_prefixes(prefix: str) -> None:
    assert match("GET", f"{prefix}/batches/b1") == Route("batch_retrieve", segment="b1")


def test_native_routes_are_told_apart() -> None:
    assert match("GET", "/v1/batches/b1/results") == Route("batch_results", native=True, segment="b1")


def test_the_id_is_not_decoded() -> None:
    assert match("GET", "/openai/v1/batches/a%2Fb==") == Route("batch_retrieve", segment="a%2Fb==")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/openai/v1/batches/b1/results"),
        ("GET", "/openai/v1/batches/b1/cancel"),
        ("DELETE", "/openai/v1/batches/b1"),
        ("HEAD", "/openai/v1/batches/b1"),
        ("GET", "/openai/openai/v1/batches/b1"),
        ("GET", "/OpenAI/v1/batches/b1"),
        ("GET", "//openai/v1/batches/b1"),
        ("GET", "/openai/v1/batches//b1"),
        ("GET", "/openai/v1/batches/a/b"),
        ("GET", "/anthropic/v1/batches/b1"),
        ("POST", "/health"),
    ],
)
def test_what_the_gateway_does_not_know_is_no_route(method: str, path: str) -> None:
    assert match(method, path) is None


def test_a_trailing_slash_redirects_to_a_route_only() -> None:
    assert redirect("GET", "/openai/v1/batches/") == "/openai/v1/batches"
    assert redirect("GET", "/nosuch/") is None
    assert redirect("GET", "/openai/v1/batches") is None
