"""The calls of the hook, async: those of :mod:`airflow_bifrost.hooks.sync_calls` as coroutines, with the prefix ``a``."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from airflow_bifrost.hooks.local_files import afirst_of, page_size, whole_file

if TYPE_CHECKING:
    from airflow_bifrost.gateway.async_client import AsyncGatewayClient
    from airflow_bifrost.gateway.models import Batch, BatchResults, DeletedFile, File, Health, Page
    from airflow_bifrost.gateway.responses import RawPage


class AsyncCalls:
    """The calls for coroutines. See :class:`airflow_bifrost.hooks.sync_calls.SyncCalls`."""

    def _aclient(self) -> AbstractAsyncContextManager[AsyncGatewayClient]:
        """The client for one call."""
        raise NotImplementedError

    # Batches

    async def aget_batch(self, batch_id: str, *, provider: str | None = None) -> Batch:
        """See :meth:`~airflow_bifrost.hooks.sync_calls.SyncCalls.get_batch`."""
        async with self._aclient() as client:
            return await client.get_batch(batch_id, provider=provider)

    async def aget_raw(self, batch_id: str, *, provider: str | None = None) -> dict[str, Any]:
        """See :meth:`~airflow_bifrost.hooks.sync_calls.SyncCalls.get_raw`."""
        async with self._aclient() as client:
            return await client.get_raw(batch_id, provider=provider)

    async def alist_batches(self, *, provider: str | None = None, limit: int | None = 100) -> list[Batch]:
        """See :meth:`~airflow_bifrost.hooks.sync_calls.SyncCalls.list_batches`."""
        async with self._aclient() as client:
            return await afirst_of(limit, client.list_batches(provider=provider, page_size=page_size(limit)))

    async def alist_page(
        self, *, provider: str | None = None, limit: int | None = None, after: str | None = None
    ) -> Page[Batch]:
        """See :meth:`~airflow_bifrost.hooks.sync_calls.SyncCalls.list_page`."""
        async with self._aclient() as client:
            return await client.list_page(provider=provider, limit=limit, after=after)

    async def alist_raw(
        self, *, provider: str | None = None, limit: int | None = None, after: str | None = None
    ) -> RawPage:
        """See :meth:`~airflow_bifrost.hooks.sync_calls.SyncCalls.list_raw`."""
        async with self._aclient() as client:
            return await client.list_raw(provider=provider, limit=limit, after=after)

    async def acreate_batch(
        self,
        *,
        input_file_id: str | None = None,
        requests: Sequence[Mapping[str, Any]] | None = None,
        rows: IO[bytes] | None = None,
        endpoint: str | None = None,
        provider: str | None = None,
        completion_window: str | None = "24h",
        metadata: Mapping[str, str] | None = None,
        model: str | None = None,
        idempotency_key: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> Batch:
        """See :meth:`~airflow_bifrost.hooks.sync_calls.SyncCalls.create_batch`."""
        async with self._aclient() as client:
            return await client.create_batch(
                input_file_id=input_file_id,
                requests=requests,
                rows=rows,
                endpoint=endpoint,
                provider=provider,
                completion_window=completion_window,
                metadata=metadata,
                model=model,
                idempotency_key=idempotency_key or str(uuid.uuid4()),
                extra_body=extra_body,
            )

    async def acancel_batch(self, batch_id: str, *, provider: str | None = None) -> Batch:
        """See :meth:`~airflow_bifrost.hooks.sync_calls.SyncCalls.cancel_batch`."""
        async with self._aclient() as client:
            return await client.cancel_batch(batch_id, provider=provider)

    async def abatch_results(self, batch_id: str, *, provider: str | None = None) -> BatchResults:
        """See :meth:`~airflow_bifrost.hooks.sync_calls.SyncCalls.batch_results`."""
        async with self._aclient() as client:
            return await client.batch_results(batch_id, provider=provider)

    @asynccontextmanager
    async def aresults_content(
        self, batch_id: str, *, provider: str | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """See :meth:`~airflow_bifrost.hooks.sync_calls.SyncCalls.results_content`."""
        async with self._aclient() as client, client.results_content(batch_id, provider=provider) as chunks:
            yield chunks

    # Files

    async def aupload_file(
        self,
        path: str | os.PathLike[str],
        *,
        purpose: str = "batch",
        provider: str | None = None,
        filename: str | None = None,
        idempotency_key: str | None = None,
        extra_form: Mapping[str, str] | None = None,
        on_repeat: Callable[[], None] | None = None,
    ) -> File:
        """See :meth:`~airflow_bifrost.hooks.sync_calls.SyncCalls.upload_file`."""
        with open(path, "rb") as file:  # noqa: ASYNC230 - httpx reads it in small pieces
            async with self._aclient() as client:
                return await client.upload_file(
                    file,
                    filename=filename or os.path.basename(path),
                    provider=provider,
                    purpose=purpose,
                    idempotency_key=idempotency_key or str(uuid.uuid4()),
                    extra_form=extra_form,
                    on_repeat=on_repeat,
                )

    async def alist_files(self, *, provider: str | None = None, limit: int | None = 100) -> list[File]:
        """See :meth:`~airflow_bifrost.hooks.sync_calls.SyncCalls.list_files`."""
        async with self._aclient() as client:
            return await afirst_of(limit, client.list_files(provider=provider, page_size=page_size(limit)))

    async def alist_files_page(
        self, *, provider: str | None = None, limit: int | None = None, after: str | None = None
    ) -> Page[File]:
        """See :meth:`~airflow_bifrost.hooks.sync_calls.SyncCalls.list_files_page`."""
        async with self._aclient() as client:
            return await client.list_files_page(provider=provider, limit=limit, after=after)

    async def aget_file(self, file_id: str, *, provider: str | None = None) -> File:
        """See :meth:`~airflow_bifrost.hooks.sync_calls.SyncCalls.get_file`."""
        async with self._aclient() as client:
            return await client.get_file(file_id, provider=provider)

    async def adelete_file(self, file_id: str, *, provider: str | None = None) -> DeletedFile:
        """See :meth:`~airflow_bifrost.hooks.sync_calls.SyncCalls.delete_file`."""
        async with self._aclient() as client:
            return await client.delete_file(file_id, provider=provider)

    async def adownload_file(self, file_id: str, path: str | os.PathLike[str], *, provider: str | None = None) -> int:
        """See :meth:`~airflow_bifrost.hooks.sync_calls.SyncCalls.download_file`."""
        with whole_file(Path(path)) as file:
            async with self._aclient() as client:
                return await client.download_file(file_id, file, provider=provider)

    @asynccontextmanager
    async def afile_content(self, file_id: str, *, provider: str | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        """See :meth:`~airflow_bifrost.hooks.sync_calls.SyncCalls.file_content`."""
        async with self._aclient() as client, client.file_content(file_id, provider=provider) as chunks:
            yield chunks

    # The gateway

    async def ahealth(self) -> Health:
        """See :meth:`~airflow_bifrost.hooks.sync_calls.SyncCalls.health`."""
        async with self._aclient() as client:
            return await client.health()

    async def aversion(self) -> str | None:
        """See :meth:`~airflow_bifrost.hooks.sync_calls.SyncCalls.version`."""
        async with self._aclient() as client:
            return await client.version()
