"""Creates clients from a connection. This module loads the client, so the hook imports it only when needed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_bifrost.gateway.async_client import AsyncGatewayClient
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.retry import RetryPolicy
from airflow_bifrost.hooks.connection import config_of, ignored_port
from airflow_bifrost.hooks.connection_errors import naming_the_connection

if TYPE_CHECKING:
    from airflow.sdk import Connection

POLICY = RetryPolicy()  # for its pauses; the budget comes from the connection

_logged: set[str] = set()  # connections about which this process has logged


def checked_config(connection: Connection, conn_id: str, log: Any) -> GatewayConfig:
    """The connection's configuration. Logs once per process if it has no password or a port that is ignored.

    :raises BifrostConfigurationError: names the field that is wrong.
    """
    config = config_of(connection, conn_id)
    if conn_id in _logged:
        return config
    _logged.add(conn_id)
    if config.token is None:
        log.info("Connection %r has no password: requests carry no token", conn_id)
    if port := ignored_port(connection, config):
        log.warning(
            "Connection %r has port %s, but its host is a URL, which takes precedence: %s",
            conn_id,
            port,
            config.base_url,
        )
    return config


def open_client(
    get_config: Callable[[], GatewayConfig],
    retry: RetryPolicy | None,
    timeout: float | None,
    sleep: Callable[[float], object],
    worked_before: bool,
) -> GatewayClient:
    """See :meth:`airflow_bifrost.hooks.bifrost.BifrostHook.open_client`."""
    config = _with_timeout(get_config(), timeout)
    with naming_the_connection(config.name):
        return GatewayClient(
            config, retry=_policy(retry, config), sleep=sleep, renew=get_config, worked_before=worked_before
        )


async def aopen_client(
    get_config: Callable[[], Awaitable[GatewayConfig]],
    retry: RetryPolicy | None,
    timeout: float | None,  # noqa: ASYNC109 - of each request
    sleep: Callable[[float], Awaitable[object]],
    worked_before: bool,
) -> AsyncGatewayClient:
    """See :meth:`airflow_bifrost.hooks.bifrost.BifrostHook.aopen_client`."""
    config = _with_timeout(await get_config(), timeout)

    def make() -> AsyncGatewayClient:
        return AsyncGatewayClient(
            config, retry=_policy(retry, config), sleep=sleep, renew=get_config, worked_before=worked_before
        )

    with naming_the_connection(config.name):
        return await asyncio.to_thread(make)


def _with_timeout(config: GatewayConfig, timeout: float | None) -> GatewayConfig:
    if timeout is None:
        return config
    with naming_the_connection(config.name):
        return replace(config, timeout=timeout)


def _policy(retry: RetryPolicy | None, config: GatewayConfig) -> RetryPolicy:
    return retry or replace(POLICY, budget=config.retry_budget)
