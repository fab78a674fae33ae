"""Every example DAG runs to its end against the local gateway."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from airflow_bifrost.results import read_rows
from airflow_bifrost.testing import LocalGateway

EXAMPLES = Path(__file__).parents[2] / "dags_examples"

RunExample = Callable[..., Any]


@pytest.fixture
def run_example(airflow_db: None, monkeypatch: pytest.MonkeyPatch) -> RunExample:
    """Run the DAG of an example file with ``dag.test()``; return the finished DAG run.

    ``timeouts`` are in seconds, by task, in place of those that are too long for a test.
    """

    def run(name: str, conf: dict[str, Any], **timeouts: float) -> Any:
        spec = util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)  # as Airflow does: pydantic looks up a model's annotations there
        spec.loader.exec_module(module)
        for task_id, seconds in timeouts.items():
            module.pipeline.get_task(task_id).timeout = seconds
        return module.pipeline.test(run_conf=conf)

    return run


def xcom(run: Any, task_id: str, key: str = "return_value") -> Any:
    return run.get_task_instance(task_id).xcom_pull(task_ids=task_id, key=key)


def states(run: Any) -> dict[str, str]:
    return {instance.task_id: str(instance.state) for instance in run.get_task_instances()}


@pytest.mark.bifrost_gateway(batch_seconds=3)
def test_wait_for_batch_waits_for_a_running_batch_and_pushes_its_summary(
    bifrost_gateway: LocalGateway, run_example: RunExample
) -> None:
    batch_id = bifrost_gateway.add_batch(rows=3)

    run = run_example("wait_for_batch", {"batch_id": batch_id})

    assert states(run) == {"wait": "success", "retrieve": "success"}
    assert xcom(run, "wait")["outcome"] == "succeeded"
    assert xcom(run, "wait") == xcom(run, "retrieve")
    assert xcom(run, "retrieve", "output_file_id").startswith("file-")
    assert xcom(run, "retrieve", "request_counts")["completed"] == 3


@pytest.mark.bifrost_gateway(batch_seconds=0)
def test_wait_for_many_waits_for_each_batch_and_sums_their_rows(
    bifrost_gateway: LocalGateway, run_example: RunExample
) -> None:
    batch_ids = [bifrost_gateway.add_batch(rows=rows) for rows in (1, 2, 4)]

    run = run_example("wait_for_many", {"batch_ids": batch_ids})

    waits = [instance for instance in run.get_task_instances() if instance.task_id == "wait"]
    assert sorted(instance.map_index for instance in waits) == [0, 1, 2]
    assert xcom(run, "completed_rows") == 7


@pytest.mark.bifrost_gateway(batch_seconds=0)
@pytest.mark.parametrize(
    ("failed_rows", "taken", "left_out"), [(0, "publish", "repair"), (1, "publish", "repair"), (9, "repair", "publish")]
)
def test_retrieve_and_branch_repairs_only_what_failed_more_than_is_tolerated(
    bifrost_gateway: LocalGateway, run_example: RunExample, failed_rows: int, taken: str, left_out: str
) -> None:
    counts = {"total": 100, "completed": 100 - failed_rows, "failed": failed_rows}
    batch_id = bifrost_gateway.add_batch(status="completed", counts=counts)

    run = run_example("retrieve_and_branch", {"batch_id": batch_id})

    assert states(run)[taken] == "success"
    assert states(run)[left_out] == "skipped"


@pytest.mark.bifrost_gateway(batch_seconds=0)
def test_every_provider_gives_the_same_outcome_in_its_own_words(
    bifrost_gateway: LocalGateway, run_example: RunExample
) -> None:
    providers = ["openai", "azure", "anthropic", "gemini", "bedrock"]
    batches = {provider: bifrost_gateway.add_batch(provider) for provider in providers}

    run = run_example("every_provider", {"batches": batches})

    assert xcom(run, "outcomes") == dict.fromkeys(providers, "succeeded")


@pytest.mark.bifrost_gateway(batch_seconds=4)
def test_cancel_when_late_cancels_after_the_timeout_and_keeps_what_was_done(
    bifrost_gateway: LocalGateway, run_example: RunExample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__BIFROST__POLL_INTERVAL", "5")
    batch_id = bifrost_gateway.add_batch(rows=100, status="in_progress")  # it stays so, with half of its rows done

    run = run_example("cancel_when_late", {"batch_id": batch_id}, wait=6.0)

    assert states(run) == {"wait": "failed", "cancel": "success", "end": "success"}
    assert xcom(run, "cancel")["status"] == xcom(run, "cancel", "status") == "cancelling"
    assert xcom(run, "end", "outcome") == "cancelled"
    assert xcom(run, "end", "request_counts")["completed"] == 50
    assert xcom(run, "end", "output_file_id").startswith("file-")


@pytest.mark.bifrost_gateway(batch_seconds=0)
@pytest.mark.parametrize(
    ("status", "wait", "cancel", "end"),
    [("completed", "success", "skipped", "success"), ("expired", "failed", "success", "failed")],
)
def test_cancel_when_late_leaves_a_batch_alone_that_has_ended(
    bifrost_gateway: LocalGateway, run_example: RunExample, status: str, wait: str, cancel: str, end: str
) -> None:
    batch_id = bifrost_gateway.add_batch(rows=4, status=status)

    run = run_example("cancel_when_late", {"batch_id": batch_id})

    assert states(run) == {"wait": wait, "cancel": cancel, "end": end}
    assert xcom(run, "end", "status") == status
    assert not any(request.path.endswith("/cancel") for request in bifrost_gateway.requests)


@pytest.mark.bifrost_gateway(batch_seconds=0)
def test_classify_reviews_makes_each_review_an_object_and_counts_them(
    bifrost_gateway: LocalGateway, run_example: RunExample, tmp_path: Path
) -> None:
    good, bad = '!say {"mood": "good", "topics": ["price"]}', '!say {"mood": "bad", "topics": []}'
    reviews = tmp_path / "reviews.csv"
    with reviews.open("w", newline="") as file:
        table = enumerate([good, bad, good, "!say no opinion"], start=1)
        csv.writer(file).writerows([("id", "text"), *((f"review-{number}", text) for number, text in table)])

    run = run_example("classify_reviews", {"reviews": str(reviews), "folder": str(tmp_path / "answers")})

    assert states(run) == {"classify": "success", "moods": "success"}
    assert xcom(run, "moods") == {"good": 2, "bad": 1}
    rows = list(read_rows(tmp_path / "answers" / f"{run.run_id}.jsonl"))
    assert [row["custom_id"] for row in rows] == ["review-1", "review-2", "review-3", "review-4"]
    assert rows[0]["output"] == {"mood": "good", "topics": ["price"]}
    assert rows[3]["error"]["code"] == "invalid_output"


@pytest.mark.bifrost_gateway(batch_seconds=0)
def test_classify_table_reads_csv_files_and_counts_the_moods_of_each_product(
    bifrost_gateway: LocalGateway, run_example: RunExample, tmp_path: Path
) -> None:
    for number, product in enumerate(["lamp", "chair"]):
        with (tmp_path / f"reviews-{number}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("id", "product", "text"), (number, product, "Fine.")])
    run = run_example(
        "classify_table",
        {"reviews": f"{tmp_path}/reviews-*.csv", "folder": str(tmp_path / "answers"), "language": "French"},
    )

    assert states(run) == {"classify": "success", "moods_by_product": "success"}
    assert {product: sum(moods.values()) for product, moods in xcom(run, "moods_by_product").items()} == {
        "lamp": 1,
        "chair": 1,
    }
    rows = list(read_rows(xcom(run, "classify", "output_path")))
    assert [(row["custom_id"], row["source"]) for row in rows] == [
        ("0", {"product": "lamp"}),
        ("1", {"product": "chair"}),
    ]


@pytest.mark.bifrost_gateway(batch_seconds=0)
def test_embed_documents_gives_a_vector_for_each_document(
    bifrost_gateway: LocalGateway, run_example: RunExample, tmp_path: Path
) -> None:
    documents = tmp_path / "documents.jsonl"
    lines: list[Any] = ["The first.", {"custom_id": "doc-2", "body": {"input": "The second."}}]
    documents.write_text("".join(json.dumps(line) + "\n" for line in lines))

    run = run_example("embed_documents", {"documents": str(documents), "folder": str(tmp_path)})

    assert xcom(run, "load") == 2
    assert xcom(run, "embed", "rows")["succeeded"] == 2
    first, second = read_rows(xcom(run, "embed", "output_path"))
    assert (first["custom_id"], second["custom_id"]) == ("row-000000001", "doc-2")
    assert len(first["response"]["data"][0]["embedding"]) == 256


@pytest.mark.bifrost_gateway(batch_seconds=0)
def test_nightly_mapped_asks_each_provider_and_compares_them(
    bifrost_gateway: LocalGateway, run_example: RunExample, tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('"one"\n"two"\n"!fail 400"\n')

    run = run_example("nightly_mapped", {"prompts": str(prompts), "folder": str(tmp_path)})

    compared = xcom(run, "compare")
    assert list(compared) == ["openai", "anthropic", "gemini"]
    assert [counts["succeeded"] for counts in compared.values()] == [2, 2, 2]
    assert all(counts["rows"] == 3 and counts["tokens"] > 0 for counts in compared.values())
    assert sorted(path.name for path in (tmp_path / run.run_id).glob("*.jsonl")) == [
        "anthropic.jsonl",
        "gemini.jsonl",
        "openai.jsonl",
    ]


@pytest.mark.bifrost_gateway(batch_seconds=0)
@pytest.mark.parametrize(
    ("prompts", "resubmitted"),
    [(["one", "!flaky 400", "two"], ["row-2"]), (["one", "two"], [])],
    ids=["some-failed", "none-failed"],
)
def test_resubmit_failed_rows_submits_only_what_has_not_succeeded(
    bifrost_gateway: LocalGateway,
    run_example: RunExample,
    tmp_path: Path,
    prompts: list[str],
    resubmitted: list[str],
) -> None:
    lines = [
        {"custom_id": f"row-{number}", "body": {"messages": [{"role": "user", "content": prompt}]}}
        for number, prompt in enumerate(prompts, start=1)
    ]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))

    run = run_example("resubmit_failed_rows", {"input_path": str(rows), "folder": str(tmp_path)})

    again = tmp_path / run.run_id / "again.jsonl"
    assert [json.loads(line)["custom_id"] for line in again.read_text().splitlines()] == resubmitted
    assert states(run)["download"] == "success"
    assert states(run)["download_again"] == ("success" if resubmitted else "skipped")
    assert len(bifrost_gateway.batches) == (2 if resubmitted else 1)
    if resubmitted:
        [second] = read_rows(tmp_path / run.run_id / "second.jsonl")
        assert (second["custom_id"], second["outcome"]) == ("row-2", "succeeded")


def test_every_example_is_run_by_a_test_of_its_name() -> None:
    tests = Path(__file__).read_text()
    for example in EXAMPLES.glob("*.py"):
        assert f"def test_{example.stem}_" in tests
