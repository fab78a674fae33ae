"""Rows in S3, through Airflow's own connection and object storage; the store is moto's server.

It runs where the dependency group ``s3`` is installed: on each Airflow in CI.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from support.airflow import FakeTI, Store, run_to_its_end
from support.providers import small_batches

from airflow_bifrost import BatchDownloadOperator, BatchRunOperator, providers
from airflow_bifrost.results import read_rows
from airflow_bifrost.testing import Fault, LocalGateway

moto_server = pytest.importorskip("moto.server")
pytest.importorskip("airflow.providers.amazon")
pytest.importorskip("s3fs")


class Bucket:
    """A bucket of its own for each test."""

    def __init__(self, url: str) -> None:
        import boto3

        self.name = f"bucket-{uuid.uuid4().hex}"
        self.uri = f"s3://lake@{self.name}"
        self.s3 = boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
        )
        self.s3.create_bucket(Bucket=self.name)

    def put(self, key: str, content: bytes) -> None:
        self.s3.put_object(Bucket=self.name, Key=key, Body=content)

    def names(self) -> list[str]:
        return sorted(found["Key"] for found in self.s3.list_objects_v2(Bucket=self.name).get("Contents", []))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """One for all tests, since Airflow keeps a store once it has opened it. Gives its URL."""
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    connection = {"conn_type": "aws", "login": "test", "password": "test"}
    connection |= {"extra": {"endpoint_url": server, "region_name": "us-east-1"}}
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps(connection))
    return Bucket(server)


@pytest.fixture
def gateway(quick_gateway: LocalGateway) -> LocalGateway:
    return quick_gateway


def run(store: Store, *, try_number: int = 1, remembering: bool = True, **arguments: Any) -> Any:
    given: dict[str, Any] = {"model": "echo-1", "poll_interval": 0.05} | arguments
    ti = FakeTI(task_id="run", try_number=try_number)
    return run_to_its_end(lambda: BatchRunOperator(task_id="run", **given), ti=ti, store=store, remembering=remembering)


@pytest.mark.parametrize("remembering", [True, False])
def test_rows_come_from_s3_and_go_to_s3_and_nothing_else_is_left(
    bucket: Bucket, gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch, remembering: bool
) -> None:
    small_batches(monkeypatch, "openai")
    gateway.inject(Fault(drop=True, method="GET", path_contains="/content"))
    prompts = [f"prompt {number}" for number in range(8)]
    bucket.put("in/[prompts] *.jsonl", "".join(json.dumps(prompt) + "\n" for prompt in prompts).encode())
    source, target = f"{bucket.uri}/in/[prompts] *.jsonl", f"{bucket.uri}/out/[rows] *.jsonl"
    end = run(Store(), remembering=remembering, input_path=source, output_path=target)
    assert end.state == "success", end.error
    assert [row["text"] for row in read_rows(target)] == [f"echo: {prompt}" for prompt in prompts]
    names = [key for key in bucket.names() if not key.endswith("-receipt.json")]  # which a clear without a state finds
    assert {key for key in names if "/tasks/" not in key} == {"in/[prompts] *.jsonl", "out/[rows] *.jsonl"}
    assert (len(names) == 2) == remembering  # else the records of the task stay next to the output


def test_a_retry_goes_on_with_what_stands_in_s3(bucket: Bucket, gateway: LocalGateway) -> None:
    target = f"{bucket.uri}/rows.jsonl"
    gateway.inject(Fault(status=400, method="GET", path_contains="/content", times=None))
    assert run(Store(), rows=["a", "b"], output_path=target, remembering=False).state == "failed"
    assert "rows.jsonl" not in bucket.names()
    gateway.clear_faults()
    assert run(Store(), rows=["a", "b"], output_path=target, remembering=False, try_number=2).state == "success"
    assert [row["text"] for row in read_rows(target)] == ["echo: a", "echo: b"]
    assert len(gateway.batches) == 1


def test_results_of_bedrock_are_read_from_its_prefix(bucket: Bucket, gateway: LocalGateway) -> None:
    batch_id = gateway.add_batch("bedrock", status="completed", output_file_id=f"s3://{bucket.name}/results/")
    line = {"recordId": "a", "modelInput": {}, "modelOutput": {"content": [{"type": "text", "text": "Hi"}]}}
    bucket.put(
        f"results/{providers.get('bedrock').native_id(batch_id)}/in.jsonl.out", json.dumps(line).encode() + b"\n"
    )
    bucket.put("results/other/in.jsonl.out", b"another job's\n")
    target = f"{bucket.uri}/rows.jsonl"
    end = run_to_its_end(
        lambda: BatchDownloadOperator(
            task_id="download", batch_id=batch_id, provider="bedrock", output_path=target, storage_conn_id="lake"
        )
    )
    assert end.state == "success", end.error
    assert [row["text"] for row in read_rows(target)] == ["Hi"]
