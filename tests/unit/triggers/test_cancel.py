"""Cancelling many batches in little time, with a client that does what the test says."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from airflow_bifrost.exceptions import (
    BatchNotFound,
    BifrostAuthError,
    BifrostConfigurationError,
    BifrostError,
    BifrostProtocolError,
    BifrostRateLimited,
    BifrostRequestError,
    BifrostUnavailable,
)
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.triggers.cancel import AT_ONCE, Cancellation

Script = Callable[[str, int], Awaitable[BifrostError | None]]


class Client:
    """``script(batch_id, attempt)`` returns the error of an attempt, or None."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.attempts: Counter[str] = Counter()
        self.in_flight = self.most_in_flight = 0

    async def cancel_batch(self, batch_id: str, *, provider: str | None) -> Batch:
        self.attempts[batch_id] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(0)
            error = await self.script(batch_id, self.attempts[batch_id])
        finally:
            self.in_flight -= 1
        if error is not None:
            raise error
        return Batch(id=batch_id, status="cancelling")


def cancel(
    batch_ids: list[str], script: Script, *, within: float = 30.0, **options: Any
) -> tuple[Cancellation, Client]:
    client = Client(script)

    async def open_client() -> Any:
        return client

    async def run() -> Cancellation:
        deadline = asyncio.get_running_loop().time() + within
        no_sleep = {"sleep": lambda _: asyncio.sleep(0), **options}
        cancellation = Cancellation(batch_ids, "openai", deadline, **no_sleep)
        await cancellation.run(open_client)
        return cancellation

    return asyncio.run(run()), client


def always(error: BifrostError | None) -> Script:
    async def script(batch_id: str, attempt: int) -> BifrostError | None:
        return error

    return script


def test_all_batches_are_cancelled_in_parallel_and_each_only_once() -> None:
    batch_ids = [f"b{number}" for number in range(100)]
    cancellation, client = cancel([*batch_ids, "b0"], always(None))
    assert list(cancellation.cancelled) == batch_ids
    assert set(client.attempts.values()) == {1}
    assert client.most_in_flight == AT_ONCE
    [line] = cancellation.report()
    assert line.level == logging.INFO


@pytest.mark.parametrize(
    "error",
    [
        BifrostUnavailable("503"),
        BifrostRateLimited("429"),
        BatchNotFound("404 of another key"),
        BifrostProtocolError("a proxy's page"),
    ],
    ids=str,
)
def test_a_cancel_is_repeated_after_an_error_that_can_pass(error: BifrostError) -> None:
    async def third_time(batch_id: str, attempt: int) -> BifrostError | None:
        return None if attempt == 3 else error

    cancellation, client = cancel(["b1"], third_time)
    assert client.attempts["b1"] == 3
    assert not cancellation.failures


@pytest.mark.parametrize(
    "error",
    [BifrostAuthError("401"), BifrostRequestError("400"), BifrostConfigurationError("no connection")],
    ids=str,
)
def test_a_cancel_that_is_refused_is_not_repeated_and_its_batch_is_named_with_the_reason(error: BifrostError) -> None:
    cancellation, client = cancel(["b1"], always(error))
    assert client.attempts["b1"] == 1
    [line] = cancellation.report()
    assert line.level == logging.ERROR
    for part in ("b1", str(error), "billed", "BatchCancelOperator"):
        assert part in line.text


def test_a_retry_after_is_honored() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def second_time(batch_id: str, attempt: int) -> BifrostError | None:
        return None if attempt == 2 else BifrostRateLimited("429", retry_after=3.0)

    cancel(["b1"], second_time, sleep=sleep)
    assert 3.0 <= slept[0] <= 3.25


def test_batches_that_hang_do_not_keep_the_others_from_being_cancelled() -> None:
    async def some_hang(batch_id: str, attempt: int) -> BifrostError | None:
        if batch_id.startswith("hangs"):
            await asyncio.Event().wait()
        return None

    hanging = [f"hangs{number}" for number in range(2 * AT_ONCE)]
    good = [f"b{number}" for number in range(30)]
    cancellation, client = cancel([*hanging, *good], some_hang, within=1.5, attempt_within=0.05)
    assert set(cancellation.cancelled) == set(good)
    assert set(cancellation.failures) == set(hanging)
    assert min(client.attempts[batch_id] for batch_id in hanging) >= 1
    error = list(cancellation.report())[-1]
    assert "64 of 94 batches could not be cancelled" in error.text
    assert "hangs63 (no answer)" in error.text
