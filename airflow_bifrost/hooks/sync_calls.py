"""The calls of the hook, sync: each is one call of the client. :class:`airflow_bifrost.hooks.bifrost.BifrostHook` has them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from airflow_bifrost.hooks.local_files import first_of, page_size, whole_file

if TYPE_CHECKING:
    from airflow_bifrost.gateway.client import GatewayClient
    from airflow_bifrost.gateway.models import Batch, BatchResults, DeletedFile, File, Health, Page
    from airflow_bifrost.gateway.responses import RawPage


class SyncCalls:
    """The sync calls. Those of :class:`airflow_bifrost.hooks.async_calls.AsyncCalls` have the same names with the prefix ``a``."""

    def get_conn(self) -> GatewayClient:
        raise NotImplementedError

    # Batches

    def get_batch(self, batch_id: str, *, provider: str | None = None) -> Batch:
        """Retrieve one batch."""
        return self.get_conn().get_batch(batch_id, provider=provider)

    def get_raw(self, batch_id: str, *, provider: str | None = None) -> dict[str, Any]:
        """Retrieve one batch as the gateway's JSON, with nothing checked but the ID and the status."""
        return self.get_conn().get_raw(batch_id, provider=provider)

    def list_batches(self, *, provider: str | None = None, limit: int | None = 100) -> list[Batch]:
        """The batches of a provider, in its order (newest first).

        :param limit: maximum number of batches; None for all that the gateway lists. For Anthropic, Gemini and Bedrock, the gateway lists
            only the first page. If the list was cut short, the log says so.
        """
        listing = self.get_conn().list_batches(provider=provider, page_size=page_size(limit))
        return first_of(limit, listing)

    def list_page(
        self, *, provider: str | None = None, limit: int | None = None, after: str | None = None
    ) -> Page[Batch]:
        """One page of the batches.

        :param limit: size of the page.
        :param after: ``next_cursor`` of the previous page.
        """
        return self.get_conn().list_page(provider=provider, limit=limit, after=after)

    def list_raw(self, *, provider: str | None = None, limit: int | None = None, after: str | None = None) -> RawPage:
        """One page of the batches as the gateway's JSON, with nothing checked but IDs and statuses."""
        return self.get_conn().list_raw(provider=provider, limit=limit, after=after)

    def create_batch(
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
        """Create a batch. It costs money, so it is retried only if it certainly did not reach the provider.

        Give one of ``input_file_id``, ``requests`` and ``rows``.

        :param input_file_id: ID of the uploaded JSONL file (OpenAI, Azure, Gemini, Bedrock, Vertex).
        :param requests: the rows themselves (Anthropic takes only these).
        :param rows: the rows as an open JSONL file, streamed.
        :param endpoint: e.g. ``/v1/chat/completions``; OpenAI and Azure need it.
        :param model: sent only if the provider needs one (Gemini, Bedrock, Vertex).
        :param idempotency_key: passed on to the provider as ``Idempotency-Key``; None: a new one.
        :param extra_body: members of the body that this hook does not know, e.g. ``role_arn`` for Bedrock.
        """
        return self.get_conn().create_batch(
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

    def cancel_batch(self, batch_id: str, *, provider: str | None = None) -> Batch:
        """Ask the provider to cancel a batch. The answer has little more than the ID and the status ``cancelling``."""
        return self.get_conn().cancel_batch(batch_id, provider=provider)

    def batch_results(self, batch_id: str, *, provider: str | None = None) -> BatchResults:
        """The rows of the gateway's native results route, in memory.

        Use it for Anthropic. For OpenAI and Azure, download the output and error files instead, because the route omits failed rows.
        """
        return self.get_conn().batch_results(batch_id, provider=provider)

    def results_content(self, batch_id: str, *, provider: str | None = None) -> AbstractContextManager[Iterator[bytes]]:
        """The answer of :meth:`batch_results` in chunks of bytes: one JSON object of any size."""
        return self.get_conn().results_content(batch_id, provider=provider)

    # Files

    def upload_file(
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
        """Upload a file from disk, streamed. It is retried; a lost answer leaves a second file, which costs nothing.

        :param filename: its name at the provider; None: that of ``path``.
        :param extra_form: form fields that this hook does not know; Bedrock needs ``storage_config[s3][bucket]``.
        :param on_repeat: called before each retry.
        """
        with open(path, "rb") as file:
            return self.get_conn().upload_file(
                file,
                filename=filename or os.path.basename(path),
                provider=provider,
                purpose=purpose,
                idempotency_key=idempotency_key or str(uuid.uuid4()),
                extra_form=extra_form,
                on_repeat=on_repeat,
            )

    def list_files(self, *, provider: str | None = None, limit: int | None = 100) -> list[File]:
        """The files of a provider; ``limit`` as in :meth:`list_batches`."""
        return first_of(limit, self.get_conn().list_files(provider=provider, page_size=page_size(limit)))

    def list_files_page(
        self, *, provider: str | None = None, limit: int | None = None, after: str | None = None
    ) -> Page[File]:
        """One page of the files; see :meth:`list_page`."""
        return self.get_conn().list_files_page(provider=provider, limit=limit, after=after)

    def get_file(self, file_id: str, *, provider: str | None = None) -> File:
        """Retrieve the metadata of a file. :meth:`download_file` downloads its content."""
        return self.get_conn().get_file(file_id, provider=provider)

    def delete_file(self, file_id: str, *, provider: str | None = None) -> DeletedFile:
        """Delete a file at the provider."""
        return self.get_conn().delete_file(file_id, provider=provider)

    def download_file(self, file_id: str, path: str | os.PathLike[str], *, provider: str | None = None) -> int:
        """Stream a file's content to ``path``, which appears only when it is complete. A download that breaks off starts again.

        :return: its size in bytes.
        """
        with whole_file(Path(path)) as file:
            return self.get_conn().download_file(file_id, file, provider=provider)

    def file_content(self, file_id: str, *, provider: str | None = None) -> AbstractContextManager[Iterator[bytes]]:
        """A file's content in chunks of bytes: ``with hook.file_content(id) as chunks: ...``"""
        return self.get_conn().file_content(file_id, provider=provider)

    # The gateway

    def health(self) -> Health:
        """The gateway's own health."""
        return self.get_conn().health()

    def version(self) -> str | None:
        """The gateway's version; None if it does not report one."""
        return self.get_conn().version()
