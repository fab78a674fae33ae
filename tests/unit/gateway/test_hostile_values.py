"""Hostile JSON answers: what the models take from them is bounded, printable and without secrets."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from typing import Any
from urllib.parse import quote as url_quote

import httpx
import pytest
from pydantic import BaseModel
from support.clients import BATCH, TOKEN, answer

from airflow_bifrost.exceptions import BifrostProtocolError
from airflow_bifrost.gateway import responses, values
from airflow_bifrost.gateway.async_client import READ_AT_ONCE, AsyncGatewayClient
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.models import Batch, BatchError, GatewayErrorBody
from airflow_bifrost.gateway.redact import STRUCK, without_token
from airflow_bifrost.gateway.summary import BatchSummary
from airflow_bifrost.gateway.values import MAX_ENTRIES, MAX_ERRORS, MAX_MEMBERS, MAX_VALUES, read_json

LONG = "x" * 100_000
FORGED = "done\n[2026-01-01] ERROR \x1b[31mfake\x1b[0m\r\u2028line"


def texts(value: Any) -> list[str]:
    """Every text within a value."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for item in pair for text in texts(item)]
    return [text for item in value for text in texts(item)] if isinstance(value, list) else []


def echoing(text: str) -> dict[str, Any]:
    """A batch with a text in every place that a summary or a log shows."""
    about = dict.fromkeys(("code", "message", "param"), text)
    return {
        "id": "batch_1",
        "status": text,
        "output_file_id": text,
        "error_file_id": text,
        "results_url": text,
        "errors": {"data": [about, text]},
        "metadata": {text: text, "nested": {"a": [text]}},
    }


def summary(batch: Batch) -> dict[str, Any]:
    return BatchSummary.of(batch, batch_id="batch_1", provider="openai").to_xcom()


# What is shown


def test_what_a_batch_shows_is_bounded_and_printable():
    for text in (LONG, FORGED, LONG + FORGED):
        batch = Batch.model_validate(echoing(text))
        assert len(json.dumps(summary(batch))) < 5_000
        assert len(batch.status) <= 100
        assert batch.status.isprintable()
        assert all(line.isprintable() for line in texts({**summary(batch), "metadata": None}))
        assert not any("\x1b" in line or "\r" in line for line in texts(summary(batch)))


def test_an_id_that_is_too_long_or_not_printable_counts_as_absent():
    for text in (LONG, FORGED):
        batch = Batch.model_validate(echoing(text))
        assert (batch.output_file_id, batch.error_file_id, batch.results_url) == (None, None, None)


def test_a_status_with_nothing_to_show_is_unknown_and_not_an_error():
    assert Batch.model_validate({"id": "b", "status": " \n\x00"}).status == "?"


ENCODED = {
    "plain": TOKEN,
    "a long prefix": TOKEN[:-4],
    "escaped": "".join(f"\\u{ord(char):04x}" for char in TOKEN),
    "in a URL": f"https://x.example/?a={url_quote(TOKEN, safe='')}",
    "base64": base64.b64encode(TOKEN.encode()).decode(),
    "base64 of a header": base64.b64encode(f"Authorization: Bearer {TOKEN}\r\n".encode()).decode(),
    "base64 for a URL": base64.urlsafe_b64encode(f"Bearer {TOKEN}".encode()).decode(),
    "hex": TOKEN.encode().hex(),
}


@pytest.mark.parametrize("token", [TOKEN, 'Zm9v/YmFy+a-secret==~of"quotes\\'], ids=["virtual key", "odd characters"])
def test_the_token_is_masked_in_every_form_and_place(token):
    for form in ENCODED.values():
        echoed = form.replace(TOKEN, token)
        body = json.dumps(echoing("TEXT")).replace("TEXT", echoed if "\\u" in form else json.dumps(echoed)[1:-1])
        batch = Batch.model_validate(read_json(body.encode(), token=token))
        shown = json.dumps(summary(batch)) + repr(batch)
        assert token not in shown
        assert token[: len(token) // 2 + 1] not in shown


def test_every_form_of_the_token_is_masked_in_text():
    for name, form in ENCODED.items():
        masked = without_token(f"before {form} after", TOKEN)
        assert STRUCK in masked, name
        assert masked.startswith("before ")
        assert masked.endswith(" after")
    assert without_token("sk-bf-is how they begin", TOKEN) == "sk-bf-is how they begin"
    assert without_token("short", "short") == "short"


def test_key_like_text_is_masked_although_it_is_not_the_token():
    shown = json.dumps(summary(Batch.model_validate(echoing("sk-ant-api03-aaaaaaaaaaaaaaaa"))))
    assert shown.count("sk-ant") == 2  # file IDs are not shown as text, and must be complete


def test_a_long_token_costs_no_recursion():
    token = "eyJhbGciOi" + "ab1" * 2000
    assert without_token(f"x {token} y", token) == f"x {STRUCK} y"


# What cannot be read


def test_what_is_not_utf_8_is_replaced_before_a_model_sees_it():
    for half in (b"\xed\xa0\x80", b"\xff\xfe", b"\\ud800"):
        value = read_json(b'{"id": "b", "status": "x' + half + b'"}')
        assert Batch.model_validate(value).status.startswith("x")
        json.dumps(value, ensure_ascii=False).encode()


def test_one_entry_that_cannot_be_read_is_a_transient_protocol_error():
    for entry in ({"id": "b", "status": ["s"]}, {"id": "b"}, {"id": LONG, "status": "s"}):
        with pytest.raises(BifrostProtocolError, match="batch b") as caught:
            responses.read_entry("b", entry)
        assert caught.value.transient
        assert caught.value.__cause__ is None
        assert len(str(caught.value)) < 500


# What it costs


class Counted(list):  # type: ignore[type-arg]
    """Counts the entries that were read."""

    read = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        self.read += len(found) if isinstance(key, slice) else 1
        return found

    def __iter__(self) -> Any:
        raise AssertionError("all entries are read")


def test_only_the_first_of_many_errors_are_read():
    for entry in (1, {}, "words", {"code": "c"}, [[]]):
        for wrap in (lambda data: data, lambda data: {"data": data}):
            data = Counted([entry] * 400_000)
            batch = Batch.model_validate({"id": "b", "status": "s", "errors": wrap(data)})
            assert data.read == MAX_ERRORS
            assert len(batch.errors) <= MAX_ERRORS


def test_only_the_first_of_many_members_are_read():
    many = {str(number): LONG for number in range(10_000)}
    batch = Batch.model_validate(
        {"id": "b", "status": "s", "errors": [many], "metadata": many, "extra_fields": many, "request_counts": many}
    )
    assert isinstance(batch.errors[0], BatchError)
    assert len(batch.errors[0].model_extra or {}) <= MAX_MEMBERS
    assert len(batch.metadata or {}) <= MAX_MEMBERS
    assert len(batch.extra_fields or {}) <= MAX_MEMBERS
    assert len(json.dumps(summary(batch))) < 20_000


@pytest.mark.parametrize("many", ["1", "{}", "[]", '"a":1', '{"data":[{}]}'])
def test_an_answer_of_too_many_values_is_not_parsed(many):
    inner = ",".join([many] * (MAX_VALUES + 2))
    body = f"{{{inner}}}" if ":1" in many else f"[{inner}]"
    with pytest.raises(ValueError, match="more than"):
        read_json(body.encode())


def test_a_page_of_too_many_entries_is_a_protocol_error_and_its_entries_are_not_read(connect):
    entries = [{"id": f"b{number}", "status": ["of the wrong type"]} for number in range(MAX_ENTRIES + 1)]
    client = connect(lambda _: answer({"object": "list", "data": entries}))
    for call in (client.list_page, client.list_files_page, client.list_raw):
        with pytest.raises(BifrostProtocolError, match="the page has 10,001 entries"):
            call()


def test_a_large_answer_is_read_off_the_event_loop(monkeypatch):
    threads: list[threading.Thread] = []
    parse = responses.parse_page

    def noted(model: type[BaseModel], *rest: Any) -> Any:
        threads.append(threading.current_thread())
        return parse(model, *rest)

    monkeypatch.setattr(responses, "parse_page", noted)

    async def read(padding: int) -> None:
        page = answer({"object": "list", "data": [BATCH], "padding": "x" * padding})
        transport = httpx.MockTransport(lambda _: page)
        async with AsyncGatewayClient(GatewayConfig("https://gw.example"), transport=transport) as client:
            await client.list_page()

    asyncio.run(read(0))
    asyncio.run(read(READ_AT_ONCE))
    assert [thread is threading.main_thread() for thread in threads] == [True, False]


def test_the_words_of_an_error_are_cut_before_they_are_compared():
    body = GatewayErrorBody.parse(json.dumps({"error": {"message": LONG, "type": LONG, "code": LONG}}).encode())
    assert len(body.message or "") <= values.MAX_WORDS
    assert len(body.type or "") <= values.MAX_WORD
    assert len(body.code or "") <= values.MAX_WORD
