"""A web server that is no gateway, and answers everything alike."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler

from support.loopback_server import LoopbackServer


class WebServer(LoopbackServer):
    """Serves in a thread, as a context manager."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.answer(200, b"<html><body>It works!</body></html>", "text/html")

    def answer(self, status: int, body: bytes, content_type: str, *, length: int | None = None) -> None:
        """What to answer from now on.

        :param length: what ``Content-Length`` says, if not the truth.
        """
        self.status, self.body, self.content_type, self.length = status, body, content_type, length or len(body)

    @property
    def uri(self) -> str:
        return f"bifrost://127.0.0.1:{self.server_port}/http"


class _Handler(BaseHTTPRequestHandler):
    server: WebServer

    def do_GET(self) -> None:
        self.send_response(self.server.status)
        self.send_header("Content-Type", self.server.content_type)
        self.send_header("Content-Length", str(self.server.length))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        pass
