"""A server that abuses HTTP: it sends answers in tiny pieces, and compresses gigabytes into kilobytes."""

from __future__ import annotations

import gzip
import socketserver
import threading
from functools import cache
from typing import Self

PAUSE = 0.01  # seconds between two drops
DROPS = 60  # before it gives up, so that a client without a deadline gets another error


class DrippingServer(socketserver.ThreadingTCPServer):
    """Sends ``head`` at once, and then ``drop`` again and again until the client leaves. Use it as a context manager."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, head: bytes, drop: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Dripping)
        self.head, self.drop = head, drop
        self.gone = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gone.set()
        self.shutdown()
        self.server_close()


class _Dripping(socketserver.BaseRequestHandler):
    server: DrippingServer

    def handle(self) -> None:
        try:
            self.request.recv(65536)
            self.request.sendall(self.server.head)
            for _ in range(DROPS):
                if self.server.gone.wait(PAUSE):
                    return
                self.request.sendall(self.server.drop)
        except OSError:
            pass  # the client has left


@cache
def bomb(mebibytes: int, layers: int = 1) -> bytes:
    """This many MiB of spaces, compressed to a few kilobytes, or to less with more layers."""
    content = b" " * (mebibytes * 2**20)
    for _ in range(layers):
        content = gzip.compress(content, 6)
    return content
