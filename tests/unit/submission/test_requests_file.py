"""Rows into request lines, and these into parts."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_bifrost._compat import AirflowFailException
from airflow_bifrost.exceptions import BatchInputError
from airflow_bifrost.submission.limits import limits_of
from airflow_bifrost.submission.requests_file import Part, Unreadable, read_jsonl, write_parts
from airflow_bifrost.testing.model import echo_lines

CHAT = "/v1/chat/completions"
SMALL_BEDROCK = replace(limits_of("bedrock"), min_rows=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def write(
    rows: Iterable[Any], folder: Path, provider: str = "openai", endpoint: str = CHAT, **options: Any
) -> list[Part]:
    if provider not in ("gemini", "bedrock"):
        options.setdefault("model", "m")
    if provider == "anthropic":
        options.setdefault("request_params", {"max_tokens": 64})
    if provider == "bedrock":
        options.setdefault("limits", SMALL_BEDROCK)
    return write_parts(enumerate(rows, 1), folder, provider=provider, endpoint=endpoint, **options)


def lines(parts: Iterable[Part]) -> list[Any]:
    return [json.loads(line) for part in parts for line in part.path.read_bytes().split(b"\n")[:-1]]


def line_of(row: Any, folder: Path, **options: Any) -> Any:
    (line,) = lines(write([row], folder, **options))
    return line


def refused(rows: Iterable[Any], folder: Path, **options: Any) -> BatchInputError:
    with pytest.raises(BatchInputError) as caught:
        write(rows, folder, **options)
    assert list(folder.iterdir()) == []
    return caught.value


def reason(row: Any, folder: Path, **options: Any) -> str:
    ((number, text),) = refused([row], folder, **options).errors
    assert number == 1
    return text


# forms of rows


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
def test_a_prompt_becomes_a_body_of_its_endpoint(provider: str, endpoint: str, body: Any, folder: Path) -> None:
    assert line_of("Hi", folder, provider=provider, endpoint=endpoint) == {
        "custom_id": "row-000000001",
        "method": "POST",
        "url": endpoint,
        "body": body,
    }


def test_a_prompt_becomes_a_line_of_anthropic(folder: Path) -> None:
    assert line_of("Hi", folder, provider="anthropic") == {
        "custom_id": "row-000000001",
        "params": {"model": "m", "max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}]},
    }


def test_a_prompt_becomes_a_line_of_gemini(folder: Path) -> None:
    config = {"generationConfig": {"temperature": 0}}
    assert line_of("Hi", folder, provider="gemini", model="gemini-2.5-flash", request_params=config) == {
        "key": "row-000000001",
        "request": {**config, "contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
    }


def test_a_prompt_becomes_a_line_of_bedrock(folder: Path) -> None:
    version = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9}
    assert line_of("Hi", folder, provider="bedrock", request_params=version) == {
        "recordId": "row-000000001",
        "modelInput": {**version, "messages": [{"role": "user", "content": "Hi"}]},
    }


@pytest.mark.parametrize("provider", ["openai", "azure", "anthropic", "gemini", "bedrock"])
def test_whole_lines_in_the_providers_own_form_stay_as_they_are(provider: str, folder: Path) -> None:
    rows = echo_lines(provider, 5)
    assert lines(write(rows, folder, provider=provider, model=None, request_params=None)) == rows


@pytest.mark.parametrize(
    ("provider", "names"),
    [("anthropic", ("custom_id", "params")), ("gemini", ("key", "request")), ("bedrock", ("recordId", "modelInput"))],
)
def test_a_line_in_the_common_form_gets_the_providers_names(
    provider: str, names: tuple[str, str], folder: Path
) -> None:
    body = {"model": "m", "max_tokens": 64, "messages": []}
    row = {"custom_id": "a", "method": "POST", "url": CHAT, "body": body}
    assert line_of(row, folder, provider=provider, request_params=None) == dict(zip(names, ("a", body), strict=True))


def test_a_line_without_an_id_gets_one(folder: Path) -> None:
    assert line_of({"body": {"messages": []}}, folder)["custom_id"] == "row-000000001"


def test_a_prompt_at_an_endpoint_that_is_not_known_is_an_error_and_a_body_is_none(folder: Path) -> None:
    assert "give request bodies" in reason("Hi", folder, endpoint="/v1/images/generations")
    assert line_of({"prompt": "Hi"}, folder, endpoint="/v1/images/generations")["body"] == {
        "model": "m",
        "prompt": "Hi",
    }


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"custom_id": "a", "body": {}, "metod": "POST"}, "'metod'"),
        ({"custom_id": "a", "messages": []}, "'messages'"),
        ({"custom_id": "a", "body": {}, "params": {}}, "'params'"),
        ({"custom_id": "a"}, "without one `body`"),
        ({"custom_id": "a", "body": "Hi"}, "without one `body`"),
        ({"custom_id": 7, "body": {}}, "`custom_id` is not one text"),
        ({"custom_id": None, "body": {}}, "`custom_id` is not one text"),
        ({"custom_id": "", "body": {}}, "not empty"),
        ({"custom_id": "a", "body": {}, "method": "GET"}, "'GET'"),
        ({"custom_id": "a", "body": {}, "url": "/v1/responses"}, "'/v1/responses'"),
        (7, "is int"),
        (None, "is NoneType"),
        (["Hi"], "is list"),
        (Unreadable("is not JSON: no"), "is not JSON: no"),
    ],
)
def test_a_row_that_is_none_of_the_three_forms_is_an_error(row: Any, said: str, folder: Path) -> None:
    assert said in reason(row, folder)


def test_an_id_by_two_names_is_an_error(folder: Path) -> None:
    row = {"custom_id": "a", "key": "b", "request": {}}
    assert "`key` is not one text" in reason(row, folder, provider="gemini")


def test_unknown_members_of_a_body_are_never_an_error(folder: Path) -> None:
    body = {"messages": [], "whatever": {"x": None}}
    assert line_of(body, folder)["body"] == {"model": "m", **body}


# model, system, defaults


@pytest.mark.parametrize("provider", ["openai", "azure", "anthropic", "vertex"])
def test_a_body_without_a_model_gets_that_of_the_call_or_is_an_error(provider: str, folder: Path) -> None:
    body = "params" if provider == "anthropic" else "body"
    assert line_of({"messages": []}, folder, provider=provider)[body]["model"] == "m"
    assert line_of({"model": "own"}, folder, provider=provider)[body]["model"] == "own"
    for row in ("Hi", {"messages": []}, {"model": None}, {"model": ""}, {"model": 7}):
        for path in folder.iterdir():
            path.unlink()
        model = "m" if isinstance(row, dict) and "model" in row else None
        assert "names no model" in reason(row, folder, provider=provider, model=model)


def test_defaults_go_where_a_body_has_not_the_member_and_never_before_the_model_of_the_call(folder: Path) -> None:
    defaults = {"temperature": 0, "model": "other"}
    assert line_of({"temperature": 1}, folder, request_params=defaults)["body"] == {"model": "m", "temperature": 1}
    assert line_of({"input": ""}, folder, request_params=defaults)["body"] == {
        "model": "m",
        "temperature": 0,
        "input": "",
    }
    assert line_of("Hi", folder, model=None, request_params=defaults)["body"]["model"] == "other"


def test_anthropic_without_max_tokens_is_an_error_with_advice(folder: Path) -> None:
    for row in ("Hi", {"messages": []}):
        assert '{"max_tokens": 1024}' in reason(row, folder, provider="anthropic", request_params={})


@pytest.mark.parametrize(
    ("provider", "endpoint", "member", "value"),
    [
        ("openai", "/v1/responses", "instructions", "Be brief"),
        ("anthropic", CHAT, "system", "Be brief"),
        ("gemini", CHAT, "systemInstruction", {"parts": [{"text": "Be brief"}]}),
    ],
)
def test_a_system_prompt_goes_where_the_provider_has_it(
    provider: str, endpoint: str, member: str, value: Any, folder: Path
) -> None:
    for row in ("Hi", {"whatever": 1}):
        line = line_of(row, folder, provider=provider, endpoint=endpoint, system_prompt="Be brief")
        assert next(body for body in line.values() if isinstance(body, dict))[member] == value
    line = line_of({member: "own"}, folder, provider=provider, endpoint=endpoint, system_prompt="Be brief")
    assert next(body for body in line.values() if isinstance(body, dict))[member] == "own"


def test_a_system_prompt_of_a_chat_is_its_first_message_unless_the_chat_has_one(folder: Path) -> None:
    asked, system = {"role": "user", "content": "Hi"}, {"role": "system", "content": "50% brief"}
    own = {"role": "developer", "content": "own"}
    for row, messages in (
        ("Hi", [system, asked]),
        ({"messages": [asked]}, [system, asked]),
        ({"messages": [own, asked]}, [own, asked]),
    ):
        assert line_of(row, folder, system_prompt="50% brief")["body"]["messages"] == messages


@pytest.mark.parametrize(
    ("provider", "endpoint"), [("openai", "/v1/embeddings"), ("openai", "/v1/other"), ("bedrock", CHAT)]
)
def test_a_system_prompt_without_a_place_is_an_error(provider: str, endpoint: str, folder: Path) -> None:
    error = refused([], folder, provider=provider, endpoint=endpoint, system_prompt="Be brief")
    assert "`system_prompt` has no place" in str(error)
    assert "Be brief" not in str(error)


def test_what_is_given_is_not_changed(folder: Path) -> None:
    row = {"messages": [{"role": "user", "content": "Hi"}]}
    before = json.dumps(row)
    write([row], folder, system_prompt="s", request_params={"temperature": 0})
    assert json.dumps(row) == before


# ids


def test_given_ids_are_kept_and_the_others_are_their_place_in_the_whole_input(folder: Path) -> None:
    rows = ["Hi", {"custom_id": "a", "body": {}}, {"messages": []}, "Hi"]
    parts = write(rows, folder, limits=replace(limits_of("openai"), rows=2))
    assert [line["custom_id"] for line in lines(parts)] == ["row-000000001", "a", "row-000000003", "row-000000004"]


def test_an_id_that_the_provider_refuses_is_an_error(folder: Path) -> None:
    row = {"custom_id": "a.b", "params": {}}
    assert "'a.b': it must be 1 to 64 of the characters" in reason(row, folder, provider="anthropic")


def test_an_id_that_comes_twice_is_an_error_across_parts(folder: Path) -> None:
    rows = [{"custom_id": custom_id, "body": {}} for custom_id in ("a", "b", "a")]
    error = refused(rows, folder, limits=replace(limits_of("openai"), rows=1))
    assert error.errors == [(3, "has the id 'a', and an earlier one has it too")]


@pytest.mark.parametrize(
    ("ids", "wrong"),
    [
        ([None, "row-000000001"], [2]),  # taken by an earlier row
        (["row-000000002", None], [2]),  # will be taken
        (["a", "row-000000001"], []),  # row 1 has another
        (["row-000000002", "row-000000001"], []),
        (["row-000000001", None], []),
        (["row-000000005", None], []),
        (["row-2", None], []),
        (["row-000000000", None], []),
        (["row-9999999999999999999999", None], []),
    ],
)
def test_an_automatic_id_that_a_row_has_as_its_own_is_an_error(
    ids: list[str | None], wrong: list[int], folder: Path
) -> None:
    rows = ["Hi" if custom_id is None else {"custom_id": custom_id, "body": {}} for custom_id in ids]
    if wrong:
        assert [number for number, _ in refused(rows, folder).errors] == wrong
    else:
        write(rows, folder)


@settings(deadline=None)
@given(st.lists(st.none() | st.integers(1, 8), max_size=8))
def test_ids_are_unique_or_an_error(numbers: list[int | None]) -> None:
    rows = ["Hi" if n is None else {"custom_id": f"row-{n:09d}", "body": {}} for n in numbers]
    expected = [f"row-{place if n is None else n:09d}" for place, n in enumerate(numbers, 1)]
    with TemporaryDirectory() as folder:
        if len(set(expected)) < len(expected):
            refused(rows, Path(folder))
        else:
            assert [line["custom_id"] for line in lines(write(rows, Path(folder)))] == expected


# errors


def test_an_error_is_for_good_and_says_what_it_means_for_the_money(folder: Path) -> None:
    error = refused(["Hi", 7, "Hi", {"custom_id": "", "body": {}}], folder)
    assert isinstance(error, AirflowFailException)
    assert pickle.loads(pickle.dumps(error)).errors == error.errors
    assert str(error) == (
        "The input is not sent because of 2 rows: row 2 is int: a row is a prompt (text), a request body or a whole batch line;"
        " row 4 has the id '': it must be a text that is not empty."
        " Mend the input or the task's arguments, and run the task again. Nothing was submitted, and nothing is billed."
    )
    assert [number for number, _ in error.errors] == [2, 4]


def test_rows_that_are_wrong_alike_are_told_of_once(folder: Path) -> None:
    error = refused([7, "Hi", 8], folder)
    assert "row 1 (and 1 more) is int" in str(error)
    assert len(error.errors) == 2


def test_reading_stops_at_the_twentieth_error(folder: Path) -> None:
    read = []

    def rows() -> Iterator[Any]:
        for number in range(1000):
            read.append(number)
            yield {"custom_id": "x" * number + ".", "params": {}}

    error = refused(rows(), folder, provider="anthropic")
    assert len(error.errors) == len(read) == 20
    assert "20 rows, where the reading stopped" in str(error)
    assert "and 15 more reasons" in str(error)


def test_no_prompt_is_ever_shown_and_of_an_id_80_characters(folder: Path) -> None:
    secret = "the private prompt"
    rows = [
        f"{secret} \ud800",
        {"messages": [{"content": f"{secret} \ud800"}]},
        {"messages": [{"content": secret, "at": object()}]},
        {"custom_id": "a", "body": secret},
        {"custom_id": "i" * 500 + ".", "params": {}},
        {"custom_id": "b", "k" * 500: secret},
        {"custom_id": "c", "params": {}, "method": "m" * 500},
    ]
    error = refused(rows, folder, provider="anthropic")
    told = str(error) + repr(error.errors) + repr(error.__cause__)
    assert len(error.errors) == len(rows)
    assert "private" not in told
    assert not any(letter * 81 in told for letter in "ikm")


@pytest.mark.parametrize("stop", [{"a", "b"}, frozenset("a"), [[{"a"}]], {"in": {"a"}}])
def test_a_set_which_has_another_order_in_the_next_try_is_an_error(stop: Any, folder: Path) -> None:
    assert "has a set" in reason({"messages": [], "stop": stop}, folder)
    assert "has a set" in reason("Hi", folder, request_params={"stop": stop})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_json_does_not_know_is_an_error_and_not_null(number: float, folder: Path) -> None:
    assert "NaN" in reason({"messages": [{"x": [None, number]}]}, folder)
    assert "NaN" in reason("Hi", folder, request_params={"temperature": number})
    assert line_of({"x": [None, 1.5]}, folder)["body"]["x"] == [None, 1.5]


def test_what_is_nested_without_end_is_an_error(folder: Path) -> None:
    row: dict[str, Any] = {}
    row["messages"] = [row]
    assert reason(row, folder) == "is nested too deeply"


@pytest.mark.parametrize("depth", [200, 400, 600, 800, 900, 950, 990, 5000])
def test_a_deep_row_is_written_or_is_an_error(depth: int, folder: Path) -> None:
    deep: Any = None
    for _ in range(depth):
        deep = [deep]
    try:
        assert len(write([{"input": deep}], folder)) == 1
    except BatchInputError as error:
        assert error.errors == [(1, "is nested too deeply")]  # noqa: PT017


def test_subclasses_of_text_and_numbers_are_what_they_derive_from(folder: Path) -> None:
    text, number = type("text", (str,), {}), type("number", (float,), {})
    assert line_of(text("Hi"), folder)["body"]["messages"][0]["content"] == "Hi"
    assert line_of({"input": text("Hi"), "x": number(0.5)}, folder)["body"] == {"model": "m", "input": "Hi", "x": 0.5}


def test_the_numbers_are_those_that_the_rows_come_with(folder: Path) -> None:
    file = io.BytesIO(b'"Hi"\n\n7\nnope\n')
    with pytest.raises(BatchInputError, match=r"because of 2 lines: line 3 is int.*; line 4 is not JSON") as caught:
        write_parts(read_jsonl(file), folder, provider="openai", endpoint=CHAT, model="m", unit="line")
    assert [number for number, _ in caught.value.errors] == [3, 4]


@settings(deadline=None, max_examples=50)
@given(st.sets(st.integers(1, 60), min_size=1, max_size=19))
def test_the_numbers_of_the_errors_are_right(wrong: set[int]) -> None:
    rows = [7 if number in wrong else "Hi" for number in range(1, 61)]
    with TemporaryDirectory() as folder:
        assert [number for number, _ in refused(rows, Path(folder)).errors] == sorted(wrong)


def test_an_error_of_the_rows_themselves_goes_through_and_leaves_nothing(folder: Path) -> None:
    def rows() -> Iterator[str]:
        yield from ["Hi"] * 10
        raise KeyError("mine")

    with pytest.raises(KeyError):
        write(rows(), folder, limits=replace(limits_of("openai"), rows=3))
    assert list(folder.iterdir()) == []


def test_a_full_disk_leaves_nothing(folder: Path) -> None:
    (folder / "part-0001.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write(["Hi"], folder)
    assert list(folder.iterdir()) == []


# models


def test_two_models_where_the_provider_takes_one_are_an_error_that_names_both(folder: Path) -> None:
    rows = ["Hi", {"model": "b"}, {"model": "c"}, {"model": "b"}]
    error = refused(rows, folder)
    assert error.errors[0] == (
        2,
        "names the model 'b', and row 1 names 'm'; openai takes one model: make it two inputs",
    )


def test_anthropic_takes_several_models_and_each_part_tells_its_own(folder: Path) -> None:
    rows = [{"model": model} for model in "aabcc"]
    parts = write(rows, folder, provider="anthropic", limits=replace(limits_of("anthropic"), rows=3))
    assert [part.models for part in parts] == [("a", "b"), ("c",)]


def test_rows_of_gemini_and_bedrock_name_no_model(folder: Path) -> None:
    for provider in ("gemini", "bedrock"):
        assert write(["Hi"], folder, provider=provider, model="m")[0].models == ()
        assert "m" not in next(iter(lines(write(["Hi"], folder, provider=provider, model="m"))))


# parts


def test_no_rows_are_no_parts(folder: Path) -> None:
    assert write([], folder) == []
    assert list(folder.iterdir()) == []


def test_a_part_tells_its_size_and_digest(folder: Path) -> None:
    (part,) = write(["Hi", "Hello"], folder)
    content = part.path.read_bytes()
    assert part == Part(1, folder / "part-0001.jsonl", 2, len(content), hashlib.sha256(content).hexdigest(), ("m",))


def test_parts_are_filled_to_the_last_byte(folder: Path) -> None:
    size = write(["Hi"], folder)[0].bytes
    parts = write(["Hi"] * 5, folder, limits=replace(limits_of("openai"), bytes=2 * size))
    assert [(part.number, part.rows, part.bytes) for part in parts] == [
        (1, 2, 2 * size),
        (2, 2, 2 * size),
        (3, 1, size),
    ]


def test_a_row_that_is_too_large_is_an_error(folder: Path) -> None:
    size = write(["Hi"], folder)[0].bytes
    limits = replace(limits_of("openai"), bytes=size)
    write(["Hi"], folder, limits=limits)[0].path.unlink()
    assert refused(["Hi", "Hi!"], folder, limits=limits).errors == [
        (2, f"takes {size + 1} bytes, and openai takes at most {size}")
    ]


def test_a_row_of_embeddings_counts_as_many_as_it_has_inputs(folder: Path) -> None:
    limits = replace(limits_of("openai"), rows=4)
    inputs: list[Any] = [["a", "b"], "a", ["a", "b"], [1, 2, 3, 4, 5], [[1], [2]]]
    parts = write([{"input": one} for one in inputs], folder, endpoint="/v1/embeddings", limits=limits)
    assert [part.rows for part in parts] == [2, 2, 1]
    for part in parts:
        part.path.unlink()
    assert "has 5 inputs" in reason({"input": ["a"] * 5}, folder, endpoint="/v1/embeddings", limits=limits)


def test_guards_against_costs_stop_at_once(folder: Path) -> None:
    read = []

    def rows() -> Iterator[str]:
        for number in range(1000):
            read.append(number)
            yield "Hi"

    size = write(["Hi"], folder)[0].bytes
    write(["Hi"] * 3, folder, max_rows=3, max_input_bytes=3 * size)[0].path.unlink()
    assert refused(rows(), folder, max_rows=3).errors == [(4, "is one more than max_rows=3 allows")]
    assert len(read) == 4
    read.clear()
    error = refused(rows(), folder, max_input_bytes=3 * size)
    assert error.errors == [(4, f"makes the input larger than max_input_bytes={3 * size} allows")]
    assert len(read) == 4


def test_a_last_part_that_is_too_small_for_bedrock_gets_rows_from_the_one_before(folder: Path) -> None:
    limits = replace(limits_of("bedrock"), rows=50, min_rows=10)
    rows = [f"Hi {number}" for number in range(103)]
    parts = write(rows, folder, provider="bedrock", limits=limits)
    assert [part.rows for part in parts] == [50, 43, 10]
    assert [line["modelInput"]["messages"][0]["content"] for line in lines(parts)] == rows
    for part in parts:
        content = part.path.read_bytes()
        assert (part.bytes, part.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert content.count(b"\n") == part.rows


def test_too_few_rows_for_bedrock_are_an_error(folder: Path) -> None:
    error = refused(["Hi"] * 99, folder, provider="bedrock", limits=limits_of("bedrock"))
    assert "has 99 rows, and the provider takes no batch of fewer than 100" in str(error)
    assert "nothing is billed" in str(error)
    refused(["Hi"] * 15, folder, provider="bedrock", limits=replace(limits_of("bedrock"), rows=10, min_rows=8))


def test_memory_does_not_grow_with_the_number_of_rows(folder: Path) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        write((f"Hi {number}" for number in range(count)), folder)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(40_000) < peak(10_000) + 500_000


# properties

TEXT = st.text(max_size=30)
BODIES = st.dictionaries(
    TEXT,
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=4,
)
ROWS = st.lists(TEXT | BODIES | st.builds(lambda body: {"body": body}, BODIES), max_size=30)


def plain_body(row: Any) -> Any:
    if isinstance(row, str):
        return {"contents": [{"role": "user", "parts": [{"text": row}]}]}
    return row.get("body", row) if row.keys() == {"body"} else row


def is_body(row: Any) -> bool:
    return isinstance(row, str) or row.keys() == {"body"} or not {"custom_id", "body", "key", "request"} & row.keys()


@settings(deadline=None)
@given(ROWS.map(lambda rows: [row for row in rows if is_body(row)]), st.integers(1, 7), st.integers(4000, 9000))
def test_rows_survive_and_parts_keep_the_limits(rows: list[Any], most_rows: int, most_bytes: int) -> None:
    limits = replace(limits_of("gemini"), rows=most_rows, bytes=most_bytes)
    with TemporaryDirectory() as name:
        folder = Path(name)
        parts = write(rows, folder, provider="gemini", limits=limits)
        assert [line["request"] for line in lines(parts)] == [plain_body(row) for row in rows]
        assert [line["key"] for line in lines(parts)] == [f"row-{place:09d}" for place in range(1, len(rows) + 1)]
        assert [part.number for part in parts] == list(range(1, len(parts) + 1))
        assert sorted(part.path for part in parts) == sorted(folder.iterdir())
        for part in parts:
            content = part.path.read_bytes()
            assert part.rows == content.count(b"\n") <= most_rows
            assert part.bytes == len(content) <= most_bytes
            assert part.sha256 == hashlib.sha256(content).hexdigest()
        for part, following in pairwise(parts):
            first = following.path.read_bytes().split(b"\n")[0]
            assert part.rows == most_rows or part.bytes + len(first) + 1 > most_bytes


@settings(deadline=None, max_examples=50)
@given(st.lists(TEXT | st.builds(lambda text: {"input": text}, TEXT), min_size=1, max_size=10), TEXT, st.data())
def test_the_same_rows_have_the_same_digest_and_others_another(rows: list[Any], text: str, data: st.DataObject) -> None:
    def digest(rows: list[Any]) -> str:
        with TemporaryDirectory() as folder:
            parts = write(rows, Path(folder), limits=replace(limits_of("openai"), rows=3))
            return ",".join(part.sha256 for part in parts)

    place = data.draw(st.integers(0, len(rows) - 1))
    others = [*rows[:place], {"input": text}, *rows[place + 1 :]]
    assert digest(rows) == digest(list(rows))
    assert (digest(others) == digest(rows)) is (others == rows)
    assert digest(rows[:-1]) != digest(rows)


# reading


def read(content: bytes) -> list[tuple[int, Any]]:
    return list(read_jsonl(io.BytesIO(content)))


def test_lines_come_with_their_numbers_and_blank_ones_are_passed_over() -> None:
    assert read(b'\xef\xbb\xbf"a"\r\n\n  \t\n{"b": 1}\n[2]') == [(1, "a"), (4, {"b": 1}), (5, [2])]
    assert read(b"") == read(b"\xef\xbb\xbf\n\n") == read(b"\xef\xbb\xbf") == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"nope", "is not JSON"),
        (b'{"a": 1} {"b": 2}', "is not JSON"),
        (b'{"a": NaN}', "is not JSON"),
        (b"[-Infinity]", "is not JSON"),
        (b"[1e999]", "is not JSON"),
        (b'"\\ud800"', "is not JSON"),
        (b'{"\\udc00": 1}', "is not JSON"),
        (b'"\xff"', "is not UTF-8"),
        (b'"\xed\xa0\x80"', "is not UTF-8"),
        (b'{"a": "\xc3', "is not JSON"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'\xef\xbb\xbf"a"', "is not JSON"),  # a mark in the middle
    ],
)
def test_a_line_that_cannot_be_read_is_told_with_its_number_and_the_others_are_read(line: bytes, said: str) -> None:
    first, (number, row), last = read(b'"a"\n' + line + b'\n"b"\n')
    assert (first, last) == ((1, "a"), (3, "b"))
    assert number == 2
    assert isinstance(row, Unreadable)
    assert row.reason.startswith(said)


@settings(deadline=None)
@given(st.lists(TEXT | BODIES, max_size=10), st.booleans())
def test_what_is_written_as_jsonl_is_read_again(rows: list[Any], ascii_only: bool) -> None:
    content = b"".join(json.dumps(row, ensure_ascii=ascii_only).encode() + b"\n" for row in rows)
    assert read(content) == list(enumerate(rows, 1))
