"""BifrostHook: from an Airflow connection to a client of the gateway."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from airflow.sdk import BaseHook

from airflow_bifrost._compat import async_connection
from airflow_bifrost.exceptions import BifrostConfigurationError
from airflow_bifrost.hooks.check import check
from airflow_bifrost.hooks.connection import config_of, finding_the_connection, ignored_port, naming_the_connection

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_bifrost.gateway.client import AsyncGatewayClient, GatewayClient
    from airflow_bifrost.gateway.config import GatewayConfig
    from airflow_bifrost.gateway.models import Batch, BatchResults, DeletedFile, File
    from airflow_bifrost.gateway.responses import RawResponse
    from airflow_bifrost.gateway.retry import RetryPolicy

DEFAULT_CONN_ID = "bifrost_default"

_told_of: set[str] = set()  # connections whose oddities this process has logged


class BifrostHook(BaseHook):
    """The batch API of a Bifrost gateway, through an Airflow connection of type ``bifrost``.

    Every call exists twice: ``get_batch`` for tasks, and ``aget_batch`` as a coroutine. ``provider`` names the provider; None is
    the connection's. Calls that may be repeated are, for up to a minute, when the gateway does not answer; creating a batch and
    uploading a file never are.

    All calls raise :class:`~airflow_bifrost.exceptions.BifrostError` or one of its kinds, ``ValueError`` for an argument that is
    wrong before anything is sent, and ``OSError`` for a local file that cannot be read or written.

    Use it as a context manager (``with`` or ``async with``) to have its connections closed; it can be used again afterwards. The
    coroutines may be used in one event loop after another; connections are closed in the loop that opened them.

    :param bifrost_conn_id: id of the Airflow connection.
    """

    conn_name_attr = "bifrost_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "bifrost"
    hook_name = "Bifrost"

    def __init__(self, bifrost_conn_id: str = DEFAULT_CONN_ID) -> None:
        super().__init__()
        self.bifrost_conn_id = bifrost_conn_id
        self._client: GatewayClient | None = None
        self._async_client: asyncio.Future[AsyncGatewayClient] | None = None

    # The connection

    def get_config(self) -> GatewayConfig:
        """The connection, read and checked.

        :raises BifrostConfigurationError: it does not exist, or names the field that is wrong.
        """
        with finding_the_connection(self.bifrost_conn_id):
            connection = self.get_connection(self.bifrost_conn_id)
        return self._config_of(connection)

    async def aget_config(self) -> GatewayConfig:
        """:meth:`get_config`, without blocking the event loop."""
        with finding_the_connection(self.bifrost_conn_id):
            connection = await async_connection(self.bifrost_conn_id)
        return self._config_of(connection)

    def _config_of(self, connection: Connection) -> GatewayConfig:
        config = config_of(connection, self.bifrost_conn_id)
        if self.bifrost_conn_id in _told_of:
            return config
        _told_of.add(self.bifrost_conn_id)
        if config.token is None:
            self.log.info("Connection %r has no password: the gateway is asked without a token", self.bifrost_conn_id)
        if port := ignored_port(connection, config):
            self.log.warning(
                "Connection %r has port %s beside the URL in its host; the URL wins: %s",
                self.bifrost_conn_id,
                port,
                config.base_url,
            )
        return config

    def get_conn(self) -> GatewayClient:
        """The sync client, opened when first asked for."""
        if self._client is None:
            self._client = self.open_client()
        return self._client

    def open_client(self, *, retry: RetryPolicy | None = None, timeout: float | None = None) -> GatewayClient:
        """A sync client of your own, to be closed by you.

        :param retry: None: the default policy, up to a minute.
        :param timeout: seconds that one request may take; None: the connection's. For large downloads.
        """
        from airflow_bifrost.gateway.client import GatewayClient
        from airflow_bifrost.gateway.retry import RetryPolicy

        with naming_the_connection(self.bifrost_conn_id):
            config = self.get_config()
            config = config if timeout is None else replace(config, timeout=timeout)
            return GatewayClient(config, retry=retry or RetryPolicy())

    async def aget_conn(self) -> AsyncGatewayClient:
        """The async client of the running event loop, opened when first asked for, once however many ask at the same time."""
        opening = self._opened_in_this_loop()
        if opening is None:
            opening = self._async_client = asyncio.ensure_future(self.aopen_client())
        return await asyncio.shield(opening)

    def _opened_in_this_loop(self) -> asyncio.Future[AsyncGatewayClient] | None:
        opening = self._async_client
        if opening is None or opening.get_loop() is not asyncio.get_running_loop():
            return None  # connections of another loop can neither be used nor closed here
        failed = opening.done() and (opening.cancelled() or opening.exception() is not None)
        return None if failed else opening

    async def aopen_client(
        self,
        *,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - of each request
    ) -> AsyncGatewayClient:
        """See :meth:`open_client`. Made in a thread, because a TLS context takes a while to make."""
        from airflow_bifrost.gateway.client import AsyncGatewayClient
        from airflow_bifrost.gateway.retry import RetryPolicy

        with naming_the_connection(self.bifrost_conn_id):
            config = await self.aget_config()
            config = config if timeout is None else replace(config, timeout=timeout)
            return await asyncio.to_thread(AsyncGatewayClient, config, retry=retry or RetryPolicy())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def close(self) -> None:
        """Close the sync client's connections; the next call opens new ones."""
        if self._client is not None:
            self._client.close()
            self._client = None

    async def aclose(self) -> None:
        """Close the async client's connections; the next call opens new ones."""
        opening, self._async_client = self._opened_in_this_loop(), None
        if opening is not None:
            await (await opening).aclose()

    # Batches

    def get_batch(self, batch_id: str, *, provider: str | None = None) -> Batch:
        """Retrieve one batch."""
        return self.get_conn().get_batch(batch_id, provider=provider)

    async def aget_batch(self, batch_id: str, *, provider: str | None = None) -> Batch:
        """Retrieve one batch."""
        return await (await self.aget_conn()).get_batch(batch_id, provider=provider)

    def list_batches(self, *, provider: str | None = None, limit: int | None = 100) -> list[Batch]:
        """The batches of a provider, as it orders them (newest first).

        :param limit: at most so many; None for all that the gateway lists. Anthropic, Gemini and Bedrock list only their
            first page, whatever is asked.
        """
        client = self.get_conn()
        return _first(limit, client.list_batches(provider=provider, page_size=_page_size(limit)))

    async def alist_batches(self, *, provider: str | None = None, limit: int | None = 100) -> list[Batch]:
        """See :meth:`list_batches`."""
        client = await self.aget_conn()
        return await _afirst(limit, client.list_batches(provider=provider, page_size=_page_size(limit)))

    def create_batch(
        self,
        *,
        input_file_id: str | None = None,
        requests: Sequence[Mapping[str, Any]] | None = None,
        endpoint: str | None = None,
        provider: str | None = None,
        completion_window: str | None = "24h",
        metadata: Mapping[str, str] | None = None,
        model: str | None = None,
        idempotency_key: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> Batch:
        """Create a batch. It costs money, and it is never repeated by this hook.

        :param input_file_id: id of the uploaded JSONL (OpenAI, Azure, Gemini, Bedrock), or
        :param requests: the rows themselves (Anthropic takes only these).
        :param endpoint: e.g. ``/v1/chat/completions``; OpenAI and Azure need it.
        :param model: sent only where the provider needs one (Gemini, Bedrock, Vertex).
        :param idempotency_key: passed on to the provider as ``Idempotency-Key``; made up if None.
        :param extra_body: members of the body that this hook does not know, e.g. ``role_arn`` for Bedrock.
        """
        return self.get_conn().create_batch(
            input_file_id=input_file_id,
            requests=requests,
            endpoint=endpoint,
            provider=provider,
            completion_window=completion_window,
            metadata=metadata,
            model=model,
            idempotency_key=idempotency_key or str(uuid.uuid4()),
            extra_body=extra_body,
        )

    async def acreate_batch(
        self,
        *,
        input_file_id: str | None = None,
        requests: Sequence[Mapping[str, Any]] | None = None,
        endpoint: str | None = None,
        provider: str | None = None,
        completion_window: str | None = "24h",
        metadata: Mapping[str, str] | None = None,
        model: str | None = None,
        idempotency_key: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> Batch:
        """See :meth:`create_batch`."""
        return await (await self.aget_conn()).create_batch(
            input_file_id=input_file_id,
            requests=requests,
            endpoint=endpoint,
            provider=provider,
            completion_window=completion_window,
            metadata=metadata,
            model=model,
            idempotency_key=idempotency_key or str(uuid.uuid4()),
            extra_body=extra_body,
        )

    def cancel_batch(self, batch_id: str, *, provider: str | None = None) -> Batch:
        """Ask the provider to cancel a batch. The answer holds little more than the id and the status ``cancelling``."""
        return self.get_conn().cancel_batch(batch_id, provider=provider)

    async def acancel_batch(self, batch_id: str, *, provider: str | None = None) -> Batch:
        """See :meth:`cancel_batch`."""
        return await (await self.aget_conn()).cancel_batch(batch_id, provider=provider)

    def batch_results(self, batch_id: str, *, provider: str | None = None) -> BatchResults:
        """The rows of the gateway's own results route, in memory. The way to Anthropic's results; for OpenAI and Azure download the
        output and error files instead, which this route does not show in full."""
        return self.get_conn().batch_results(batch_id, provider=provider)

    async def abatch_results(self, batch_id: str, *, provider: str | None = None) -> BatchResults:
        """See :meth:`batch_results`."""
        return await (await self.aget_conn()).batch_results(batch_id, provider=provider)

    # Files

    def upload_file(
        self,
        path: str | os.PathLike[str],
        *,
        purpose: str = "batch",
        provider: str | None = None,
        idempotency_key: str | None = None,
        extra_form: Mapping[str, str] | None = None,
    ) -> File:
        """Upload a file from disk, streamed.

        :param extra_form: form fields that this hook does not know; Bedrock needs ``storage_config[s3][bucket]``.
        """
        with open(path, "rb") as file:
            return self.get_conn().upload_file(
                file,
                filename=os.path.basename(path),
                provider=provider,
                purpose=purpose,
                idempotency_key=idempotency_key or str(uuid.uuid4()),
                extra_form=extra_form,
            )

    async def aupload_file(
        self,
        path: str | os.PathLike[str],
        *,
        purpose: str = "batch",
        provider: str | None = None,
        idempotency_key: str | None = None,
        extra_form: Mapping[str, str] | None = None,
    ) -> File:
        """See :meth:`upload_file`."""
        client = await self.aget_conn()
        with open(path, "rb") as file:  # noqa: ASYNC230 - httpx reads it in small pieces
            return await client.upload_file(
                file,
                filename=os.path.basename(path),
                provider=provider,
                purpose=purpose,
                idempotency_key=idempotency_key or str(uuid.uuid4()),
                extra_form=extra_form,
            )

    def list_files(self, *, provider: str | None = None, limit: int | None = 100) -> list[File]:
        """The files of a provider; ``limit`` as in :meth:`list_batches`."""
        return _first(limit, self.get_conn().list_files(provider=provider, page_size=_page_size(limit)))

    async def alist_files(self, *, provider: str | None = None, limit: int | None = 100) -> list[File]:
        """See :meth:`list_files`."""
        client = await self.aget_conn()
        return await _afirst(limit, client.list_files(provider=provider, page_size=_page_size(limit)))

    def get_file(self, file_id: str, *, provider: str | None = None) -> File:
        """What is known of a file; :meth:`download_file` brings its content."""
        return self.get_conn().get_file(file_id, provider=provider)

    async def aget_file(self, file_id: str, *, provider: str | None = None) -> File:
        """See :meth:`get_file`."""
        return await (await self.aget_conn()).get_file(file_id, provider=provider)

    def delete_file(self, file_id: str, *, provider: str | None = None) -> DeletedFile:
        """Delete a file at the provider."""
        return self.get_conn().delete_file(file_id, provider=provider)

    async def adelete_file(self, file_id: str, *, provider: str | None = None) -> DeletedFile:
        """See :meth:`delete_file`."""
        return await (await self.aget_conn()).delete_file(file_id, provider=provider)

    def download_file(self, file_id: str, path: str | os.PathLike[str], *, provider: str | None = None) -> int:
        """Stream a file's content to ``path``, which appears only when it is whole. One that breaks off is not begun again.

        :return: its size in bytes.
        """
        with (
            self.get_conn().file_content(file_id, provider=provider) as chunks,
            _whole_file(Path(path)) as file,
        ):
            return sum(file.write(chunk) for chunk in chunks)

    async def adownload_file(self, file_id: str, path: str | os.PathLike[str], *, provider: str | None = None) -> int:
        """See :meth:`download_file`. Writes in a thread."""
        client = await self.aget_conn()
        size = 0
        async with client.file_content(file_id, provider=provider) as chunks:
            with _whole_file(Path(path)) as file:
                async for chunk in chunks:
                    size += await asyncio.to_thread(file.write, chunk)
        return size

    @contextmanager
    def file_content(self, file_id: str, *, provider: str | None = None) -> Iterator[Iterator[bytes]]:
        """A file's content in chunks of bytes: ``with hook.file_content(id) as chunks: ...``"""
        with self.get_conn().file_content(file_id, provider=provider) as chunks:
            yield chunks

    @asynccontextmanager
    async def afile_content(self, file_id: str, *, provider: str | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        """See :meth:`file_content`."""
        async with (await self.aget_conn()).file_content(file_id, provider=provider) as chunks:
            yield chunks

    # The form and its test button

    def test_connection(self) -> tuple[bool, str]:
        """Ask the gateway for one batch of the connection's provider, and say which thing is wrong if that fails."""
        try:
            return self._check(self.get_config())
        except BifrostConfigurationError as error:
            return False, str(error)

    async def atest_connection(self) -> tuple[bool, str]:
        """See :meth:`test_connection`."""
        try:
            return await asyncio.to_thread(self._check, await self.aget_config())
        except BifrostConfigurationError as error:
            return False, str(error)

    def _check(self, config: GatewayConfig) -> tuple[bool, str]:
        from airflow_bifrost.gateway.client import GatewayClient
        from airflow_bifrost.gateway.retry import NO_RETRY

        answers: list[RawResponse] = []
        with naming_the_connection(self.bifrost_conn_id):
            client = GatewayClient(config, retry=NO_RETRY, on_answer=lambda _, answer: answers.append(answer))
        with client:
            return check(client, answers)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """The standard fields of the form, for Airflow 3.1; later ones read them from the provider's metadata."""
        from airflow_bifrost.provider_info import UI_FIELD_BEHAVIOUR

        return {key.replace("-", "_"): value for key, value in UI_FIELD_BEHAVIOUR.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The extra fields of the form, for Airflow 3.1; later ones read them from the provider's metadata."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget  # type: ignore[import-not-found]
        from flask_babel import lazy_gettext  # type: ignore[import-not-found]
        from wtforms import IntegerField, StringField  # type: ignore[import-untyped]

        from airflow_bifrost.provider_info import CONN_FIELDS

        return {
            name: (IntegerField if field["schema"]["type"][0] == "integer" else StringField)(
                lazy_gettext(field["label"]), widget=BS3TextFieldWidget(), description=field["description"]
            )
            for name, field in CONN_FIELDS.items()
        }


def _page_size(limit: int | None) -> int:
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be 1 or more, or None for all, not {limit}")
    return min(limit or 100, 100)


def _first(limit: int | None, items: Iterator[Any]) -> list[Any]:
    taken = []
    for item in items:
        taken.append(item)
        if limit is not None and len(taken) >= limit:
            break
    return taken


async def _afirst(limit: int | None, items: AsyncIterator[Any]) -> list[Any]:
    taken = []
    async for item in items:
        taken.append(item)
        if limit is not None and len(taken) >= limit:
            break
    return taken


@contextmanager
def _whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name only when it was written to the end."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with open(part, "wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
