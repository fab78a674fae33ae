"""The body of an answer while it is received: inflated in small steps, and limited in size and time. Pure.

The limits do not trust the server: a few kilobytes of gzip can stand for gigabytes, and a byte every few seconds can keep a call
waiting forever.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import httpx

from airflow_bifrost.exceptions import BifrostGatewayError
from airflow_bifrost.gateway import errors
from airflow_bifrost.gateway.exchange import RequestContext

ENCODING = "gzip"  # the only one that a request asks for
STEP = 2**18  # bytes of content that are inflated at once
SLOWEST = 2**14  # bytes per second at which a file must make progress, sent or received


class Patience:
    """How many seconds a call may still wait for the network.

    :param seconds: for the whole call, or for a download without progress.
    :param size: bytes of the file that the call sends. It may take longer, but must make progress.
    """

    def __init__(self, seconds: float, size: int = 0) -> None:
        self._total = seconds + size / SLOWEST
        self._downloads = False
        self.left = self._total

    def spend(self, seconds: float) -> None:
        """The call has waited for so many seconds."""
        self.left -= seconds

    def on_progress(self, size: int) -> None:
        """So many bytes of a download have arrived."""
        self._downloads = True
        self.left = min(self._total, self.left + size / SLOWEST)

    def ran_out(self, context: RequestContext) -> BifrostGatewayError:
        """The error of a call that took too long."""
        if self._downloads:
            return errors.unavailable(f"the download came at less than {SLOWEST // 1024} KiB/s for too long", context)
        return errors.unavailable(f"the answer was not complete after {self._total:g} s", context)


class Inflater:
    """Turns the raw chunks of a body into its content, in pieces of at most ``STEP`` bytes.

    :param is_gzip: whether the body is compressed.
    """

    def __init__(self, is_gzip: bool, context: RequestContext) -> None:
        self._context = context
        self._gzip = zlib.decompressobj(zlib.MAX_WBITS | 16) if is_gzip else None
        self._empty = True

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The content of a raw chunk. It is inflated only as far as the pieces are taken."""
        if self._gzip is None:
            yield chunk
            return
        self._empty = False
        while chunk:
            if self._gzip.eof:  # a file may consist of several gzip members
                self._gzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
            try:
                piece = self._gzip.decompress(chunk, STEP)
            except zlib.error:
                raise errors.unavailable("the answer is not valid gzip", self._context) from None
            if piece:
                yield piece
            chunk = self._gzip.unused_data if self._gzip.eof else self._gzip.unconsumed_tail

    def finish(self) -> None:
        """The last chunk was fed.

        :raises BifrostUnavailable: the content is cut short.
        """
        if self._gzip is not None and not (self._empty or self._gzip.eof):
            raise errors.unavailable("the answer's gzip is cut short", self._context)


def inflater_of(response: httpx.Response, context: RequestContext) -> Inflater | None:
    """What reads the body of an answer; None: the answer is an error whose body cannot be read, so only its status counts.

    :raises BifrostProtocolError: the encoding is not the one that the request asked for.
    """
    encoding = response.headers.get("content-encoding", "")
    given = [word for word in (part.strip().lower() for part in encoding.split(",")) if word not in ("", "identity")]
    if given in ([], [ENCODING], [f"x-{ENCODING}"]):
        return Inflater(bool(given), context)
    if response.status_code != 200:
        return None
    raise errors.protocol_error(
        f"the answer has the content encoding {context.quote(encoding)!r}, but the request accepts only {ENCODING}",
        200,
        context,
        transient=False,
    )


class Chunker:
    """Joins pieces to chunks that are worth writing to a file."""

    def __init__(self) -> None:
        self._joined = bytearray()

    def add(self, piece: bytes) -> bytes:
        """A chunk, if there is enough for one."""
        self._joined += piece
        return self.rest() if len(self._joined) >= STEP else b""

    def rest(self) -> bytes:
        """The rest."""
        chunk = bytes(self._joined)
        self._joined.clear()
        return chunk


class BoundedBody:
    """Collects the content of an answer, limited in size."""

    def __init__(self, status: int, context: RequestContext, max_bytes: int) -> None:
        self._status = status
        self._context = context
        self._max_bytes = max_bytes
        self._content = bytearray()

    def take(self, piece: bytes) -> bool:
        """Add a piece.

        :return: whether to read on.
        :raises BifrostProtocolError: the body is too large.
        """
        self._content += piece
        if len(self._content) <= self._max_bytes:
            return True
        if self._status == 200:
            raise errors.too_large(self._max_bytes, self._context)
        self._content.clear()  # the status alone is enough
        return False

    def complete(self) -> bytes:
        return bytes(self._content)
