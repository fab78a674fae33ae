"""The local gateway answers like the real one: each recorded request is played to it, with the state that the provider had."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from airflow_bifrost.testing import Fault, LocalGateway, ProviderAnswer, VirtualKey
from airflow_bifrost.testing.providers import CONFIGURED

from .recordings import HERE, RECORDINGS, VERSIONS, Recording, differing

# Reason -> the recordings whose answers the local gateway does not give, and is not meant to: `topic/case` in every version, or
# `version/topic/case` in one.
DIFFERENCES: dict[str, list[str]] = json.loads((HERE / "differences.json").read_text())
NAMED = {name for names in DIFFERENCES.values() for name in names}


def is_different(recording: Recording) -> bool:
    return recording.name in NAMED or recording.title in NAMED


# Values that say when, where or which, and nothing about the gateway: they have the same form, and are empty together.
VOLATILE = {"bytes", "filename", "next_cursor", "after", "latency", "line", "storage_uri"}
IDS = {"id", "batch_id", "input_file_id", "output_file_id", "error_file_id", "operation_name", "results_url"}
# Of a result row; the rest is what a model said, and what it counted.
FIXED_IN_RESULTS = {"custom_id", "status_code", "type", "object", "role", "finish_reason", "stop_reason"}
COMPARED_HEADERS = ("content-type", "location", "allow", "cache-control", "connection")

VIRTUAL_KEYS = [
    VirtualKey("sk-bf-all"),
    VirtualKey("sk-bf-everything"),
    VirtualKey("sk-bf-weighted"),
    VirtualKey("sk-bf-one-model"),
    VirtualKey("sk-bf-star-models"),
    VirtualKey("sk-bf-rate"),
    VirtualKey("sk-bf-inactive-in-file"),  # the setting is lost when such a key is created from a file
    VirtualKey("sk-bf-openai-only", providers=("openai",)),
    VirtualKey("sk-bf-bedrock-only", providers=("bedrock",)),
    VirtualKey("sk-bf-gemini-only", providers=("gemini",)),
    VirtualKey("sk-bf-inactive", active=False),
    VirtualKey("sk-bf-broke", exhausted="budget"),
    VirtualKey("sk-bf-rate-spent", exhausted="requests"),
    VirtualKey("sk-bf-tokens-spent", exhausted="tokens"),
    VirtualKey("sk-bf-provider-broke", exhausted="budget", exhausted_at="openai"),
    VirtualKey("sk-bf-provider-rate", exhausted="requests", exhausted_at="openai"),
]
# Of the recorded gateway of 1.5, which denies by default, and keeps what a file says of a key.
VIRTUAL_KEYS_OF_1_5 = [
    VirtualKey("sk-bf-all", providers=tuple(name for name in CONFIGURED if name != "vertex")),
    VirtualKey("sk-bf-everything", providers=()),
    VirtualKey("sk-bf-inactive-in-file", active=False),
    VirtualKey("sk-bf-vertex-only", providers=("vertex",)),
    VirtualKey("sk-bf-each"),
    VirtualKey("sk-bf-no-models"),
]
KEYS_OF = {
    "1.4.19": VIRTUAL_KEYS,
    "1.5.16": list({key.token: key for key in [*VIRTUAL_KEYS, *VIRTUAL_KEYS_OF_1_5]}.values()),
}


class Gateways:
    """A local gateway for each setting that the recorded one had."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._running: dict[str, LocalGateway] = {}

    def of(self, recording: Recording) -> LocalGateway:
        minor = recording.version.rpartition(".")[0]
        settings = {"version": minor, "enforce_auth": True, **(recording.state or {}).get("gateway", {})}
        name = json.dumps(settings)
        if name not in self._running:
            local = LocalGateway(batch_seconds=3600, virtual_keys=KEYS_OF[recording.version], **settings)
            self._running[name] = self._stack.enter_context(local)
        return self._running[name]


@pytest.fixture(scope="module")
def gateways() -> Iterator[Gateways]:
    with ExitStack() as stack:
        yield Gateways(stack)


def rows(provider: str, wanted: dict[str, int]) -> list[dict[str, Any]]:
    """Request lines, so many of each fate."""
    prompts = [prompt for prompt, number in wanted.items() for _ in range(number)]
    texts = {"ok": "Hi", "fail": "!fail 400", "expire": "!expire", "garble": "!garble"}
    lines = []
    for number, prompt in enumerate(prompts, start=1):
        messages = [{"role": "user", "content": texts[prompt]}]
        if provider == "anthropic":
            lines.append(
                {"custom_id": f"row-{number}", "params": {"model": "m", "max_tokens": 9, "messages": messages}}
            )
        elif provider == "bedrock":
            lines.append({"recordId": f"row-{number}", "modelInput": {"messages": messages}})
        elif provider == "gemini":
            body = {"contents": [{"parts": [{"text": texts[prompt]}]}]}
            lines.append({"key": f"row-{number}", "request": body})
        else:
            body = {"model": "m", "messages": messages}
            lines.append({"custom_id": f"row-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body})
    return lines


def prepare(gateway: LocalGateway, recording: Recording) -> None:
    """Give the gateway the state that the provider had."""
    gateway.reset()
    state = recording.state or {}
    listed_before = (
        int(dict(parse_qsl(recording.request.get("query", ""))).get("limit", 30)) if state.get("more") else 0
    )
    batches = [{"provider": recording.provider, "status": "completed"}] * (
        listed_before if recording.call == "list_page" else 0
    )
    for batch in [*batches, *state.get("batches", ())]:
        fields = {name: value for name, value in batch.items() if value is not None}
        if "rows" in fields:
            fields["rows"] = rows(fields["provider"], fields["rows"])
        batch_id = gateway.add_batch(**fields)
        if absent := {name: None for name, value in batch.items() if value is None}:
            gateway.set_batch(batch_id, **absent)
    files = [{"provider": recording.provider, "content": ""}] * (
        listed_before if recording.call == "list_files_page" else 0
    )
    for file in [*files, *state.get("files", ())]:
        fields = dict(file)
        if "rows" in fields:
            fields["content"] = "".join(json.dumps(row) + "\n" for row in rows(file["provider"], fields.pop("rows")))
        gateway.add_file(fields.pop("content").encode(), **fields)
    if "provider_answers" in state:
        gateway.inject(Fault(provider_answer=ProviderAnswer(**state["provider_answers"])))


def play(gateway: LocalGateway, recording: Recording) -> tuple[int, dict[str, str], Any] | None:
    """The gateway's answer to the recorded request, byte for byte; None if it closes the connection without one."""
    request = recording.request
    address = urlsplit(gateway.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=20)
    body = request.get("body")
    content = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    target = request["path"] + (f"?{request['query']}" if "query" in request else "")
    try:
        connection.putrequest(request["method"], target, skip_accept_encoding=True)
        for name, value in request["headers"].items():
            connection.putheader(name, value)
        if content or request["method"] == "POST":
            connection.putheader("content-length", str(len(content)))
        connection.endheaders(content)
        response = connection.getresponse()
        raw = response.read()
    except (http.client.RemoteDisconnected, ConnectionResetError):
        return None
    finally:
        connection.close()
    headers = {name.lower(): value for name, value in response.getheaders()}
    if raw and "json" in headers.get("content-type", "") and recording.call != "file_content":
        return response.status, headers, json.loads(raw)
    try:
        return response.status, headers, json.loads(raw) if "json" in headers.get("content-type", "") else raw.decode()
    except ValueError:
        return response.status, headers, raw.decode()


def differences(real: Any, local: Any, *, as_long: bool, place: str = "body") -> list[str]:
    """Where two JSON values differ in keys, types and values that are no matter of when or where.

    :param as_long: whether lists must have the same length.
    """
    if real == local and type(real) is type(local):
        return []
    name = place.rpartition(".")[2].rstrip("[]")
    if isinstance(real, dict) and isinstance(local, dict):
        found = [f"{place}.{key} is missing" for key in sorted(real.keys() - local.keys())]
        found += [f"{place}.{key} is too much" for key in sorted(local.keys() - real.keys())]
        if name == "request_counts" and not found:
            return found + count_differences(real, local, place)
        for key in sorted(real.keys() & local.keys()):
            found += differences(real[key], local[key], as_long=as_long, place=f"{place}.{key}")
        return found
    if isinstance(real, list) and isinstance(local, list):
        if bool(real) != bool(local) or (as_long and len(real) != len(local)):
            return [f"{place} has {len(local)} members for {len(real)}"]
        pairs = zip(real, local, strict=False)
        return [d for a, b in pairs for d in differences(a, b, as_long=as_long, place=f"{place}[]")]
    if type(real) is not type(local):
        return [f"{place} is {local!r}, a {type(local).__name__} for {real!r}"]
    if place.startswith("body.results[]") and name not in FIXED_IN_RESULTS:
        return []
    differ = [f"{place} is {local!r} for {real!r}"]
    if name in IDS:
        return [] if form_of(real) == form_of(local) else differ
    if name.endswith("_at"):
        return [] if abs(local - time.time()) < 1e9 else differ  # a time of our times
    if name in VOLATILE or place.endswith("error.error"):
        return differ if name not in ("latency", "line") and bool(real) != bool(local) else []
    return differ


def form_of(ident: str) -> tuple[str, ...]:
    """What an id looks like, whichever it is: its words and signs, and those of what it is the base64 of."""
    plain = ident.partition("?")[0]
    with contextlib.suppress(ValueError):
        decoded = base64.b64decode(plain, validate=True).decode()
        if decoded.startswith(("arn:", "s3://")):
            return ("base64", decoded.partition(":")[0])
    words = re.split(r"([/:_.-]+)", plain)
    known = {
        "batch",
        "batches",
        "msgbatch",
        "file",
        "files",
        "s3",
        "https",
        "api",
        "anthropic",
        "com",
        "v1",
        "messages",
        "results",
    }
    return (
        tuple(word if not word or not word.isalnum() or word in known else "x" for word in words[:2] + words[-1:])
        if ident
        else ()
    )


def count_differences(real: dict[str, int], local: dict[str, int], place: str) -> list[str]:
    """How far a batch has come is a matter of the moment; whether a count is there is not, nor what an ended batch has counted."""
    shares = [{name: number / (counts["total"] or 1) for name, number in counts.items()} for counts in (real, local)]
    settled = real["total"] == real["completed"] + real["failed"] or real["completed"] == real["total"]
    return [
        f"{place}.{name} is {local[name]} for {real[name]}"
        for name in real
        if bool(real[name]) != bool(local[name]) or (settled and abs(shares[0][name] - shares[1][name]) > 0.01)
    ]


def compare(recording: Recording, played: tuple[int, dict[str, str], Any] | None) -> list[str]:
    if played is None or recording.answer is None:
        return (
            []
            if played is None and recording.answer is None
            else [f"{played and played[0]} for {recording.no_answer or recording.answer['status']}"]
        )
    real, (status, headers, body) = recording.answer, played
    found = [] if status == real["status"] else [f"status is {status} for {real['status']}"]
    for name in COMPARED_HEADERS:
        given, wanted = headers.get(name), real["headers"].get(name)
        if name == "location" and given and wanted:
            given, wanted = urlsplit(given)._replace(netloc="").geturl(), urlsplit(wanted)._replace(netloc="").geturl()
        if given != wanted:
            found.append(f"{name} is {given!r} for {wanted!r}")
    if real["headers"].get("content-type", "").startswith("text/html"):
        return found  # a page for people
    if recording.call == "file_content" and status == 200 and "content-length" not in headers:
        found.append("content-length is missing")
    state = recording.state or {}
    canned = tuple(f"body.{name} " for name in state.get("canned", ()))
    # A page with another one after it is as long as it was asked to be; the recorded stand-in gave what it had.
    in_body = differences(real["body"], body or None, as_long=not state.get("more"))
    return found + [difference for difference in in_body if not difference.startswith(canned)]


def play_and_compare(gateways: Gateways, recording: Recording) -> list[str]:
    gateway = gateways.of(recording)
    prepare(gateway, recording)
    return compare(recording, play(gateway, recording))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_local_gateway_answers_like_the_real_one(gateways: Gateways, version: str) -> None:
    same = [r for r in RECORDINGS if r.version == version and not is_different(r)]
    assert differing(same, lambda recording: (play_and_compare(gateways, recording), [])) == {}


def test_a_listed_difference_is_still_one(gateways: Gateways) -> None:
    different = [r for r in RECORDINGS if is_different(r)]
    assert [r.title for r in different if not play_and_compare(gateways, r)] == []


def test_every_listed_difference_is_a_recording() -> None:
    assert {r.name for r in RECORDINGS} | {r.title for r in RECORDINGS} >= NAMED
