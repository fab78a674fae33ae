"""The scripted gateway of rows.py, in a separate process: it takes files, and each batch is completed as soon as it is created.

The answers are made from the input while the batch is created, and handed out as they are. What that took is counted, so that it can be
left out (``GET /made``: seconds). An answer stands up to so many rows away from the place of its request: requests overtake each other.

As a program it takes that number, prints its port, and ends when its stdin closes.
"""

# ruff: noqa: S310, S603, T201 - a script: it prints, it starts an interpreter, and it asks its own server over HTTP

from __future__ import annotations

import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import urlopen

import msgspec
from wire import as_openai

MODEL = "gpt-4o-mini"
WORDS = "of the an order that came late and was damaged on its way she asks for a refund to her new address"
ANSWER = {  # as OpenAI has it
    "id": "batch_req_6925e6f0a1b08190a1c7d3c1f0c4f7aa",
    "custom_id": "CUSTOM_ID",
    "response": {
        "status_code": 200,
        "request_id": "4c1f6a9a1d3e4b2f8a7c5d6e7f809182",
        "body": {
            "id": "chatcmpl-BxYz0123456789abcdefghijklm",
            "object": "chat.completion",
            "created": 1_775_400_000,
            "model": f"{MODEL}-2024-07-18",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "CONTENT", "refusal": None, "annotations": []},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": 62,
                "completion_tokens": 118,
                "total_tokens": 180,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                "completion_tokens_details": {
                    "reasoning_tokens": 0,
                    "audio_tokens": 0,
                    "accepted_prediction_tokens": 0,
                    "rejected_prediction_tokens": 0,
                },
            },
            "service_tier": "default",
            "system_fingerprint": "fp_0123456789",
        },
    },
    "error": None,
}


class _Named(msgspec.Struct):
    custom_id: str


def answers(requests: Iterable[bytes], reach: int) -> list[bytes]:
    """An answer of 60 to 140 words, a JSON object, for each line of a request file; up to ``reach`` rows away from its place."""
    chance = random.Random(7)
    head, tail = json.dumps(ANSWER).encode().split(b"CUSTOM_ID")
    tails = []
    for words in range(60, 141, 5):
        content = json.dumps({"label": "refund", "summary": " ".join(chance.choices(WORDS.split(), k=words))})
        tails.append(tail.replace(b'"CONTENT"', json.dumps(content).encode()))
    custom_id = msgspec.json.Decoder(_Named).decode
    lines = (head + custom_id(line).custom_id.encode() + chance.choice(tails) + b"\n" for line in requests)
    return [line for _, line in sorted((place + reach * chance.random(), line) for place, line in enumerate(lines))]


class State:
    def __init__(self, reach: int) -> None:
        self.reach = reach
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.made = 0.0

    def answer(self, method: str, path: str, body: bytes, boundary: bytes) -> dict[str, Any] | bytes | None:
        """None: there is no such route."""
        *_, kind, name = path.split("/")
        if method == "POST" and name == "files":
            return self.keep(_file_of(body, boundary))
        if method == "POST" and name == "batches":
            return self.create(json.loads(body))
        if method == "GET" and kind == "batches":
            return self.batches[name]
        if method == "GET" and name == "content":
            return self.files[kind]
        return {"seconds": self.made} if name == "made" else None

    def keep(self, content: bytes) -> dict[str, Any]:
        ident = f"file-{len(self.files) + 1}"
        self.files[ident] = content
        return {"id": ident, "object": "file", "bytes": len(content), "created_at": int(time.time())} | {
            "filename": "input.jsonl",
            "purpose": "batch",
            "status": "processed",
        }

    def create(self, asked: dict[str, Any]) -> dict[str, Any]:
        began = time.perf_counter()
        lines = answers(self.files[asked["input_file_id"]].splitlines(), self.reach)
        output = self.keep(b"".join(lines))
        self.made += time.perf_counter() - began
        batch = as_openai(len(self.batches), time.time()) | {
            "input_file_id": asked["input_file_id"],
            "output_file_id": output["id"],
            "request_counts": {"total": len(lines), "completed": len(lines), "failed": 0},
            "metadata": asked.get("metadata"),
        }
        self.batches[batch["id"]] = {name: value for name, value in batch.items() if value is not None}
        return self.batches[batch["id"]]


def _file_of(body: bytes, boundary: bytes) -> bytes:
    """The file of a form."""
    start = body.index(b"\r\n\r\n", body.index(b"filename=")) + 4
    return body[start : body.index(b"\r\n--" + boundary, start)]


async def _talk(state: State, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """HTTP/1.1, keep-alive."""
    while head := await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b"":
        method, path, _ = head.decode().split(" ", 2)
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        boundary = re.search(rb'(?i)boundary="?([^"\r\n;]+)', head)
        body = await reader.readexactly(int(length[1])) if length else b""
        found = state.answer(method, path.partition("?")[0], body, boundary[1] if boundary else b"")
        content = found if isinstance(found, bytes) else json.dumps(found).encode()
        kind = "application/octet-stream" if isinstance(found, bytes) else "application/json"
        status = "404 Not Found" if found is None else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(content)}\r\n\r\n".encode())
        writer.write(content)
        await writer.drain()


async def serve(reach: int) -> None:
    state, ended = State(reach), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _talk(state, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):  # the one who asked is gone
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, limit=2**20)
    print(server.sockets[0].getsockname()[1], flush=True)
    asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
    await ended.wait()


@contextmanager
def gateway(reach: int) -> Iterator[str]:
    """A gateway process; gives its URL."""
    command = [sys.executable, __file__, str(reach)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.communicate()


def made(url: str) -> float:
    """Seconds that the gateway has taken to make answers."""
    with urlopen(f"{url}/made") as response:
        return float(json.load(response)["seconds"])


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
