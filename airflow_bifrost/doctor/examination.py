"""Queries the gateway. It only reads, makes each call once, and takes a limited time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from airflow_bifrost._compat import outside_of_tasks
from airflow_bifrost.doctor.checks import describe, findings_without_connection, forms_in, holds, run_checks, was_run
from airflow_bifrost.doctor.evidence import POLLS, PROVIDERS, Evidence, Polls
from airflow_bifrost.doctor.findings import Report
from airflow_bifrost.exceptions import (
    BifrostConfigurationError,
    BifrostGatewayError,
    BifrostProtocolError,
    BifrostUnavailable,
)
from airflow_bifrost.gateway.async_client import AsyncGatewayClient
from airflow_bifrost.gateway.config import GatewayConfig
from airflow_bifrost.gateway.models import Page
from airflow_bifrost.gateway.retry import NO_RETRY
from airflow_bifrost.hooks.bifrost import BifrostHook
from airflow_bifrost.hooks.connection import config_of, ignored_port
from airflow_bifrost.hooks.connection_errors import finding_the_connection, naming_the_connection

CALL_TIMEOUT = 60.0  # seconds for one call; the connection's own timeouts also apply
POLLING = 30.0  # seconds for all polls
TOTAL = 150.0  # seconds for everything
SECOND_PAGE = 20  # batches; more batches show more forms

R = TypeVar("R")


def examine(conn_id: str) -> Report:
    """Find out whether waits through an Airflow connection will work."""
    try:
        with outside_of_tasks(), finding_the_connection(conn_id):
            connection = BifrostHook.get_connection(conn_id)
        config = config_of(connection, conn_id)
        with naming_the_connection(conn_id):
            config.tls()
    except BifrostConfigurationError as error:
        return Report({"id": conn_id}, findings_without_connection(error))
    evidence = Evidence(config, str(connection.conn_type or ""), ignored_port(connection, config))
    asyncio.run(_ask_in_time(evidence))
    findings = run_checks(evidence)
    forms = [form.to_json() for form in forms_in(evidence)] if was_run("forms", findings) else []
    return Report(describe(config), findings, forms).without(config.token)


async def _ask_in_time(evidence: Evidence) -> None:
    """All answers of the gateway within :data:`TOTAL` seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(TOTAL):
            await _ask_for_all(evidence)


async def _ask_for_all(evidence: Evidence) -> None:
    """If one call fails, those that depend on it are not made."""
    # One connection for each simultaneous call: a call that queues behind a slow provider would seem to have no answer.
    async with _client(replace(evidence.config, max_connections=len(PROVIDERS)), evidence) as client:
        before = time.time()
        evidence.health = await _asked(client.health())
        evidence.asked_at = before, time.time()
        version, evidence.lists[evidence.provider] = await asyncio.gather(
            _asked(client.version()), _asked(client.list_page(limit=1))
        )
        evidence.version = version if isinstance(version, str) else None
        if holds("token", evidence):
            await _ask_all_providers(client, evidence)
        if holds("provider", evidence):
            await _list_on(client, evidence)
            await _poll(client, evidence)


def _client(config: GatewayConfig, evidence: Evidence) -> AsyncGatewayClient:
    return AsyncGatewayClient(
        config, retry=NO_RETRY, on_answer=lambda request, raw: evidence.answers.append((request, raw))
    )


async def _asked(call: Awaitable[R]) -> R | BifrostGatewayError:
    try:
        async with asyncio.timeout(CALL_TIMEOUT):
            return await call
    except BifrostGatewayError as error:
        return error
    except TimeoutError:
        return BifrostUnavailable(
            f"There was no answer in {CALL_TIMEOUT:g} s.", advice="Try again later. If it persists, check the gateway."
        )
    except ValueError as error:  # an ID from a list that this package refuses to send
        return BifrostProtocolError(str(error))


async def _ask_all_providers(client: AsyncGatewayClient, evidence: Evidence) -> None:
    async def ask(provider: str) -> None:
        evidence.lists[provider] = await _asked(client.list_page(provider=provider, limit=1))

    async def ask_without_token() -> None:
        async with _client(replace(evidence.config, token=None), evidence) as nobody:
            evidence.without_token = await _asked(nobody.list_page(limit=1))

    calls = [ask(provider) for provider in PROVIDERS if provider != evidence.provider]
    if evidence.config.token is not None:
        calls.append(ask_without_token())
    await asyncio.gather(*calls)


async def _list_on(client: AsyncGatewayClient, evidence: Evidence) -> None:
    own = evidence.own
    if isinstance(own, Page) and own.has_more and own.next_cursor:
        page = client.list_page(limit=SECOND_PAGE, after=own.next_cursor)
        evidence.next_page = await _asked(page)


async def _poll(client: AsyncGatewayClient, evidence: Evidence) -> None:
    """Retrieve the newest batch, as a wait does. If there is no batch, list one batch, which takes the same path to the same provider."""
    own = evidence.own
    batch_id = own.data[0].id if isinstance(own, Page) and own.data else None
    polls = evidence.polls = Polls(batch_id)
    with suppress(TimeoutError):
        async with asyncio.timeout(POLLING):
            for _ in range(POLLS):
                call = client.get_batch(batch_id) if batch_id else client.list_page(limit=1)
                began = time.perf_counter()
                answer = await _asked(call)
                if isinstance(answer, BifrostGatewayError):
                    polls.errors.append(answer)
                else:
                    polls.seconds.append(time.perf_counter() - began)
