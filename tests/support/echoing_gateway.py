"""A gateway that repeats the token of its caller in everything that it answers: plain, escaped, URL-encoded and in base64."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import quote

from support.loopback_server import LoopbackServer

RUNNING_POLLS = 3  # of `batch_running`, before it has completed
STATUSES = {"batch_failed": "failed", "batch_cancelled": "cancelled"}
ERRORS = {f"batch_{status}": status for status in (400, 401, 402, 403, 404, 409, 418, 429, 500, 503)}


def echo(token: str) -> str:
    """The token in every form that a program may produce from it."""
    in_base64 = [base64.b64encode(text.encode()).decode() for text in (token, f"Bearer {token}", f"k:{token}")]
    escaped = "".join(f"\\u{ord(character):04x}" for character in token)
    return " ".join([token, f"Bearer {token}", escaped, quote(token, safe=""), *in_base64, token[:-4]])


class EchoingGateway(LoopbackServer):
    """Use it as a context manager. The ID of a batch says what the answer about it is like, see :meth:`about`."""

    def __init__(self, token: str) -> None:
        super().__init__(_Handler)
        self.echo = echo(token)
        self.token = token
        self.polls: Counter[str] = Counter()
        self.custom_ids: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def batch(self, name: str, **changes: Any) -> dict[str, Any]:
        """A batch of OpenAI's form, with the token wherever a text may be."""
        return {
            "id": name,
            "object": "batch",
            "status": STATUSES.get(name, "completed"),
            "endpoint": self.echo,
            "model": self.echo,
            "input_file_id": self.echo,
            "output_file_id": "file-out",
            "error_file_id": self.echo,
            "results_url": f"https://example.invalid/{quote(self.token)}?key={self.token}",
            "created_at": 1767225600,
            "completion_window": self.echo,
            "errors": {"data": [{"code": self.echo, "message": self.echo, "param": self.echo, self.token: 1}]},
            "metadata": {"note": self.echo, self.token: "x"},
            "request_counts": {"total": 2, "completed": 1, "failed": 1, self.token: 1},
            "usage": {self.token: 1},
            "extra_fields": {"provider": self.echo, "request_type": self.echo},
            self.token: self.echo,
            **changes,
        }

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """The status and the body of an answer. A text is sent as it is."""
        if path.endswith("/content"):
            return 200, "".join(json.dumps(line) + "\n" for line in self.result_lines())
        if "/files" in path:
            if method == "POST":
                self.custom_ids = re.findall(r'"custom_id": ?"([^"]+)"', body.decode(errors="replace"))
            shown = {"id": "file-in", "object": "file", "bytes": 1, "created_at": 1, "status": "processed"}
            return 200, {**shown, "filename": self.echo, "purpose": self.echo, "status_details": self.echo}
        name = path.split("/batches", 1)[-1].strip("/").split("/")[0]
        if method == "POST" and not name:
            made = b"echo the id" in body
            return 200, self.batch(self.token if made else "batch_made", status="in_progress")
        if not name:
            return 200, {"object": "list", "data": [], "has_more": False, "note": self.echo}
        return self.about(name)

    def about(self, name: str) -> tuple[int, Any]:
        """The answer about a batch."""
        if name in ERRORS:
            error = {"message": self.echo, "type": self.echo, "code": self.echo, "param": self.echo}
            return ERRORS[name], {"error": error, "extra_fields": {"provider": self.echo}, "is_bifrost_error": False}
        if name == "batch_html":
            return 200, f"<html><title>{self.echo}</title></html>"
        if name == "batch_text":
            return 502, self.echo
        if name == "batch_redirect":
            return 302, self.echo
        if name == "batch_other":
            return 200, self.batch(self.token)
        if name == "batch_list":
            return 200, [self.echo]
        self.polls[name] += 1
        if name == "batch_running" and self.polls[name] <= RUNNING_POLLS:
            return 200, self.batch(name, status=self.echo)
        if name == "batch_made":  # its results can be read
            return 200, self.batch(name, error_file_id=None)
        return 200, self.batch(name)

    def result_lines(self) -> list[dict[str, Any]]:
        """One line for each row that was uploaded: the first succeeds, the others fail."""
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        lines: list[dict[str, object]] = []
        for number, custom_id in enumerate(self.custom_ids):
            if number:
                error = {"code": f"{self.token} {number}", "message": self.echo}
                lines.append({"custom_id": custom_id, "response": None, "error": error})
                continue
            message = {"role": "assistant", "content": "fine"}
            choices = [{"message": message, "finish_reason": self.echo}]
            answer: dict[str, object] = {"model": self.token, "choices": choices, "usage": usage, "id": self.echo}
            response: dict[str, object] = {"status_code": 200, "request_id": self.echo, "body": answer}
            lines.append({"custom_id": custom_id, "response": response, "error": None})
        return lines


class _Handler(BaseHTTPRequestHandler):
    server: EchoingGateway
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, shown = self.server.answer(self.command, self.path.partition("?")[0], body)
        content = shown.encode() if isinstance(shown, str) else json.dumps(shown).encode()
        self.send_response(status, self.server.token)
        for name in ("X-Request-Id", "Set-Cookie", "Server", "WWW-Authenticate", "Retry-After", "ETag"):
            self.send_header(name, self.server.echo)
        if status == 302:
            self.send_header("Location", f"{self.server.url}/{self.server.token}")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class
        """Write nothing."""
