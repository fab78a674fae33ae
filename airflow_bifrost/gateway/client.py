"""The sync client: it performs the calls that :mod:`airflow_bifrost.gateway.calls` defines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import IO, Any, Self, TypeVar

import httpx

from airflow_bifrost import providers
from airflow_bifrost.exceptions import BifrostConfigurationError, BifrostGatewayError
from airflow_bifrost.gateway import calls, responses
from airflow_bifrost.gateway.body import BoundedBody, Chunker, Patience, inflater_of
from airflow_bifrost.gateway.calls import SMALL_ANSWER, Call
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.deadline import LimitedClient, deadline
from airflow_bifrost.gateway.exchange import GatewayRequest, RequestContext
from airflow_bifrost.gateway.models import Batch, BatchResults, DeletedFile, File, Health, Page
from airflow_bifrost.gateway.pages import Listing
from airflow_bifrost.gateway.responses import RawPage
from airflow_bifrost.gateway.retry import RetryPolicy
from airflow_bifrost.gateway.transport import OnAnswer, Transport, head, network_error

R = TypeVar("R")


class GatewayClient:
    """The API, sync. One connection pool; use it as a context manager, or call :meth:`close`.

    Every call raises :class:`~airflow_bifrost.exceptions.BifrostGatewayError` or one of its subclasses, and ``ValueError`` for arguments
    that are never sent. ``provider`` is the model provider; None is the connection's.

    :param retry: how long calls are retried. All calls are, except a create that may have reached the provider.
    :param transport: carries the requests instead of httpx's own transport.
    :param sleep: waits for so many seconds. If it returns True, there is no further attempt, and the last error is raised:
        ``threading.Event().wait`` makes a client that can be stopped.
    :param on_answer: called with each request and its complete, unparsed answer, including errors; not by
        :meth:`file_content` and :meth:`results_content`, which stream.
    :param renew: reads the connection again. A call that the gateway refuses with 401 or 403 is repeated once if the token has changed.
    :param worked_before: whether the gateway is known to have answered through this connection, as after a wait. If so, every network
        error and every answer that is not what the API promises is retried, as after a first success of this client.
    """

    def __init__(
        self,
        config: GatewayConfig,
        *,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], object] = time.sleep,
        on_answer: OnAnswer | None = None,
        renew: Callable[[], GatewayConfig] | None = None,
        worked_before: bool = False,
    ) -> None:
        self._transport = Transport(config, retry=retry, on_answer=on_answer, worked_before=worked_before)
        self._sleep = sleep
        self._renew = renew
        self._http = LimitedClient(transport=transport, **self._transport.http_options())

    @property
    def config(self) -> GatewayConfig:
        """Where the gateway is, and the token that is in use."""
        return self._transport.config

    @property
    def clock_offset(self) -> float | None:
        """Seconds by which the gateway's clock is ahead of this machine's, by its last answer; None if no answer has said so."""
        return self._transport.clock_offset

    @property
    def key_id(self) -> str:
        """The fingerprint of the token in use, see :attr:`GatewayConfig.key_id`."""
        return self.config.key_id

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get_batch(self, batch_id: str, *, provider: str | None = None) -> Batch:
        """Retrieve one batch."""
        return self._call(calls.get_batch(batch_id, self._provider(provider)))

    def get_raw(self, batch_id: str, *, provider: str | None = None) -> dict[str, Any]:
        """:meth:`get_batch`, with nothing checked but the ID and the status: cheap enough for thousands of polls."""
        return self._call(calls.get_raw(batch_id, self._provider(provider)))

    def list_page(
        self, *, provider: str | None = None, limit: int | None = None, after: str | None = None
    ) -> Page[Batch]:
        """One page of the batches."""
        return self._call(calls.list_page(self._provider(provider), limit=limit, after=after))

    def list_raw(self, *, provider: str | None = None, limit: int | None = None, after: str | None = None) -> RawPage:
        """:meth:`list_page`, with nothing checked but IDs and statuses."""
        return self._call(calls.list_raw(self._provider(provider), limit=limit, after=after))

    def list_batches(self, *, provider: str | None = None, page_size: int = 100) -> Listing[Batch]:
        """All batches, page by page. The listing says at its end whether it is complete."""
        return Listing(
            lambda after: self.list_page(provider=provider, limit=page_size, after=after),
            pages=providers.get(self._provider(provider)).lists_all_pages,
        )

    def create_batch(
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
        return self._call(call)

    def cancel_batch(self, batch_id: str, *, provider: str | None = None) -> Batch:
        """Ask the provider to cancel a batch."""
        return self._call(calls.cancel_batch(batch_id, self._provider(provider)))

    def batch_results(self, batch_id: str, *, provider: str | None = None) -> BatchResults:
        """The rows of the native results route, in memory."""
        return self._call(calls.batch_results(batch_id, self._provider(provider)))

    def results_content(self, batch_id: str, *, provider: str | None = None) -> AbstractContextManager[Iterator[bytes]]:
        """The answer of :meth:`batch_results` in chunks as it comes: one JSON object of any size."""
        return self._stream_body(calls.batch_results(batch_id, self._provider(provider)).request)

    def upload_file(
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
        return self._call(call)

    def list_files_page(
        self, *, provider: str | None = None, limit: int | None = None, after: str | None = None
    ) -> Page[File]:
        """One page of the files."""
        return self._call(calls.list_files_page(self._provider(provider), limit=limit, after=after))

    def list_files(self, *, provider: str | None = None, page_size: int = 100) -> Listing[File]:
        """All files, page by page. The listing says at its end whether it is complete."""
        return Listing(lambda after: self.list_files_page(provider=provider, limit=page_size, after=after))

    def get_file(self, file_id: str, *, provider: str | None = None) -> File:
        """Retrieve the metadata of a file. Its ``status`` says whether a batch may use it."""
        return self._call(calls.get_file(file_id, self._provider(provider)))

    def delete_file(self, file_id: str, *, provider: str | None = None) -> DeletedFile:
        """Delete a file at the provider."""
        return self._call(calls.delete_file(file_id, self._provider(provider)))

    def file_content(self, file_id: str, *, provider: str | None = None) -> AbstractContextManager[Iterator[bytes]]:
        """A file's content in chunks. The gateway answers only when it has the complete file from the provider."""
        return self._stream_body(calls.file_content(file_id, self._provider(provider)))

    def download_file(self, file_id: str, file: IO[bytes], *, provider: str | None = None) -> int:
        """Write a file's content to an open file. A download that breaks off starts again.

        :return: its size in bytes.
        """

        def once(context: RequestContext) -> int:
            file.seek(0)
            file.truncate()
            with self._content(context) as content:
                return sum(map(file.write, content))

        return self._attempt(calls.file_content(file_id, self._provider(provider)), once)

    def health(self) -> Health:
        """The gateway's own health."""
        return self._call(calls.health())

    def version(self) -> str | None:
        """The gateway's version; None if it does not report one."""
        return self._call(calls.version())

    # I/O

    def _provider(self, provider: str | None) -> str:
        return self.config.provider_for(provider)

    def _call(self, call: Call[R]) -> R:
        def once(context: RequestContext) -> R:
            patience = self._transport.patience(call.content)
            with self._open(context, patience, call.content, call.filename) as response:
                body = self._read(response, context, patience, call.max_bytes)
            return call.parse(self._transport.answer(response, body, context), context)

        return self._attempt(call.request, once, call.on_repeat)

    @contextmanager
    def _stream_body(self, request: GatewayRequest) -> Iterator[Iterator[bytes]]:
        """Opening is retried; an answer that breaks off later is not."""

        def once(context: RequestContext) -> tuple[ExitStack, Iterator[bytes]]:
            with ExitStack() as stack:
                content = stack.enter_context(self._content(context))
                return stack.pop_all(), content

        stack, content = self._attempt(request, once)
        with stack:
            yield content

    @contextmanager
    def _content(self, context: RequestContext) -> Iterator[Iterator[bytes]]:
        """The content of a file, in chunks as it comes."""
        patience = self._transport.patience()
        with self._open(context, patience) as response:
            body = b""
            if response.status_code != 200:
                body = self._read(response, context, patience, SMALL_ANSWER)
            responses.check_status(head(response, body), context)
            yield self._chunks(response, context, patience)

    def _chunks(self, response: httpx.Response, context: RequestContext, patience: Patience) -> Iterator[bytes]:
        chunker = Chunker()
        for piece in self._pieces(response, context, patience, by_progress=True):
            if chunk := chunker.add(piece):
                yield chunk
        if rest := chunker.rest():
            yield rest

    def _attempt(
        self,
        request: GatewayRequest,
        once: Callable[[RequestContext], R],
        on_repeat: Callable[[], None] | None = None,
    ) -> R:
        """Make the call, and retry it until it succeeds or must not be retried."""
        series = self._transport.series(request)
        while True:
            try:
                result = once(self._transport.context(request))
            except BifrostGatewayError as error:
                if series.wants_new_token(error) and self._has_new_token(error):
                    continue
                if self._sleep(series.pause_after(error)) is True:
                    raise
                if on_repeat is not None:
                    on_repeat()
            else:
                self._transport.note_success(request)
                return result

    def _has_new_token(self, refused: BifrostGatewayError) -> bool:
        """Read the connection again, and use its token from now on."""
        if self._renew is None:
            return False
        try:
            return self._transport.take_token_of(self._renew())
        except BifrostConfigurationError as error:
            raise refused from error

    @contextmanager
    def _open(
        self, context: RequestContext, patience: Patience, content: IO[bytes] | None = None, filename: str | None = None
    ) -> Iterator[httpx.Response]:
        with ExitStack() as stack:
            stream = self._http.stream(**self._transport.arguments(context.request, content, filename))
            response = self._wait(partial(stack.enter_context, stream), context, patience)
            self._transport.note_date(response)
            yield response

    def _read(self, response: httpx.Response, context: RequestContext, patience: Patience, max_bytes: int) -> bytes:
        body = BoundedBody(response.status_code, context, max_bytes)
        for piece in self._pieces(response, context, patience, by_progress=max_bytes > SMALL_ANSWER):
            if not body.take(piece):
                break
        return body.complete()

    def _pieces(
        self, response: httpx.Response, context: RequestContext, patience: Patience, *, by_progress: bool
    ) -> Iterator[bytes]:
        inflater = inflater_of(response, context)
        if inflater is None:
            return
        chunks = iter(response.stream)  # type: ignore[arg-type]  # httpx's own iterators inflate without a limit
        while (chunk := self._wait(lambda: next(chunks, None), context, patience)) is not None:
            if by_progress:
                patience.on_progress(len(chunk))
            yield from inflater.feed(chunk)
        inflater.finish()

    def _wait(self, step: Callable[[], R], context: RequestContext, patience: Patience) -> R:
        """Take a step that waits for the network."""
        began = time.monotonic()
        try:
            with deadline(patience.left):
                return step()
        except httpx.HTTPError as error:
            failure = network_error(error, context)
            timed_out = isinstance(error, httpx.TimeoutException)
        finally:
            patience.spend(time.monotonic() - began)
        raise patience.ran_out(context) if timed_out and patience.left <= 0 else failure
