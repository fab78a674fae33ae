"""The async client: the same calls as :class:`airflow_bifrost.gateway.client.GatewayClient`, awaited.

Its default transport is aiohttp, which needs half the CPU per request and stays fast with thousands of waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import IO, Any, Self, TypeVar

import httpx

from airflow_bifrost import providers
from airflow_bifrost.exceptions import BifrostConfigurationError, BifrostGatewayError
from airflow_bifrost.gateway import calls, responses
from airflow_bifrost.gateway.body import BoundedBody, Chunker, Patience, inflater_of
from airflow_bifrost.gateway.calls import SMALL_ANSWER, Call
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.exchange import GatewayRequest, RawResponse, RequestContext
from airflow_bifrost.gateway.models import Batch, BatchResults, DeletedFile, File, Health, Page
from airflow_bifrost.gateway.pages import AsyncListing
from airflow_bifrost.gateway.responses import RawPage
from airflow_bifrost.gateway.retry import RetryPolicy
from airflow_bifrost.gateway.transport import OnAnswer, Transport, head, network_error, never_connected

R = TypeVar("R")

READ_AT_ONCE = 2**18  # bytes; a larger answer is read in a thread, so that it does not block the event loop


class AsyncGatewayClient:
    """The API, async. See :class:`airflow_bifrost.gateway.client.GatewayClient` for its arguments."""

    def __init__(
        self,
        config: GatewayConfig,
        *,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        on_answer: OnAnswer | None = None,
        renew: Callable[[], Awaitable[GatewayConfig]] | None = None,
        worked_before: bool = False,
    ) -> None:
        self._transport = Transport(config, retry=retry, on_answer=on_answer, worked_before=worked_before)
        self._sleep = sleep
        self._renew = renew
        http, self._faults, self._unsent = _http_client(config.transport)
        self._http = http(transport=transport, **self._transport.http_options())

    @property
    def config(self) -> GatewayConfig:
        """Where the gateway is, and the token that is in use."""
        return self._transport.config

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def get_batch(self, batch_id: str, *, provider: str | None = None) -> Batch:
        """Retrieve one batch."""
        return await self._call(calls.get_batch(batch_id, self._provider(provider)))

    async def get_raw(self, batch_id: str, *, provider: str | None = None) -> dict[str, Any]:
        """:meth:`get_batch`, with nothing checked but the ID and the status: cheap enough for thousands of polls."""
        return await self._call(calls.get_raw(batch_id, self._provider(provider)))

    async def list_page(
        self, *, provider: str | None = None, limit: int | None = None, after: str | None = None
    ) -> Page[Batch]:
        """One page of the batches."""
        return await self._call(calls.list_page(self._provider(provider), limit=limit, after=after))

    async def list_raw(
        self, *, provider: str | None = None, limit: int | None = None, after: str | None = None
    ) -> RawPage:
        """:meth:`list_page`, with nothing checked but IDs and statuses."""
        return await self._call(calls.list_raw(self._provider(provider), limit=limit, after=after))

    def list_batches(self, *, provider: str | None = None, page_size: int = 100) -> AsyncListing[Batch]:
        """All batches, page by page. The listing says at its end whether it is complete."""
        return AsyncListing(
            lambda after: self.list_page(provider=provider, limit=page_size, after=after),
            pages=providers.get(self._provider(provider)).lists_all_pages,
        )

    async def create_batch(
        self,
        *,
        idempotency_key: str,
        input_file_id: str | None = None,
        requests: Sequence[Mapping[str, Any]] | None = None,
        rows: IO[bytes] | None = None,
        endpoint: str | None = None,
        provider: str | None = None,
        completion_window: str | None = None,
        metadata: Mapping[str, str] | None = None,
        model: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> Batch:
        """Create a batch, which costs money. See :func:`airflow_bifrost.gateway.calls.create_batch`."""
        call = calls.create_batch(
            self._provider(provider),
            idempotency_key=idempotency_key,
            input_file_id=input_file_id,
            requests=requests,
            rows=rows,
            endpoint=endpoint,
            completion_window=completion_window,
            metadata=metadata,
            model=model,
            extra_body=extra_body,
        )
        return await self._call(call)

    async def cancel_batch(self, batch_id: str, *, provider: str | None = None) -> Batch:
        """Ask the provider to cancel a batch."""
        return await self._call(calls.cancel_batch(batch_id, self._provider(provider)))

    async def batch_results(self, batch_id: str, *, provider: str | None = None) -> BatchResults:
        """The rows of the native results route, in memory."""
        return await self._call(calls.batch_results(batch_id, self._provider(provider)))

    def results_content(
        self, batch_id: str, *, provider: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The answer of :meth:`batch_results` in chunks as it comes: one JSON object of any size."""
        return self._stream_body(calls.batch_results(batch_id, self._provider(provider)).request)

    async def upload_file(
        self,
        file: IO[bytes],
        *,
        purpose: str,
        idempotency_key: str,
        filename: str | None = None,
        provider: str | None = None,
        extra_form: Mapping[str, str] | None = None,
        on_repeat: Callable[[], None] | None = None,
    ) -> File:
        """Upload an open file, streamed.

        :param on_repeat: called before each retry. The attempt before it may have left a file of this name, which costs nothing.
        """
        call = calls.upload_file(
            self._provider(provider),
            file,
            purpose=purpose,
            idempotency_key=idempotency_key,
            filename=filename,
            extra_form=extra_form,
            on_repeat=on_repeat,
        )
        return await self._call(call)

    async def list_files_page(
        self, *, provider: str | None = None, limit: int | None = None, after: str | None = None
    ) -> Page[File]:
        """One page of the files."""
        return await self._call(calls.list_files_page(self._provider(provider), limit=limit, after=after))

    def list_files(self, *, provider: str | None = None, page_size: int = 100) -> AsyncListing[File]:
        """All files, page by page. The listing says at its end whether it is complete."""
        return AsyncListing(lambda after: self.list_files_page(provider=provider, limit=page_size, after=after))

    async def get_file(self, file_id: str, *, provider: str | None = None) -> File:
        """Retrieve the metadata of a file. Its ``status`` says whether a batch may use it."""
        return await self._call(calls.get_file(file_id, self._provider(provider)))

    async def delete_file(self, file_id: str, *, provider: str | None = None) -> DeletedFile:
        """Delete a file at the provider."""
        return await self._call(calls.delete_file(file_id, self._provider(provider)))

    def file_content(
        self, file_id: str, *, provider: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """A file's content in chunks. The gateway answers only when it has the complete file from the provider."""
        return self._stream_body(calls.file_content(file_id, self._provider(provider)))

    async def download_file(self, file_id: str, file: IO[bytes], *, provider: str | None = None) -> int:
        """Write a file's content to an open file. A download that breaks off starts again.

        :return: its size in bytes.
        """

        async def once(context: RequestContext) -> int:
            file.seek(0)
            file.truncate()
            size = 0
            async with self._content(context) as content:
                async for chunk in content:
                    size += await asyncio.to_thread(file.write, chunk)
            return size

        return await self._attempt(calls.file_content(file_id, self._provider(provider)), once)

    async def health(self) -> Health:
        """The gateway's own health."""
        return await self._call(calls.health())

    async def version(self) -> str | None:
        """The gateway's version; None if it does not report one."""
        return await self._call(calls.version())

    # I/O

    def _provider(self, provider: str | None) -> str:
        return self.config.provider_for(provider)

    async def _call(self, call: Call[R]) -> R:
        async def once(context: RequestContext) -> R:
            answer = await self._answer(call, context)
            if len(answer.body) > READ_AT_ONCE:
                return await asyncio.to_thread(call.parse, answer, context)
            return call.parse(answer, context)

        return await self._attempt(call.request, once, call.on_repeat)

    async def _answer(self, call: Call[Any], context: RequestContext) -> RawResponse:
        """Make a call once, within one limit of time for all of it."""
        patience = self._transport.patience(call.content)
        limit = asyncio.timeout(patience.left)
        try:
            async with limit, self._open(context, call.content, call.filename) as response:
                extend = partial(self._extend, limit, patience) if call.max_bytes > SMALL_ANSWER else None
                body = await self._read(response, context, call.max_bytes, extend)
                return self._transport.answer(response, body, context)
        except TimeoutError:
            failure = patience.ran_out(context)
        raise failure

    @staticmethod
    def _extend(limit: asyncio.Timeout, patience: Patience, size: int) -> None:
        """A part of a large answer has arrived."""
        now = asyncio.get_running_loop().time()
        patience.left = (limit.when() or now) - now
        patience.on_progress(size)
        limit.reschedule(now + patience.left)

    @asynccontextmanager
    async def _stream_body(self, request: GatewayRequest) -> AsyncIterator[AsyncIterator[bytes]]:
        """Opening is retried; an answer that breaks off later is not."""

        async def once(context: RequestContext) -> tuple[AsyncExitStack, AsyncIterator[bytes]]:
            async with AsyncExitStack() as stack:
                content = await stack.enter_async_context(self._content(context))
                return stack.pop_all(), content

        stack, content = await self._attempt(request, once)
        async with stack:
            yield content

    @asynccontextmanager
    async def _content(self, context: RequestContext) -> AsyncIterator[AsyncIterator[bytes]]:
        """The content of a file, in chunks as it comes."""
        patience = self._transport.patience()
        async with AsyncExitStack() as stack:
            response = await self._wait(stack.enter_async_context(self._open(context)), context, patience)
            body = b""
            if response.status_code != 200:
                body = await self._wait(self._read(response, context, SMALL_ANSWER), context, patience)
            responses.check_status(head(response, body), context)
            yield self._chunks(response, context, patience)

    async def _chunks(
        self, response: httpx.Response, context: RequestContext, patience: Patience
    ) -> AsyncIterator[bytes]:
        if (inflater := inflater_of(response, context)) is None:
            return
        chunker = Chunker()
        raw = aiter(response.stream)  # type: ignore[arg-type]
        while (received := await self._wait(anext(raw, None), context, patience)) is not None:
            patience.on_progress(len(received))
            for piece in inflater.feed(received):
                if chunk := chunker.add(piece):
                    yield chunk
        inflater.finish()
        if rest := chunker.rest():
            yield rest

    async def _attempt(
        self,
        request: GatewayRequest,
        once: Callable[[RequestContext], Awaitable[R]],
        on_repeat: Callable[[], None] | None = None,
    ) -> R:
        """Make the call, and retry it until it succeeds or must not be retried."""
        series = self._transport.series(request)
        while True:
            try:
                result = await once(self._transport.context(request))
            except BifrostGatewayError as error:
                if series.wants_new_token(error) and await self._has_new_token(error):
                    continue
                if await self._sleep(series.pause_after(error)) is True:
                    raise
                if on_repeat is not None:
                    on_repeat()
            else:
                self._transport.note_success(request)
                return result

    async def _has_new_token(self, refused: BifrostGatewayError) -> bool:
        """Read the connection again, and use its token from now on."""
        if self._renew is None:
            return False
        try:
            return self._transport.take_token_of(await self._renew())
        except BifrostConfigurationError as error:
            raise refused from error

    @asynccontextmanager
    async def _open(
        self, context: RequestContext, content: IO[bytes] | None = None, filename: str | None = None
    ) -> AsyncIterator[httpx.Response]:
        arguments = self._transport.arguments(context.request, content, filename)
        if "content" in arguments:
            arguments["content"] = _async_chunks(arguments["content"])
        try:
            async with self._http.stream(**arguments) as response:
                yield response
                return
        except self._faults as error:
            failure = network_error(error, context, self._unsent)
        raise failure from None

    async def _read(
        self,
        response: httpx.Response,
        context: RequestContext,
        max_bytes: int,
        on_progress: Callable[[int], None] | None = None,
    ) -> bytes:
        if (inflater := inflater_of(response, context)) is None:
            return b""
        body = BoundedBody(response.status_code, context, max_bytes)
        async for chunk in response.stream:  # type: ignore[union-attr]  # httpx's own iterators inflate without a limit
            if on_progress is not None:
                on_progress(len(chunk))
            for piece in inflater.feed(chunk):
                if not body.take(piece):
                    return body.complete()
        inflater.finish()
        return body.complete()

    async def _wait(self, step: Awaitable[R], context: RequestContext, patience: Patience) -> R:
        """Take a step that waits for the network."""
        began = time.monotonic()
        failure: BifrostGatewayError
        try:
            async with asyncio.timeout(max(0.0, patience.left)):
                return await step
        except TimeoutError:
            failure = patience.ran_out(context)
        except self._faults as error:
            failure = network_error(error, context, self._unsent)
        finally:
            patience.spend(time.monotonic() - began)
        raise failure


async def _async_chunks(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Small pieces of a local file: not worth a thread."""
    for chunk in chunks:
        yield chunk


def _http_client(
    transport: str,
) -> tuple[type[httpx.AsyncClient], tuple[type[Exception], ...], Callable[[Exception], bool]]:
    """httpx's async client with the named transport, the errors that it raises if the network or HTTP fails, and those raised before anything is sent.

    aiohttp is imported only here: a worker may never need it. Not all of its errors arrive as httpx's.
    """
    if transport == "httpx":
        return httpx.AsyncClient, (httpx.HTTPError,), never_connected
    from aiohttp import ClientConnectorError, ClientError, ConnectionTimeoutError

    from airflow_bifrost.gateway.aiohttp_client import CookielessClient

    def unsent(error: Exception) -> bool:
        """httpx-aiohttp turns every broken connection into a ``ConnectTimeout``, so aiohttp's own error decides."""
        cause = error.__cause__ or error
        if isinstance(cause, ClientError):
            return isinstance(cause, ClientConnectorError | ConnectionTimeoutError)
        return never_connected(error)

    return CookielessClient, (httpx.HTTPError, ClientError), unsent
