"""Two clients of the gateway, sync and async: thin I/O shells over requests, responses and retry.

httpx is the transport seam: tests and other transports go in as ``transport``; the async client's own is aiohttp, which spends half
the CPU on a request and does not choke on thousands that wait. Redirects are never followed, and the token goes
to the connection's origin only, because every URL is built from it.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from functools import partial
from itertools import count
from typing import IO, Any, Self, TypeVar

import httpx

from airflow_bifrost import __version__
from airflow_bifrost.exceptions import BifrostGatewayError
from airflow_bifrost.gateway import requests, responses
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.models import Batch, BatchResults, DeletedFile, File, Health, Page, read_json
from airflow_bifrost.gateway.requests import GatewayRequest
from airflow_bifrost.gateway.responses import RawPage, RawResponse, RequestContext
from airflow_bifrost.gateway.retry import RetryPolicy

R = TypeVar("R")
Parser = Callable[[RawResponse, RequestContext], R]
OnAnswer = Callable[[GatewayRequest, RawResponse], None]

SMALL_ANSWER = 8 * 2**20  # bytes; any answer but files and results
LIST_ANSWER = 4 * 2**20  # bytes; reading it holds an event loop for some 40 ms
RESULTS_ANSWER = 512 * 2**20  # bytes; the native results route has no pages
KEEPALIVE_EXPIRY = 120.0  # seconds; above the usual poll interval, or every poll would make a new connection
CHUNK = 2**18  # bytes
MAX_EMPTY_PAGES = 20  # in a row; after these a listing ends


_batch: Parser[Batch] = partial(responses.parse, Batch)
_batches: Parser[Page[Batch]] = partial(responses.parse_page, Batch)
_file: Parser[File] = partial(responses.parse, File)
_files: Parser[Page[File]] = partial(responses.parse_page, File)
_deleted: Parser[DeletedFile] = partial(responses.parse, DeletedFile)
_results: Parser[BatchResults] = partial(responses.parse, BatchResults)
_health: Parser[Health] = partial(responses.parse, Health)


def _version(response: RawResponse, asked: RequestContext) -> str | None:
    """A JSON string, where the gateway says it at all."""
    responses.check_status(response, asked)
    try:
        value = read_json(response.body)
    except ValueError:
        return None
    return value if isinstance(value, str) else None


class _Client:
    """What both clients share: everything but the ``await``."""

    def __init__(self, config: GatewayConfig, *, retry: RetryPolicy, on_answer: OnAnswer | None) -> None:
        self.config = config
        self.retry = retry
        self._on_answer = on_answer
        self._root = httpx.URL(config.root)

    def _options(self) -> dict[str, Any]:
        config = self.config
        connections = max(config.max_connections, config.max_in_flight)  # what the hub lets go must not queue here
        return {
            "verify": config.tls(),
            "follow_redirects": False,
            "timeout": httpx.Timeout(config.timeout, connect=config.connect_timeout),
            "limits": httpx.Limits(
                max_connections=connections,
                max_keepalive_connections=connections,
                keepalive_expiry=KEEPALIVE_EXPIRY,
            ),
            "headers": {"accept": "application/json", "user-agent": f"airflow-provider-bifrost/{__version__}"},
        }

    def _arguments(self, request: GatewayRequest, file: IO[bytes] | None, filename: str | None) -> dict[str, Any]:
        headers = dict(request.headers)
        if request.authenticated and self.config.token:
            headers["authorization"] = f"Bearer {self.config.token}"
        target = self._root.raw_path.rstrip(b"/") + request.target(self.config.path_prefix).encode("ascii")
        arguments: dict[str, Any] = {
            "method": request.method,
            "url": self._root.copy_with(raw_path=target),
            "headers": headers,
        }
        if file is None:
            return arguments | {"json": request.json}
        if request.form is None:
            content, length = _with_rows(request.json or {}, file)
            headers |= {"content-type": "application/json", "content-length": str(length)}
            return arguments | {"content": content}
        return arguments | {
            "data": request.form,
            "files": {"file": (filename or "batch.jsonl", file, "application/jsonl")},
        }

    def _asked(self, request: GatewayRequest) -> RequestContext:
        return RequestContext(request, self.config.name, time.time(), self.config.token)

    def _pauses(self, request: GatewayRequest) -> Callable[[BifrostGatewayError], float]:
        """What gives the seconds to wait after each fault of one call, or raises the fault if it is not to be repeated."""
        began, attempts = time.monotonic(), count(1)

        def pause(error: BifrostGatewayError) -> float:
            delay = (
                self.retry.delay(next(attempts), error, elapsed=time.monotonic() - began, random=random.random)
                if request.repeatable
                else None
            )
            if delay is None:
                raise error
            return delay

        return pause

    def _answer(self, response: httpx.Response, body: bytes, asked: RequestContext) -> RawResponse:
        raw = _head(response, body)
        if self._on_answer is not None:
            self._on_answer(asked.request, raw)
        return raw

    def _provider(self, provider: str | None) -> str:
        return self.config.provider_for(provider)


def _with_rows(body: Mapping[str, Any], rows: IO[bytes]) -> tuple[Iterator[bytes], int]:
    """A JSON body with the lines of a file as the list ``requests``, and its size in bytes.

    :param rows: JSONL, each line with its end.
    """
    head, tail = json.dumps({**body, "requests": []}).encode()[:-2], b"]}"
    left = rows.seek(0, os.SEEK_END) - 1  # without the end of the last line
    rows.seek(0)

    def content() -> Iterator[bytes]:
        rest = left
        yield head
        while chunk := rows.read(min(CHUNK, rest)):
            rest -= len(chunk)
            yield chunk.replace(b"\n", b",")
        yield tail

    return content(), len(head) + left + len(tail)


def _head(response: httpx.Response, body: bytes) -> RawResponse:
    return RawResponse(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)


def _network_error(error: Exception, asked: RequestContext) -> BifrostGatewayError:
    """A fault below HTTP. A name that does not exist and TLS that fails are wrong until they have worked once."""
    cause: BaseException | None = error
    transient = True
    while cause is not None:
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            transient = False
        if isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN:
            transient = False
        cause = cause.__cause__ or cause.__context__
    text = str(error)
    if "WRONG_VERSION_NUMBER" in text:
        text += "; it seems to speak plain http: set the connection's schema to http"
    kind = type(error.__cause__ or error).__name__  # a transport's own word: aiohttp has more of them than httpx
    fault = responses.unavailable(f"{kind}: {text}" if text else kind, asked, transient=transient)
    fault.sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    return fault


def _async_http(transport: str) -> tuple[type[httpx.AsyncClient], tuple[type[Exception], ...]]:
    """httpx's async client over a transport of this name, and what it raises where the network or HTTP fails.

    aiohttp is loaded only here: a worker may never need it. Not all of its errors come as httpx's.
    """
    if transport == "httpx":
        return httpx.AsyncClient, (httpx.HTTPError,)
    from aiohttp import ClientError
    from httpx_aiohttp import HttpxAiohttpClient

    return HttpxAiohttpClient, (httpx.HTTPError, ClientError)


class GatewayClient(_Client):
    """The API, sync. One connection pool; use it as a context manager, or call :meth:`close`.

    Every call raises :class:`~airflow_bifrost.exceptions.BifrostGatewayError` or one of its kinds, and ``ValueError`` for
    arguments that are never sent. ``provider`` is the provider; None is the connection's.

    :param on_answer: called with each request and its answer, errors included, read whole and not yet parsed; not by
        :meth:`file_content`, which streams.
    """

    def __init__(
        self,
        config: GatewayConfig,
        *,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        on_answer: OnAnswer | None = None,
    ) -> None:
        super().__init__(config, retry=retry, on_answer=on_answer)
        self._sleep = sleep
        self._http = httpx.Client(transport=transport, **self._options())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def get_batch(self, batch_id: str, *, provider: str | None = None) -> Batch:
        return self._call(requests.get_batch(batch_id, self._provider(provider)), _batch)

    def list_page(
        self, *, provider: str | None = None, limit: int | None = None, after: str | None = None
    ) -> Page[Batch]:
        return self._call(requests.list_batches(self._provider(provider), limit=limit, after=after), _batches)

    def list_batches(self, *, provider: str | None = None, page_size: int = 100) -> Iterator[Batch]:
        return _entries(lambda after: self.list_page(provider=provider, limit=page_size, after=after))

    def create_batch(self, *, rows: IO[bytes] | None = None, provider: str | None = None, **arguments: Any) -> Batch:
        """See :func:`airflow_bifrost.gateway.requests.create_batch` for the arguments. Never repeated.

        :param rows: an open JSONL of requests that go into the call, streamed; instead of ``requests`` where they are many.
        """
        request = requests.create_batch(self._provider(provider), rows_follow=rows is not None, **arguments)
        return self._call(request, _batch, file=rows)

    def cancel_batch(self, batch_id: str, *, provider: str | None = None) -> Batch:
        return self._call(requests.cancel_batch(batch_id, self._provider(provider)), _batch)

    def batch_results(self, batch_id: str, *, provider: str | None = None) -> BatchResults:
        return self._call(requests.batch_results(batch_id, self._provider(provider)), _results, RESULTS_ANSWER)

    def upload_file(
        self, file: IO[bytes], *, filename: str | None = None, provider: str | None = None, **arguments: Any
    ) -> File:
        """Upload from an open file, streamed. See :func:`airflow_bifrost.gateway.requests.upload_file`. Never repeated."""
        request = requests.upload_file(self._provider(provider), **arguments)
        return self._call(request, _file, file=file, filename=filename)

    def list_files_page(
        self, *, provider: str | None = None, limit: int | None = None, after: str | None = None
    ) -> Page[File]:
        return self._call(requests.list_files(self._provider(provider), limit=limit, after=after), _files)

    def list_files(self, *, provider: str | None = None, page_size: int = 100) -> Iterator[File]:
        return _entries(lambda after: self.list_files_page(provider=provider, limit=page_size, after=after))

    def get_file(self, file_id: str, *, provider: str | None = None) -> File:
        return self._call(requests.get_file(file_id, self._provider(provider)), _file)

    def delete_file(self, file_id: str, *, provider: str | None = None) -> DeletedFile:
        return self._call(requests.delete_file(file_id, self._provider(provider)), _deleted)

    def health(self) -> Health:
        return self._call(requests.health(), _health)

    def version(self) -> str | None:
        return self._call(requests.version(), _version)

    def file_content(self, file_id: str, *, provider: str | None = None) -> AbstractContextManager[Iterator[bytes]]:
        """The file's bytes, in chunks. The gateway answers only when it has the whole file from the provider."""
        return self._content(requests.file_content(file_id, self._provider(provider)))

    def results_content(self, batch_id: str, *, provider: str | None = None) -> AbstractContextManager[Iterator[bytes]]:
        """The answer of :meth:`batch_results` as it comes, in chunks: one JSON object, as large as it may be."""
        return self._content(requests.batch_results(batch_id, self._provider(provider)))

    @contextmanager
    def _content(self, request: GatewayRequest) -> Iterator[Iterator[bytes]]:
        def opened(asked: RequestContext) -> tuple[ExitStack, httpx.Response]:
            with ExitStack() as stack:
                response = stack.enter_context(self._stream(asked))
                body = b"" if response.status_code == 200 else self._read(response, asked, SMALL_ANSWER)
                responses.check_status(_head(response, body), asked)
                return stack.pop_all(), response

        stack, response = self._repeat(request, opened)

        def chunks() -> Iterator[bytes]:
            try:
                yield from response.iter_bytes(CHUNK)
            except httpx.HTTPError as error:
                raise _network_error(error, self._asked(request)) from error

        with stack:
            yield chunks()

    def _call(
        self,
        request: GatewayRequest,
        parser: Parser[R],
        cap: int = SMALL_ANSWER,
        *,
        file: IO[bytes] | None = None,
        filename: str | None = None,
    ) -> R:
        def once(asked: RequestContext) -> R:
            with self._stream(asked, file, filename) as response:
                return parser(self._answer(response, self._read(response, asked, cap), asked), asked)

        return self._repeat(request, once)

    def _repeat(self, request: GatewayRequest, once: Callable[[RequestContext], R]) -> R:
        pause = self._pauses(request)
        while True:
            try:
                return once(self._asked(request))
            except BifrostGatewayError as error:
                delay = pause(error)
            self._sleep(delay)

    @contextmanager
    def _stream(
        self, asked: RequestContext, file: IO[bytes] | None = None, filename: str | None = None
    ) -> Iterator[httpx.Response]:
        try:
            with self._http.stream(**self._arguments(asked.request, file, filename)) as response:
                yield response
        except httpx.HTTPError as error:
            raise _network_error(error, asked) from error

    def _read(self, response: httpx.Response, asked: RequestContext, cap: int) -> bytes:
        body = _Body(response, asked, cap, self.config.timeout)
        for chunk in response.iter_bytes():
            if not body.take(chunk):
                break
        return body.whole()


class AsyncGatewayClient(_Client):
    """The API, async: the same calls as :class:`GatewayClient`, awaited."""

    def __init__(
        self,
        config: GatewayConfig,
        *,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        on_answer: OnAnswer | None = None,
    ) -> None:
        super().__init__(config, retry=retry, on_answer=on_answer)
        self._sleep = sleep
        http, self._faults = _async_http(config.transport)
        self._http = http(transport=transport, **self._options())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def get_batch(self, batch_id: str, *, provider: str | None = None) -> Batch:
        return await self._call(requests.get_batch(batch_id, self._provider(provider)), _batch)

    async def list_page(
        self, *, provider: str | None = None, limit: int | None = None, after: str | None = None
    ) -> Page[Batch]:
        return await self._call(requests.list_batches(self._provider(provider), limit=limit, after=after), _batches)

    async def get_raw(self, batch_id: str, *, provider: str | None = None) -> dict[str, Any]:
        """:meth:`get_batch`, of which hardly anything is read: see :func:`airflow_bifrost.gateway.responses.get_raw`."""
        return await self._call(requests.get_batch(batch_id, self._provider(provider)), responses.get_raw)

    async def list_raw(self, *, provider: str | None = None, limit: int, after: str | None = None) -> RawPage:
        """:meth:`list_page` for those who look at thousands of batches: see :func:`airflow_bifrost.gateway.responses.list_raw`."""
        request = requests.list_batches(self._provider(provider), limit=limit, after=after)
        return await self._call(request, responses.list_raw, LIST_ANSWER)

    def list_batches(self, *, provider: str | None = None, page_size: int = 100) -> AsyncIterator[Batch]:
        return _aentries(lambda after: self.list_page(provider=provider, limit=page_size, after=after))

    async def create_batch(self, *, provider: str | None = None, **arguments: Any) -> Batch:
        return await self._call(requests.create_batch(self._provider(provider), **arguments), _batch)

    async def cancel_batch(self, batch_id: str, *, provider: str | None = None) -> Batch:
        return await self._call(requests.cancel_batch(batch_id, self._provider(provider)), _batch)

    async def batch_results(self, batch_id: str, *, provider: str | None = None) -> BatchResults:
        return await self._call(requests.batch_results(batch_id, self._provider(provider)), _results, RESULTS_ANSWER)

    async def upload_file(
        self, file: IO[bytes], *, filename: str | None = None, provider: str | None = None, **arguments: Any
    ) -> File:
        request = requests.upload_file(self._provider(provider), **arguments)
        return await self._call(request, _file, file=file, filename=filename)

    async def list_files_page(
        self, *, provider: str | None = None, limit: int | None = None, after: str | None = None
    ) -> Page[File]:
        return await self._call(requests.list_files(self._provider(provider), limit=limit, after=after), _files)

    def list_files(self, *, provider: str | None = None, page_size: int = 100) -> AsyncIterator[File]:
        return _aentries(lambda after: self.list_files_page(provider=provider, limit=page_size, after=after))

    async def get_file(self, file_id: str, *, provider: str | None = None) -> File:
        return await self._call(requests.get_file(file_id, self._provider(provider)), _file)

    async def delete_file(self, file_id: str, *, provider: str | None = None) -> DeletedFile:
        return await self._call(requests.delete_file(file_id, self._provider(provider)), _deleted)

    async def health(self) -> Health:
        return await self._call(requests.health(), _health)

    async def version(self) -> str | None:
        return await self._call(requests.version(), _version)

    @asynccontextmanager
    async def file_content(self, file_id: str, *, provider: str | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        """See :meth:`GatewayClient.file_content`."""

        async def opened(asked: RequestContext) -> tuple[AsyncExitStack, httpx.Response]:
            async with AsyncExitStack() as stack:
                response = await stack.enter_async_context(self._stream(asked))
                body = b"" if response.status_code == 200 else await self._read(response, asked, SMALL_ANSWER)
                responses.check_status(_head(response, body), asked)
                return stack.pop_all(), response

        request = requests.file_content(file_id, self._provider(provider))
        stack, response = await self._repeat(request, opened)

        async def chunks() -> AsyncIterator[bytes]:
            try:
                async for chunk in response.aiter_bytes(CHUNK):
                    yield chunk
            except self._faults as error:
                raise _network_error(error, self._asked(request)) from error

        async with stack:
            yield chunks()

    async def _call(
        self,
        request: GatewayRequest,
        parser: Parser[R],
        cap: int = SMALL_ANSWER,
        *,
        file: IO[bytes] | None = None,
        filename: str | None = None,
    ) -> R:
        async def once(asked: RequestContext) -> R:
            async with self._stream(asked, file, filename) as response:
                return parser(self._answer(response, await self._read(response, asked, cap), asked), asked)

        return await self._repeat(request, once)

    async def _repeat(self, request: GatewayRequest, once: Callable[[RequestContext], Awaitable[R]]) -> R:
        pause = self._pauses(request)
        while True:
            try:
                return await once(self._asked(request))
            except BifrostGatewayError as error:
                delay = pause(error)
            await self._sleep(delay)

    @asynccontextmanager
    async def _stream(
        self, asked: RequestContext, file: IO[bytes] | None = None, filename: str | None = None
    ) -> AsyncIterator[httpx.Response]:
        try:
            async with self._http.stream(**self._arguments(asked.request, file, filename)) as response:
                yield response
        except self._faults as error:
            raise _network_error(error, asked) from error

    async def _read(self, response: httpx.Response, asked: RequestContext, cap: int) -> bytes:
        body = _Body(response, asked, cap, self.config.timeout)
        async for chunk in response.aiter_bytes():
            if not body.take(chunk):
                break
        return body.whole()


class _Body:
    """An answer's body while it comes in: bounded in size and, if it should be small, in time, for httpx's timeout begins anew with
    every byte."""

    def __init__(self, response: httpx.Response, asked: RequestContext, cap: int, seconds: float) -> None:
        self._status = response.status_code
        self._asked = asked
        self._cap = cap
        self._seconds = seconds
        self._until = time.monotonic() + seconds if cap <= SMALL_ANSWER else math.inf
        self._chunks = bytearray()

    def take(self, chunk: bytes) -> bool:
        """Add a piece.

        :return: whether to read on.
        :raises BifrostGatewayError: it is too much, or takes too long.
        """
        self._chunks += chunk
        if len(self._chunks) > self._cap:
            if self._status == 200:
                raise responses.too_large(self._cap, self._asked)
            self._chunks.clear()  # its status alone says enough
            return False
        if time.monotonic() > self._until:
            raise responses.unavailable(f"the answer was not whole after {self._seconds:g} s", self._asked)
        return True

    def whole(self) -> bytes:
        return bytes(self._chunks)


class _Cursor:
    """Where a listing stands. It ends when a cursor or a page repeats: three providers return page 1 for ever.

    An empty page need not be the last: the gateway pages through one provider key after the other.
    """

    def __init__(self) -> None:
        self.after: str | None = None
        self.done = False
        self._cursors: set[str] = set()
        self._ids: set[str] = set()
        self._empty_pages = 0

    def take(self, page: Page[Any]) -> list[Any]:
        """The page's entries that were not seen before."""
        fresh = [item for item in page.data if item.id not in self._ids]
        self._ids.update(item.id for item in fresh)
        self._empty_pages = 0 if fresh else self._empty_pages + 1
        repeated = page.next_cursor in self._cursors or (page.data and not fresh)
        self.after = page.next_cursor
        self.done = not page.has_more or not self.after or bool(repeated) or self._empty_pages >= MAX_EMPTY_PAGES
        if self.after:
            self._cursors.add(self.after)
        return fresh


def _entries(fetch: Callable[[str | None], Page[Any]]) -> Iterator[Any]:
    cursor = _Cursor()
    while not cursor.done:
        yield from cursor.take(fetch(cursor.after))


async def _aentries(fetch: Callable[[str | None], Awaitable[Page[Any]]]) -> AsyncIterator[Any]:
    cursor = _Cursor()
    while not cursor.done:
        for item in cursor.take(await fetch(cursor.after)):
            yield item
