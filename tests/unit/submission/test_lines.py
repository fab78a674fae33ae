"""A row becomes a request line of its provider."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.requests import CHAT, line_of, lines, reason, refused, write

from airflow_bifrost.exceptions import BatchInputError
from airflow_bifrost.submission.ids import custom_id_of
from airflow_bifrost.submission.reading import Unreadable
from airflow_bifrost.testing.model import echo_lines


@pytest.mark.parametrize(
    ("provider", "endpoint", "body"),
    [
        ("openai", CHAT, {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}),
        ("azure", CHAT, {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}),
        ("openai", "/v1/responses", {"model": "m", "input": "Hi"}),
        ("openai", "/v1/embeddings", {"model": "m", "input": "Hi"}),
        ("openai", "/v1/completions", {"model": "m", "prompt": "Hi"}),
    ],
)
def test_a_prompt_becomes_a_body_of_its_endpoint(provider: str, endpoint: str, body: Any, tmp_path: Path) -> None:
    assert line_of("Hi", tmp_path, provider=provider, endpoint=endpoint) == {
        "custom_id": "row-000000001",
        "method": "POST",
        "url": endpoint,
        "body": body,
    }


def test_a_prompt_becomes_a_line_of_anthropic(tmp_path: Path) -> None:
    assert line_of("Hi", tmp_path, provider="anthropic") == {
        "custom_id": "row-000000001",
        "params": {"model": "m", "max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}]},
    }


def test_a_prompt_becomes_a_line_of_gemini(tmp_path: Path) -> None:
    config = {"generationConfig": {"temperature": 0}}
    assert line_of("Hi", tmp_path, provider="gemini", model="gemini-2.5-flash", request_params=config) == {
        "key": "row-000000001",
        "request": {**config, "contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
    }


def test_a_prompt_becomes_a_line_of_bedrock(tmp_path: Path) -> None:
    version = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9}
    assert line_of("Hi", tmp_path, provider="bedrock", request_params=version) == {
        "recordId": "row-000000001",
        "modelInput": {**version, "messages": [{"role": "user", "content": "Hi"}]},
    }


def test_a_prompt_becomes_a_line_of_vertex_whose_id_is_a_label(tmp_path: Path) -> None:
    params = {"generationConfig": {"temperature": 0}, "labels": {"team": "growth"}}
    assert line_of("Hi", tmp_path, provider="vertex", request_params=params) == {
        "request": {
            "labels": {"team": "growth", "bifrost_custom_id": "row-000000001"},
            "generationConfig": {"temperature": 0},
            "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        }
    }


@pytest.mark.parametrize("as_line", [True, False])
def test_the_label_of_a_vertex_request_is_its_id(as_line: bool, tmp_path: Path) -> None:
    request = {"contents": [], "labels": {"bifrost_custom_id": "own", "team": "growth"}}
    row = {"request": request} if as_line else request
    assert line_of(row, tmp_path, provider="vertex") == {"request": request}
    assert custom_id_of(json.dumps({"request": request}).encode()) == "own"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"custom_id": "a", "request": {"labels": {"bifrost_custom_id": "b"}}},
            "`bifrost_custom_id` is neither one string",
        ),
        ({"request": {"labels": {"bifrost_custom_id": 7.0}}}, "`bifrost_custom_id` is neither one string"),
        ({"contents": [], "labels": "team"}, "`labels` that are not an object"),
        ({"custom_id": "Upper", "request": {}}, "1 to 63 of the characters a-z, 0-9, _ and -"),
        ({"custom_id": "x" * 64, "request": {}}, "1 to 63 of the characters"),
    ],
)
def test_an_id_that_cannot_be_a_label_of_vertex_is_an_error(row: Any, said: str, tmp_path: Path) -> None:
    assert said in reason(row, tmp_path, provider="vertex")


@pytest.mark.parametrize("provider", ["openai", "azure", "anthropic", "gemini", "bedrock", "vertex"])
def test_whole_lines_in_the_providers_own_form_stay_as_they_are(provider: str, tmp_path: Path) -> None:
    rows = echo_lines(provider, 5)
    assert lines(write(rows, tmp_path, provider=provider, model=None, request_params=None)) == rows


@pytest.mark.parametrize(
    ("provider", "names"),
    [("anthropic", ("custom_id", "params")), ("gemini", ("key", "request")), ("bedrock", ("recordId", "modelInput"))],
)
def test_a_line_in_the_common_form_gets_the_providers_names(
    provider: str, names: tuple[str, str], tmp_path: Path
) -> None:
    body = {"model": "m", "max_tokens": 64, "messages": []}
    row = {"custom_id": "a", "method": "POST", "url": CHAT, "body": body}
    assert line_of(row, tmp_path, provider=provider, request_params=None) == dict(zip(names, ("a", body), strict=True))


def test_a_line_without_an_id_gets_one(tmp_path: Path) -> None:
    assert line_of({"body": {"messages": []}}, tmp_path)["custom_id"] == "row-000000001"


def test_an_unknown_endpoint_takes_bodies_and_no_prompts(tmp_path: Path) -> None:
    assert "give request bodies" in reason("Hi", tmp_path, endpoint="/v1/images/generations")
    assert line_of({"prompt": "Hi"}, tmp_path, endpoint="/v1/images/generations")["body"] == {
        "model": "m",
        "prompt": "Hi",
    }


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"custom_id": "a", "body": {}, "metod": "POST"}, "'metod'"),
        ({"custom_id": "a", "messages": []}, "'messages'"),
        ({"custom_id": "a", "body": {}, "params": {}}, "'params'"),
        ({"custom_id": "a"}, "without exactly one `body`"),
        ({"custom_id": "a", "body": "Hi"}, "without exactly one `body`"),
        ({"custom_id": 7.0, "body": {}}, "`custom_id` is neither one string nor one whole number"),
        ({"custom_id": True, "body": {}}, "`custom_id` is neither one string nor one whole number"),
        ({"custom_id": None, "body": {}}, "`custom_id` is neither one string nor one whole number"),
        ({"custom_id": "", "body": {}}, "non-empty"),
        ({"custom_id": "a", "body": {}, "method": "GET"}, "'GET'"),
        ({"custom_id": "a", "body": {}, "url": "/v1/responses"}, "'/v1/responses'"),
        (Unreadable("is not JSON: no"), "is not JSON: no"),
    ],
)
def test_a_row_in_no_known_form_is_an_error(row: Any, said: str, tmp_path: Path) -> None:
    assert said in reason(row, tmp_path)


def test_an_id_under_two_names_is_an_error(tmp_path: Path) -> None:
    row = {"custom_id": "a", "key": "b", "request": {}}
    assert "`key` is neither one string" in reason(row, tmp_path, provider="gemini")


def test_unknown_members_of_a_body_are_never_an_error(tmp_path: Path) -> None:
    body = {"messages": [], "whatever": {"x": None}}
    assert line_of(body, tmp_path)["body"] == {"model": "m", **body}


@pytest.mark.parametrize("provider", ["openai", "azure", "anthropic", "a new one"])
def test_a_body_without_a_model_gets_the_tasks_or_is_an_error(provider: str, tmp_path: Path) -> None:
    body = "params" if provider == "anthropic" else "body"
    assert line_of({"messages": []}, tmp_path, provider=provider)[body]["model"] == "m"
    assert line_of({"model": "own"}, tmp_path, provider=provider)[body]["model"] == "own"
    for row in ("Hi", {"messages": []}, {"model": None}, {"model": ""}, {"model": 7}):
        for path in tmp_path.iterdir():
            path.unlink()
        model = "m" if isinstance(row, dict) and "model" in row else None
        assert "names no model" in reason(row, tmp_path, provider=provider, model=model)


def test_request_params_fill_what_a_body_leaves_out_and_never_replace_the_tasks_model(tmp_path: Path) -> None:
    defaults = {"temperature": 0, "model": "other"}
    assert line_of({"temperature": 1}, tmp_path, request_params=defaults)["body"] == {"model": "m", "temperature": 1}
    assert line_of({"input": ""}, tmp_path, request_params=defaults)["body"] == {
        "model": "m",
        "temperature": 0,
        "input": "",
    }
    assert line_of("Hi", tmp_path, model=None, request_params=defaults)["body"]["model"] == "other"


def test_anthropic_without_max_tokens_is_an_error_with_advice(tmp_path: Path) -> None:
    for row in ("Hi", {"messages": []}):
        assert '{"max_tokens": 1024}' in reason(row, tmp_path, provider="anthropic", request_params={})


@pytest.mark.parametrize(
    ("provider", "endpoint", "member", "value"),
    [
        ("openai", "/v1/responses", "instructions", "Be brief"),
        ("anthropic", CHAT, "system", "Be brief"),
        ("gemini", CHAT, "systemInstruction", {"parts": [{"text": "Be brief"}]}),
        ("vertex", CHAT, "systemInstruction", {"parts": [{"text": "Be brief"}]}),
    ],
)
def test_a_system_prompt_goes_where_the_provider_puts_it(
    provider: str, endpoint: str, member: str, value: Any, tmp_path: Path
) -> None:
    for row in ("Hi", {"whatever": 1}):
        line = line_of(row, tmp_path, provider=provider, endpoint=endpoint, system_prompt="Be brief")
        assert next(body for body in line.values() if isinstance(body, dict))[member] == value
    line = line_of({member: "own"}, tmp_path, provider=provider, endpoint=endpoint, system_prompt="Be brief")
    assert next(body for body in line.values() if isinstance(body, dict))[member] == "own"


def test_a_system_prompt_is_the_first_message_of_a_chat_that_has_none(tmp_path: Path) -> None:
    asked, system = {"role": "user", "content": "Hi"}, {"role": "system", "content": "50% brief"}
    own = {"role": "developer", "content": "own"}
    for row, messages in (
        ("Hi", [system, asked]),
        ({"messages": [asked]}, [system, asked]),
        ({"messages": [own, asked]}, [own, asked]),
    ):
        assert line_of(row, tmp_path, system_prompt="50% brief")["body"]["messages"] == messages


@pytest.mark.parametrize(
    ("provider", "endpoint"), [("openai", "/v1/embeddings"), ("openai", "/v1/other"), ("bedrock", CHAT)]
)
def test_a_system_prompt_without_a_place_is_an_error(provider: str, endpoint: str, tmp_path: Path) -> None:
    error = refused([], tmp_path, provider=provider, endpoint=endpoint, system_prompt="Be brief")
    assert "no member for `system_prompt`" in str(error)
    assert "Be brief" not in str(error)


def test_the_callers_rows_are_not_changed(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "Hi"}]}
    before = json.dumps(row)
    write([row], tmp_path, system_prompt="s", request_params={"temperature": 0})
    assert json.dumps(row) == before


def test_a_row_that_contains_itself_is_an_error(tmp_path: Path) -> None:
    row: dict[str, Any] = {}
    row["messages"] = [row]
    assert reason(row, tmp_path) == "is nested too deeply"


@pytest.mark.parametrize("depth", [200, 400, 600, 800, 900, 950, 990, 5000])
def test_a_deeply_nested_row_is_written_or_an_error(depth: int, tmp_path: Path) -> None:
    deep: Any = None
    for _ in range(depth):
        deep = [deep]
    try:
        assert len(write([{"input": deep}], tmp_path)) == 1
    except BatchInputError as error:
        assert error.errors == [(1, "is nested too deeply")]  # noqa: PT017


# The endpoints in OpenAI's spelling, with a system prompt where they take one.
SPELLED = [
    ("/v1/chat/completions", {"system_prompt": "Be brief"}),
    ("/v1/responses", {"system_prompt": "Be brief"}),
    ("/v1/embeddings", {}),
    ("/v1/completions", {}),
]


@pytest.mark.parametrize(("endpoint", "options"), SPELLED)
@pytest.mark.parametrize("provider", ["openai", "azure"])
def test_an_endpoint_without_v1_makes_the_same_bodies(
    provider: str, endpoint: str, options: dict[str, Any], tmp_path: Path
) -> None:
    short = endpoint.removeprefix("/v1")
    long_line = line_of("Hi", tmp_path, provider=provider, endpoint=endpoint, **options)
    short_line = line_of("Hi", tmp_path, provider=provider, endpoint=short, **options)
    assert short_line == {**long_line, "url": short}


@pytest.mark.parametrize("endpoint", ["/v1/embeddings", "/embeddings"])
@pytest.mark.parametrize("url", ["/v1/embeddings", "/embeddings"])
def test_a_line_may_spell_its_url_either_way_and_gets_the_batchs(endpoint: str, url: str, tmp_path: Path) -> None:
    row = {"custom_id": "a", "url": url, "body": {"input": "Hi"}}
    assert "but the batch is for" in reason({**row, "url": "/v1/responses"}, tmp_path, endpoint=endpoint)
    assert line_of(row, tmp_path, endpoint=endpoint)["url"] == endpoint


@pytest.mark.parametrize(
    "row",
    [("Hi",), b"Hi", bytearray(b"Hi"), None, 7, 1.5, ["Hi"], {"Hi"}, object()],
    ids=lambda row: type(row).__name__,
)
def test_a_row_of_another_shape_is_an_error_that_says_what_a_row_is(row: Any, tmp_path: Path) -> None:
    text = reason(row, tmp_path)
    assert text.startswith(f"is {type(row).__name__}: a row is a prompt (text), a request body or a whole batch line")
    assert "Hi" not in text
