"""BifrostHook: from an Airflow connection to a client of the gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

from airflow.sdk import BaseHook

from airflow_bifrost._compat import async_connection
from airflow_bifrost.exceptions import BifrostConfigurationError
from airflow_bifrost.hooks.async_calls import AsyncCalls
from airflow_bifrost.hooks.connection_errors import finding_the_connection
from airflow_bifrost.hooks.sync_calls import SyncCalls
from airflow_bifrost.provider_info import CONN_FIELDS, UI_FIELD_BEHAVIOUR

# A DAG file may import the hook, and must not load the client (httpx, pydantic) with it. So ``hooks.clients`` and ``hooks.check`` are
# imported where they are used, and the client's types only for type checkers.
if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_bifrost.gateway.async_client import AsyncGatewayClient
    from airflow_bifrost.gateway.client import GatewayClient
    from airflow_bifrost.gateway.config import GatewayConfig
    from airflow_bifrost.gateway.retry import RetryPolicy

DEFAULT_CONN_ID = "bifrost_default"


class BifrostHook(SyncCalls, AsyncCalls, BaseHook):
    """The batch API of a Bifrost gateway, through an Airflow connection of type ``bifrost``.

    Every call exists twice: ``get_batch`` for tasks, and ``aget_batch`` as a coroutine. ``provider`` names the model provider; None is the
    connection's. If the gateway does not answer, a call is retried for up to five minutes (``retry_budget``). Creating a batch is retried
    only if the request certainly did not reach the provider.

    All calls raise :class:`~airflow_bifrost.exceptions.BifrostError` or one of its subclasses, ``ValueError`` for an argument that is
    wrong before anything is sent, and ``OSError`` for a local file that cannot be read or written.

    The hook picks up a rotated token: if the gateway refuses a call with 401 or 403, the hook reads the connection again.

    Use the hook as a context manager (``with`` or ``async with``) for several calls: it keeps its connections, and closes them at the end. It can
    be used again afterwards. A coroutine outside of ``async with`` opens a connection and closes it. The coroutines may be used in one event
    loop after another; connections are closed in the loop that opened them.

    :param bifrost_conn_id: ID of the Airflow connection.
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
        self._entered = 0  # how many ``async with`` are open

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
        from airflow_bifrost.hooks.clients import checked_config

        return checked_config(connection, self.bifrost_conn_id, self.log)

    # The clients

    def get_conn(self) -> GatewayClient:
        """The sync client, opened by the first call."""
        if self._client is None:
            self._client = self.open_client()
        return self._client

    def open_client(
        self,
        *,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        sleep: Callable[[float], object] = time.sleep,
        worked_before: bool = False,
    ) -> GatewayClient:
        """A new sync client, which the caller closes.

        :param retry: None: the connection's ``retry_budget``, by default five minutes.
        :param timeout: seconds that one request may take, e.g. for large downloads; None: the connection's.
        :param sleep: waits for so many seconds before a retry. If it returns True, there is no further attempt, and the last error is
            raised: ``threading.Event().wait`` makes a client that can be stopped.
        :param worked_before: whether the gateway has answered through this connection before, as after a wait. If so, an answer that is
            not what the API promises is retried, too.
        """
        from airflow_bifrost.hooks.clients import open_client

        return open_client(self.get_config, retry, timeout, sleep, worked_before)

    async def aget_conn(self) -> AsyncGatewayClient:
        """The async client of the running event loop, opened by the first call, and only once even if several call at the same time.

        :meth:`aclose` or the end of ``async with`` closes it.
        """
        opening = self._opened_in_this_loop()
        if opening is None:
            opening = self._async_client = asyncio.ensure_future(self.aopen_client())
        return await asyncio.shield(opening)

    @asynccontextmanager
    async def _aclient(self) -> AsyncIterator[AsyncGatewayClient]:
        """The client that the hook keeps, or one for this call only: nobody closes the hook of a one-off call."""
        if self._entered or self._opened_in_this_loop() is not None:
            yield await self.aget_conn()
            return
        async with await self.aopen_client() as client:
            yield client

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
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        worked_before: bool = False,
    ) -> AsyncGatewayClient:
        """See :meth:`open_client`. The client is created in a thread, because creating a TLS context is slow."""
        from airflow_bifrost.hooks.clients import aopen_client

        return await aopen_client(self.aget_config, retry, timeout, sleep, worked_before)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self._entered += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._entered -= 1
        if not self._entered:
            await self.aclose()

    def close(self) -> None:
        """Close the sync client's connections. The next call opens new ones."""
        if self._client is not None:
            self._client.close()
            self._client = None

    async def aclose(self) -> None:
        """Close the async client's connections. The next call opens new ones."""
        opening, self._async_client = self._opened_in_this_loop(), None
        if opening is not None:
            await (await opening).aclose()

    # The form and its test button

    def test_connection(self) -> tuple[bool, str]:
        """Ask the gateway for one batch of the connection's provider, and say what is wrong if that fails."""
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
        from airflow_bifrost.hooks.check import check_connection

        return check_connection(config)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """The standard fields of the form, for Airflow 3.1; later versions read them from the provider's metadata."""
        return {key.replace("-", "_"): value for key, value in UI_FIELD_BEHAVIOUR.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The extra fields of the form, for Airflow 3.1; later versions read them from the provider's metadata."""
        # Only Airflow's API server has these
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget  # type: ignore[import-not-found]
        from flask_babel import lazy_gettext  # type: ignore[import-not-found]
        from wtforms import IntegerField, StringField  # type: ignore[import-untyped]

        return {
            name: (IntegerField if field["schema"]["type"][0] == "integer" else StringField)(
                lazy_gettext(field["label"]), widget=BS3TextFieldWidget(), description=field["description"]
            )
            for name, field in CONN_FIELDS.items()
        }
