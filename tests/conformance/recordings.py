"""The recorded exchanges: how they are stored, and how to play them. The README says what each member means."""

from __future__ import annotations

import asyncio
import base64
import copy
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from airflow_bifrost.gateway.async_client import AsyncGatewayClient
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.retry import NO_RETRY

HERE = Path(__file__).parent
FOLDER = HERE / "recordings"
VERSIONS = ("1.4.19", "1.5.16")
FIRST, *LATER = VERSIONS
CREATE = {"input_file_id": "file-1", "model": "m"}
NO_PROVIDER = ("health", "version")  # calls that are about none
UPLOAD = {"purpose": "batch", "content": "{}\n"}

# What a call is given where only its answer matters.
ANY_ARGUMENTS: dict[str, dict[str, Any]] = {
    "get_batch": {"batch_id": "some_id"},
    "cancel_batch": {"batch_id": "some_id"},
    "batch_results": {"batch_id": "some_id"},
    "get_file": {"file_id": "some_id"},
    "delete_file": {"file_id": "some_id"},
    "file_content": {"file_id": "some_id"},
    "create_batch": CREATE,
    "upload_file": UPLOAD,
}


@dataclass(frozen=True)
class Recording:
    """One exchange.

    :param version: of the gateway.
    :param name: ``<topic>/<what it shows>``. An exchange that was recorded with several versions has the same name in each.
    """

    version: str
    name: str
    data: dict[str, Any] = field(repr=False)

    def __getattr__(self, member: str) -> Any:
        return self.data.get(member)

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of its call with which its answer can be read: about the batch or file that the answer names."""
        arguments = dict(ANY_ARGUMENTS.get(self.call, {}))
        if self.call not in NO_PROVIDER:
            arguments["provider"] = self.provider
        body = self.answer["body"] if self.answer else None
        answered = body.get("id") or body.get("batch_id") if isinstance(body, dict) else None
        for name in ("batch_id", "file_id"):
            if name in arguments and answered:
                arguments[name] = self._as_asked(answered)
        return arguments

    @staticmethod
    def _as_asked(answered: str) -> str:
        """An ID of the native routes as the OpenAI-compatible routes have it: a path cannot hold its slashes."""
        if answered.startswith("arn:"):
            return base64.b64encode(answered.encode()).decode()
        if answered.startswith("projects/"):
            return base64.urlsafe_b64encode(answered.encode()).decode().rstrip("=")
        return answered.replace("batches/", "batches-")

    def response(self) -> httpx.Response:
        """Its answer, as a client gets it."""
        if self.answer is None:
            raise httpx.RemoteProtocolError(self.no_answer)
        body = self.answer["body"]
        is_text = isinstance(body, str) and self.call != "version"  # which is a string in JSON
        content = body.encode() if is_text else b"" if body is None else json.dumps(body).encode()
        return httpx.Response(self.answer["status"], headers=self.answer["headers"], content=content)

    @property
    def title(self) -> str:
        """What names it among all versions."""
        return f"{self.version}/{self.name}"


def load(version: str) -> dict[str, Recording]:
    """The recordings of one version that have files of their own, by name."""
    folder = FOLDER / version
    return {
        name: Recording(version, name, json.loads(path.read_text()))
        for path in sorted(folder.rglob("*/*.json"))
        for name in [str(path.relative_to(folder).with_suffix(""))]
    }


def changed(version: str, bases: dict[str, Recording]) -> dict[str, Recording]:
    """The recordings of a later version of the same exchanges: ``changes.json`` has the members that differ."""
    changes: dict[str, dict[str, Any]] = json.loads((FOLDER / version / "changes.json").read_text())
    return {
        name: Recording(version, name, with_changes(bases[name].data, **change)) for name, change in changes.items()
    }


def with_changes(data: dict[str, Any], *, set: dict[str, Any] | None = None, remove: list[str] | None = None) -> Any:  # noqa: A002 - the file's word
    """A copy of ``data`` with other members. Slashes separate the names on the way to a member; a number is a place in a list."""
    data = copy.deepcopy(data)
    for path in remove or ():
        member, last = _way(data, path)
        del member[last]
    for path, value in (set or {}).items():
        member, last = _way(data, path)
        member[last] = value
    return data


def _way(data: Any, path: str) -> tuple[Any, Any]:
    *way, last = path.split("/")
    for name in way:
        data = data[int(name) if isinstance(data, list) else name]
    return data, int(last) if isinstance(data, list) else last


def load_all() -> list[Recording]:
    first = load(FIRST)
    later = [
        recording for version in LATER for recording in [*changed(version, first).values(), *load(version).values()]
    ]
    return [*first.values(), *later]


RECORDINGS = load_all()


def differing(
    recordings: Iterable[Recording], compare: Callable[[Recording], tuple[Any, Any]]
) -> dict[str, tuple[Any, Any]]:
    """What is found and what is expected, of each recording for which the two differ.

    One test compares all recordings: a test of its own for each would take longer than the comparison.
    """
    compared = {recording.title: compare(recording) for recording in recordings}
    assert compared
    return {title: pair for title, pair in compared.items() if pair[0] != pair[1]}


def ask(recording: Recording, **changed: Any) -> Any:
    """Make the recording's call, answer it as recorded, and return what the client makes of the answer."""
    return call(recording.call, {**recording.arguments, **changed}, lambda _: recording.response())


def call(
    name: str,
    arguments: dict[str, Any],
    answer: Any,
    *,
    base_url: str = "http://127.0.0.1:8080",
    token: str | None = "sk-bf-conformance",
    path_prefix: str = "/openai",
) -> Any:
    """A call of the sync client, which ``answer`` answers."""
    config = GatewayConfig(base_url, token=token, path_prefix=path_prefix)
    with GatewayClient(config, retry=NO_RETRY, transport=httpx.MockTransport(answer)) as client:
        if name == "file_content":
            with client.file_content(**arguments) as chunks:
                return b"".join(chunks)
        args, kwargs = _as_the_client_takes_them(name, arguments)
        return getattr(client, name)(*args, **kwargs)


def acall(
    name: str,
    arguments: dict[str, Any],
    answer: Any,
    *,
    base_url: str = "http://127.0.0.1:8080",
    token: str | None = "sk-bf-conformance",
    path_prefix: str = "/openai",
) -> Any:
    """The same with the async client."""

    async def once() -> Any:
        config = GatewayConfig(base_url, token=token, path_prefix=path_prefix)
        async with AsyncGatewayClient(config, retry=NO_RETRY, transport=httpx.MockTransport(answer)) as client:
            if name == "file_content":
                async with client.file_content(**arguments) as chunks:
                    return b"".join([chunk async for chunk in chunks])
            args, kwargs = _as_the_client_takes_them(name, arguments)
            return await getattr(client, name)(*args, **kwargs)

    return asyncio.run(once())


def _as_the_client_takes_them(name: str, arguments: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    arguments = dict(arguments)
    if name == "upload_file":
        content = io.BytesIO(arguments.pop("content").encode())
        return [content], {**arguments, "idempotency_key": "k"}
    if name == "create_batch":
        return [], {**arguments, "idempotency_key": "k"}
    return [], arguments
