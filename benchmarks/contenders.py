"""Who is measured: one small class each, that waits for one batch of the scripted gateway the way it is meant to be used.

Nothing of a contender is imported before it is made, so that each process holds one of them.
"""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from wire import batch_id

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

CONN_ID = "bench"
TIMEOUT = 3600.0  # seconds; longer than any run


class Contender:
    """A trigger, run as a triggerer runs it: until it has fired and ended.

    :param url: the gateway's.
    :param interval: seconds between two polls of a batch.
    """

    label: ClassVar[str]
    conn_type: ClassVar[str] = ""
    path: ClassVar[str] = ""  # below the gateway's root, where its API is
    extra: ClassVar[dict[str, Any]] = {}

    def __init__(self, url: str, interval: float) -> None:
        self.url, self.interval = url, interval

    @classmethod
    def connection(cls, url: str) -> dict[str, str]:
        """The environment variable with its Airflow connection."""
        value = {"conn_type": cls.conn_type, "host": url + cls.path, "password": "sk-bench", "extra": cls.extra}
        return {f"AIRFLOW_CONN_{CONN_ID.upper()}": json.dumps(value)}

    def trigger(self, index: int, done_at: float) -> BaseTrigger:
        raise NotImplementedError

    def succeeded(self, payload: Any) -> bool:
        return bool(payload["status"] == "success")

    async def wait(self, index: int, done_at: float) -> tuple[float, bool]:
        """:return: when the event came (unix seconds), and whether it says that the batch has succeeded."""
        came, good = 0.0, False
        async for event in self.trigger(index, done_at).run():
            came, good = time.time(), self.succeeded(event.payload)
        return came, good

    async def close(self) -> None:
        """After the last wait."""


class Ours(Contender):
    label = "this package, OpenAI provider"
    conn_type = "bifrost"
    provider = "openai"

    def __init__(self, url: str, interval: float) -> None:
        super().__init__(url, interval)
        from airflow_bifrost.triggers.batch import BatchTrigger

        self.kind = BatchTrigger

    def trigger(self, index: int, done_at: float) -> BaseTrigger:
        ids = [batch_id(index, self.provider)]
        return self.kind(ids, self.provider, CONN_ID, poll_interval=self.interval, deadline=time.time() + TIMEOUT)

    def succeeded(self, payload: Any) -> bool:
        return bool(payload["kind"] == "finished" and payload["summaries"][0]["outcome"] == "succeeded")


class OursAnthropic(Ours):
    label = "this package, Anthropic provider"
    provider = "anthropic"


class OursMany(Ours):
    """For more than its default of 8 requests at a time can see to. It is a setting of the connection."""

    label = "this package, OpenAI provider, `max_in_flight` 128"
    extra: ClassVar[dict[str, Any]] = {"max_in_flight": 128}


class OursAnthropicMany(OursAnthropic):
    label = "this package, Anthropic provider, `max_in_flight` 128"
    extra = OursMany.extra


class OpenAI(Contender):
    label = "`OpenAIBatchTrigger`"
    conn_type = "openai"
    path = "/v1"

    def __init__(self, url: str, interval: float) -> None:
        super().__init__(url, interval)
        from airflow.providers.openai.triggers.openai import OpenAIBatchTrigger

        self.kind = OpenAIBatchTrigger

    def trigger(self, index: int, done_at: float) -> BaseTrigger:
        return self.kind(CONN_ID, batch_id(index), poll_interval=self.interval, timeout=TIMEOUT)


class CommonAI(Contender):
    """Its operator takes no interval below 30 s; the trigger itself takes any."""

    label = "`LLMBatchTrigger` (common-ai)"
    conn_type = "pydanticai"
    path = "/v1"

    def __init__(self, url: str, interval: float) -> None:
        super().__init__(url, interval)
        from airflow.providers.common.ai.triggers.llm_batch import LLMBatchTrigger

        self.kind = LLMBatchTrigger

    def trigger(self, index: int, done_at: float) -> BaseTrigger:
        return self.kind(
            llm_conn_id=CONN_ID,
            adapter="openai",
            batch_id=batch_id(index),
            poll_interval=self.interval,
            end_time=time.time() + TIMEOUT,
            cancel_on_kill=False,
            cancel_on_timeout=False,
        )


class Anthropic(Contender):
    label = "`AnthropicBatchTrigger`"
    conn_type = "anthropic"

    def __init__(self, url: str, interval: float) -> None:
        super().__init__(url, interval)
        from airflow.providers.anthropic.triggers.batch import AnthropicBatchTrigger

        self.kind = AnthropicBatchTrigger

    def trigger(self, index: int, done_at: float) -> BaseTrigger:
        ident = batch_id(index, "anthropic")
        return self.kind(CONN_ID, ident, poll_interval=self.interval, end_time=time.time() + TIMEOUT)


class BareClient(Contender):
    """What a careful engineer would write without a framework: one client for all waits, with enough kept-alive connections. It tolerates faults."""

    label = "one bare shared httpx client"
    connections = 100

    def __init__(self, url: str, interval: float) -> None:
        super().__init__(url, interval)
        import httpx

        self.fault = httpx.HTTPError
        self.client = httpx.AsyncClient(
            limits=httpx.Limits(
                max_connections=self.connections, max_keepalive_connections=self.connections, keepalive_expiry=60
            ),
            timeout=httpx.Timeout(60, pool=None),
        )

    @classmethod
    def connection(cls, url: str) -> dict[str, str]:
        return {}

    async def wait(self, index: int, done_at: float) -> tuple[float, bool]:
        url = f"{self.url}/openai/v1/batches/{batch_id(index)}?provider=openai"
        while True:
            try:
                batch = (await self.client.get(url)).raise_for_status().json()
            except self.fault:
                pass
            else:
                if batch["status"] == "completed":
                    return time.time(), True
            await asyncio.sleep(self.interval)

    async def close(self) -> None:
        await self.client.aclose()


class Floor(Contender):
    """Airflow's own sleeping trigger, set to the moment at which the batch is done. It asks nobody."""

    label = "Airflow's `DateTimeTrigger`: the floor"

    def __init__(self, url: str, interval: float) -> None:
        super().__init__(url, interval)
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger

        self.kind = DateTimeTrigger

    @classmethod
    def connection(cls, url: str) -> dict[str, str]:
        return {}

    def trigger(self, index: int, done_at: float) -> BaseTrigger:
        return self.kind(moment=datetime.fromtimestamp(done_at, UTC))

    def succeeded(self, payload: Any) -> bool:
        return True


CONTENDERS: dict[str, type[Contender]] = {
    "ours": Ours,
    "ours-many": OursMany,
    "ours-anthropic": OursAnthropic,
    "ours-anthropic-many": OursAnthropicMany,
    "openai": OpenAI,
    "common-ai": CommonAI,
    "anthropic": Anthropic,
    "bare": BareClient,
    "floor": Floor,
}
PEERS = ("openai", "common-ai", "anthropic")
