"""Results in an object store are read from the store or through the gateway, and only from the allowed folder."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.io import attach
from support.scripts import Clock, Script, counted, read
from support.stores import Bucket, bucket_in_memory

from airflow_bifrost.exceptions import BatchNotFound, BifrostProtocolError, BifrostUnavailable, ResultsUnavailable
from airflow_bifrost.results.collect import collect
from airflow_bifrost.results.reader import read_rows
from airflow_bifrost.results.stored import misplaced, results_folder
from airflow_bifrost.results.writer import ResultsWriter

FOLDER = "gs://bucket/out/prediction-model-2026-04-05T14:40:00.123456Z"
ONLY_FILE = base64.urlsafe_b64encode(f"{FOLDER}/predictions.jsonl".encode()).decode().rstrip("=")
ENDED = {"output_file_id": FOLDER}


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with bucket_in_memory() as bucket:
        yield bucket


@pytest.fixture
def clock() -> Clock:
    return Clock()


def of_vertex(custom_id: str, status: str = "") -> bytes:
    candidate = {"content": {"parts": [{"text": "Hello"}], "role": "model"}, "finishReason": "STOP"}
    response = {"candidates": [candidate], "modelVersion": "g", "usageMetadata": {"totalTokenCount": 12}}
    request = {"contents": [], "labels": {"bifrost_custom_id": custom_id}}
    answer = {"request": request, "status": status, "response": None if status else response, "processed_time": "t"}
    return json.dumps(answer).encode()


def native(*ids: str) -> bytes:
    body = json.loads(of_vertex("a"))["response"]
    rows = [{"custom_id": custom_id, "response": {"status_code": 200, "body": body}} for custom_id in ids]
    return json.dumps({"batch_id": "b1", "results": rows}).encode()


# In the store


def test_results_of_vertex_are_read_below_its_folder(bucket: Bucket, clock: Clock, tmp_path: Path) -> None:
    bucket.pipe(f"{FOLDER}/predictions_00001.jsonl", of_vertex("b", "Bad Request: invalid argument"))
    bucket.pipe(f"{FOLDER}/predictions.jsonl", of_vertex("a"))  # the last line has no newline
    bucket.pipe(f"{FOLDER}/other.txt", b"odd")
    with ResultsWriter() as results:
        collect(Script([counted(1, 1, **ENDED)]), "b1", "vertex", results, policy=clock.policy())  # type: ignore[arg-type]
        results.write("ab", tmp_path / "out.jsonl")
    a, b = read_rows(tmp_path / "out.jsonl")
    assert (a["outcome"], a["text"], a["usage"]["total_tokens"]) == ("succeeded", "Hello", 12)
    assert (b["outcome"], b["error"]["message"]) == ("failed", "Bad Request: invalid argument")


@pytest.mark.parametrize(("provider", "place"), [("vertex", "gs://bucket/none"), ("bedrock", "s3://bucket/none")])
def test_missing_stored_results_are_an_error_that_says_where_they_should_be(
    provider: str, place: str, bucket: Bucket, clock: Clock
) -> None:
    with pytest.raises(ResultsUnavailable, match=rf"below {place}.*storage_conn_id"):
        read(Script([counted(1, output_file_id=place)]), clock, provider)


def test_fewer_stored_results_than_the_batch_counts_are_an_error(bucket: Bucket, clock: Clock) -> None:
    bucket.pipe(f"{FOLDER}/predictions.jsonl", of_vertex("a"))
    with pytest.raises(BifrostProtocolError, match="1 results can be read, but the batch counts 2"):
        read(Script([counted(2, **ENDED)]), clock, "vertex")


def test_a_store_that_breaks_off_is_read_again(bucket: Bucket, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.pipe(f"{FOLDER}/predictions.jsonl", of_vertex("a"))
    opened: list[str] = []
    open_file = Bucket.open

    def fails_once(self: Bucket, path: str, *args: Any, **options: Any) -> Any:
        opened.append(path)
        if len(opened) == 1:
            raise OSError("the connection was reset")
        return open_file(self, path, *args, **options)

    monkeypatch.setattr(Bucket, "open", fails_once)
    assert read(Script([counted(1, **ENDED)]), clock, "vertex") == ["a"]
    assert len(opened) == 2


class NoCredentials(Exception):
    """What a store's own library raises: neither an OSError nor one of Airflow's errors."""


@pytest.mark.parametrize(
    "error", [NoCredentials("no key"), PermissionError("denied"), ImportError("no gcsfs")], ids=repr
)
def test_a_store_that_refuses_is_a_typed_error_where_only_the_store_has_the_results(
    error: Exception, bucket: Bucket, clock: Clock
) -> None:
    Bucket.refuses = error
    with pytest.raises(ResultsUnavailable, match=f"this Airflow cannot read them: {error}") as caught:
        read(Script([counted(1, output_file_id="s3://bucket/out")]), clock, "bedrock")
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [ConnectionError("reset"), TimeoutError("timed out")], ids=repr)
def test_a_store_that_does_not_answer_is_a_transient_error(error: Exception, bucket: Bucket, clock: Clock) -> None:
    Bucket.refuses = error
    with pytest.raises(BifrostUnavailable, match="does not answer"):
        read(Script([counted(1, **ENDED)]), clock, "vertex")


# Through the gateway


def test_results_of_vertex_come_through_the_gateway_where_airflow_cannot_open_the_store(clock: Clock) -> None:
    script = Script([counted(2, **ENDED)], {"native": [native("a", "b")]})
    assert read(script, clock, "vertex") == ["a", "b"]


def test_results_of_vertex_come_through_the_gateway_where_the_store_refuses(bucket: Bucket, clock: Clock) -> None:
    Bucket.refuses = NoCredentials("no key")
    assert read(Script([counted(1, **ENDED)], {"native": [native("a")]}), clock, "vertex") == ["a"]


def test_the_only_file_of_vertex_is_read_by_its_name_where_the_gateway_cannot_list_the_folder(clock: Clock) -> None:
    files = {"native": [BatchNotFound("another region")], ONLY_FILE: [of_vertex("a") + b"\n" + of_vertex("b")]}
    script = Script([counted(2, **ENDED)], files)
    assert read(script, clock, "vertex") == ["a", "b"]
    assert script.opened == ["native", ONLY_FILE]


def test_a_connection_that_the_task_names_is_never_replaced_by_the_gateway(bucket: Bucket, clock: Clock) -> None:
    script = Script([counted(1, **ENDED)], {"native": [native("a")]})
    with pytest.raises(ResultsUnavailable, match="this Airflow cannot read them"):
        read(script, clock, "vertex", storage_conn_id="no_such_connection")
    assert script.opened == []


def test_results_are_read_with_the_connection_that_the_task_names(bucket: Bucket, clock: Clock) -> None:
    attach("gs", conn_id="google_lake", fs=bucket)
    bucket.pipe(f"{FOLDER}/predictions.jsonl", of_vertex("a"))
    script = Script([counted(1, **ENDED)], {"native": [native("b")]})
    assert read(script, clock, "vertex", storage_conn_id="google_lake") == ["a"]
    assert script.opened == []


def test_results_that_the_gateway_counts_but_does_not_return_are_an_error(clock: Clock) -> None:
    with pytest.raises(BifrostProtocolError, match="0 results can be read, but the batch counts 2"):
        read(Script([counted(2, **ENDED)], {"native": [native()]}), clock, "vertex")


# Where they may be


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("file:///etc", "not a folder in gs://"),
        ("/etc", "not a folder in gs://"),
        ("s3://bucket/out", "not a folder in gs://"),
        ("memory://bucket/out", "not a folder in gs://"),
        ("gs:///out", "not a folder in gs://"),
        ("gs://admin_connection@bucket/out", "names credentials"),
        ("gs://user:secret@bucket/out/x", "names credentials"),
        ("gs://bucket/out/x?token=cloud", "names credentials or options"),
        ("gs://bucket/out/../payroll", "relative parts"),
        ("gs://bucket/payroll", "not below gs://bucket/out"),
        ("gs://bucket/output", "not below gs://bucket/out"),
        ("gs://bucket", "not below gs://bucket/out"),
    ],
)
def test_a_place_outside_of_the_tasks_folder_is_never_read(
    place: str, problem: str, bucket: Bucket, clock: Clock
) -> None:
    bucket.pipe("bucket/payroll/predictions.jsonl", of_vertex("a"))
    script = Script([counted(1, output_file_id=place)], {"native": [native("a")]})
    with pytest.raises(ResultsUnavailable, match="Nothing was read") as caught:
        read(script, clock, "vertex", folder="gs://bucket/out")
    assert problem in str(caught.value)
    assert "secret" not in str(caught.value)
    assert script.opened == []


@pytest.mark.parametrize("folder", [None, "gs://bucket/out", "gs://bucket/out/", "gs://bucket", FOLDER])
def test_a_place_below_the_tasks_folder_is_read(folder: str | None) -> None:
    assert misplaced(FOLDER, "gs", folder) is None
    assert misplaced("s3://bucket/out/", "s3", "s3://bucket/out/") is None


@pytest.mark.parametrize(
    ("provider", "create", "folder"),
    [
        ("vertex", {"output_folder": {"url": "gs://bucket/out"}}, "gs://bucket/out"),
        ("vertex", {"output_folder": "gs://bucket/out"}, None),
        ("vertex", {}, None),
        ("bedrock", {"output_s3_uri": "s3://bucket/out/"}, "s3://bucket/out/"),
        ("bedrock", {"output_s3_uri": 7}, None),
        ("openai", {"output_s3_uri": "s3://bucket/out/"}, None),
    ],
)
def test_the_tasks_folder_is_the_one_that_its_create_call_names(
    provider: str, create: dict[str, Any], folder: str | None
) -> None:
    assert results_folder(provider, create) == folder


@pytest.mark.parametrize("provider", ["openai", "azure", "a new one"])
@pytest.mark.parametrize("name", ["output_file_id", "error_file_id"])
def test_a_file_that_the_gateway_cannot_return_is_a_typed_error(provider: str, name: str, clock: Clock) -> None:
    batch = counted(1, 1) | {"output_file_id": "file-1"} | {name: "https://store.example.com/out.jsonl"}
    with pytest.raises(ResultsUnavailable, match=r"contains '/'.*may be billed"):
        read(Script([batch], {"file-1": [b""]}), clock, provider)
