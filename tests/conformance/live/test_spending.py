"""The life of a batch on a gateway of yours. Costs the price of six rows of a few tokens."""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from airflow_bifrost import providers
from airflow_bifrost.gateway.models import Batch

from .gateway import Live

pytestmark = pytest.mark.spends

IDS = ["row-1", "row-2", "row-3"]
ENDPOINT = "/v1/chat/completions"


@pytest.fixture(autouse=True)
def _only_where_all_is_well(request: pytest.FixtureRequest) -> None:
    if request.session.testsfailed:
        pytest.skip("a check has failed: nothing is submitted")


def submit(live: Live, say: Callable[[str], None]) -> Batch:
    """A batch of three rows, whose id is told before anything else is done with it."""
    made = create(live)
    say(f"submitted {made.id}")
    return made


def create(live: Live) -> Batch:
    """A batch of three rows, of one token each, in the form that the provider takes."""
    messages = [{"role": "user", "content": "Say a."}]
    common: dict[str, Any] = {
        "idempotency_key": str(uuid.uuid4()),
        "metadata": {"made_by": "airflow_bifrost live test"},
    }
    if live.provider in ("openai", "azure"):
        body = {"model": live.model, "max_tokens": 1, "messages": messages}
        rows = [{"custom_id": row, "method": "POST", "url": ENDPOINT, "body": body} for row in IDS]
        content = "".join(json.dumps(row) + "\n" for row in rows)
        file = live.client.upload_file(
            io.BytesIO(content.encode()), filename="live.jsonl", purpose="batch", idempotency_key=str(uuid.uuid4())
        )
        return live.client.create_batch(input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h", **common)
    if live.provider == "anthropic":
        params = {"model": live.model, "max_tokens": 1, "messages": messages}
        return live.client.create_batch(requests=[{"custom_id": row, "params": params} for row in IDS], **common)
    if live.provider == "gemini":
        rows = [{"custom_id": row, "body": {"messages": messages, "max_tokens": 1}} for row in IDS]
        return live.client.create_batch(requests=rows, model=live.model, **common)
    if live.provider == "bedrock":
        pytest.skip("bedrock needs a role and a bucket: submit there by hand")
    pytest.skip(f"which rows {live.provider} takes is not known: submit there by hand")


def rows_of(live: Live, batch: Batch) -> list[str]:
    """The ids of the rows that came back."""
    if live.provider not in ("openai", "azure"):
        return [row["custom_id"] for row in live.client.batch_results(batch.id).results]
    found = []
    for file_id in filter(None, [batch.output_file_id, batch.error_file_id]):
        with live.client.file_content(file_id) as chunks:
            found += [json.loads(line)["custom_id"] for line in b"".join(chunks).splitlines()]
    return found


def test_a_batch_is_submitted_found_again_and_cancelled(live: Live, say: Callable[[str], None]) -> None:
    made = submit(live, say)
    assert providers.get(live.provider).outcome(made.status, made.request_counts) is None
    assert live.client.get_batch(made.id).id == made.id
    listed = {batch.id for batch in live.client.list_page(limit=20).data}
    assert {made.id, made.id.removeprefix("batches-")} & listed  # Gemini lists another spelling
    cancelled = live.client.cancel_batch(made.id)
    assert cancelled.id == made.id
    assert cancelled.status in ("cancelling", "cancelled", "canceling", "canceled")


def test_a_batch_runs_to_its_end_and_each_row_comes_back_once(
    live: Live, say: Callable[[str], None], request: pytest.FixtureRequest
) -> None:
    made = submit(live, say)
    patience = request.config.getoption("--wait")
    until = time.monotonic() + patience
    batch = live.client.get_batch(made.id)
    while (outcome := providers.get(live.provider).outcome(batch.status, batch.request_counts)) is None:
        if time.monotonic() > until:
            pytest.skip(
                f"{made.id} has not ended after {patience:g} s; it runs on, and costs what it costs: --wait for longer"
            )
        time.sleep(min(10.0, max(0.2, patience / 60)))
        batch = live.client.get_batch(made.id)
    assert outcome in ("succeeded", "partial")
    assert sorted(rows_of(live, batch)) == IDS
