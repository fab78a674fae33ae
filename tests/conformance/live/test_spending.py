"""The life of a batch on your own gateway. It costs six rows of a few tokens; on Bedrock, which requires at least 100 rows per batch, 200 rows."""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from airflow_bifrost import providers
from airflow_bifrost.exceptions import BifrostRequestError
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.results.parse import is_placeholder, result_row
from airflow_bifrost.submission.ledger.files import wait_until_ready

from .gateway import Live

pytestmark = pytest.mark.spends

ENDPOINT = "/v1/chat/completions"


@pytest.fixture(autouse=True)
def _only_where_all_is_well(request: pytest.FixtureRequest) -> None:
    if request.session.testsfailed:
        pytest.skip("a check has failed: nothing is submitted")


@pytest.fixture(autouse=True)
def _only_where_it_can_be(live: Live) -> None:
    if reason := cannot_submit(live):
        pytest.skip(reason)


def cannot_submit(live: Live) -> str | None:
    """Why nothing can be submitted; None if it can."""
    if not live.config.path_prefix and live.is_bifrost:
        return "without /openai in its paths, this gateway takes the provider from the model, so the clients cannot submit: leave out PREFIX"
    if live.provider == "bedrock" and not (live.output.startswith("s3://") and live.role):
        return "Bedrock writes results into S3: set OUTPUT=s3://bucket/folder and ROLE=arn:aws:iam::..."
    if live.provider == "vertex" and not live.output.startswith("gs://"):
        return "Vertex writes results into Google Cloud Storage: set OUTPUT=gs://bucket/folder"
    if live.provider not in providers.ALL:
        return f"which rows {live.provider} takes is unknown: submit there by hand"
    if live.model is None:
        return f"which model {live.provider} has is unknown: set MODEL"
    return None


def ids_of(live: Live) -> list[str]:
    """The IDs of three rows, or of the minimum that the provider requires."""
    return [f"row-{number:03d}" for number in range(1, max(3, providers.get(live.provider).limits.min_rows) + 1)]


def submit(live: Live, say: Callable[[str], None]) -> Batch:
    """A batch of a few rows. Its ID is printed before anything else is done with it."""
    made = create(live)
    say(f"submitted {made.id}")
    return made


def create(live: Live) -> Batch:
    """A batch of rows of one token each, in the form that the provider takes."""
    messages = [{"role": "user", "content": "Say a."}]
    contents = [{"role": "user", "parts": [{"text": "Say a."}]}]
    rows = ids_of(live)
    match live.provider:
        case "openai" | "azure":
            body = {"model": live.model, "max_tokens": 1, "messages": messages}
            lines = [{"custom_id": row, "method": "POST", "url": ENDPOINT, "body": body} for row in rows]
            return create_of(live, input_file_id=upload(live, lines), endpoint=ENDPOINT, completion_window="24h")
        case "anthropic":
            params = {"model": live.model, "max_tokens": 1, "messages": messages}
            return create_of(live, requests=[{"custom_id": row, "params": params} for row in rows])
        case "gemini":
            body = {"messages": messages, "max_tokens": 1}
            return create_of(live, requests=[{"custom_id": row, "body": body} for row in rows], model=live.model)
        case "bedrock":
            version = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 1, "messages": messages}
            lines = [{"recordId": row, "modelInput": version} for row in rows]
            file_id = upload(live, lines, **{"storage_config[s3][bucket]": bucket_of(live)})
            place = {"role_arn": live.role, "output_s3_uri": f"{live.output.rstrip('/')}/{uuid.uuid4().hex}/"}
            return create_of(live, input_file_id=file_id, model=live.model, extra_body=place)
    config = {"maxOutputTokens": 1}
    labels = [{"bifrost_custom_id": row} for row in rows]
    lines = [{"request": {"contents": contents, "generationConfig": config, "labels": label}} for label in labels]
    file_id = upload(live, lines, **{"storage_config[gcs][bucket]": bucket_of(live)})
    folder = {"output_folder": {"url": live.output}}
    return create_of(live, input_file_id=file_id, model=live.model, extra_body=folder)


def bucket_of(live: Live) -> str:
    return live.output.partition("://")[2].partition("/")[0]


def upload(live: Live, lines: list[dict[str, Any]], **extra_form: str) -> str:
    """The ID of an uploaded file that the provider has processed."""
    content = "".join(json.dumps(line) + "\n" for line in lines)
    file = live.client.upload_file(
        io.BytesIO(content.encode()),
        filename="live.jsonl",
        purpose="batch",
        idempotency_key=str(uuid.uuid4()),
        extra_form=extra_form,
    )
    wait_until_ready(live.client, live.provider, file, pause=time.sleep)
    return file.id


def create_of(live: Live, **arguments: Any) -> Batch:
    metadata = {"made_by": "airflow_bifrost live test"}
    return live.client.create_batch(idempotency_key=str(uuid.uuid4()), metadata=metadata, **arguments)


def rows_of(live: Live, batch: Batch) -> list[str]:
    """The IDs of the rows that came back."""
    if live.provider not in ("openai", "azure"):
        results = live.client.batch_results(batch.id).results
        if any(map(is_placeholder, results)):
            pytest.skip(
                "this gateway cannot return the results of a Gemini batch in the form of Google's REST API: it returned one invented row. The"
                f" rows of {batch.id} are billed, and are in the file response.responsesFile at Google"
            )
        return [row.custom_id for row in map(result_row, results) if row is not None]
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
    try:
        cancelled = live.client.cancel_batch(made.id)
    except BifrostRequestError:
        batch = live.client.get_batch(made.id)
        if providers.get(live.provider).outcome(batch.status, batch.request_counts) is None:
            raise
        pytest.skip(f"{made.id} ended before it could be cancelled")
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
    assert sorted(rows_of(live, batch)) == ids_of(live)
