"""BatchRunOperator over real HTTP: rows in, rows out."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from support.airflow import Store
from support.runs import CREATE, Submissions, cancel, outcomes, run

from airflow_bifrost import BatchRunOperator, BifrostHook
from airflow_bifrost._compat import AirflowFailException
from airflow_bifrost.exceptions import BatchFailed, BatchInputError, BifrostProtocolError
from airflow_bifrost.results import read_rows
from airflow_bifrost.submission.ledger import LedgerTiming
from airflow_bifrost.testing import Fault, LocalGateway
from airflow_bifrost.waiting import policy
from airflow_bifrost.worker import submit as submit_module


@pytest.fixture
def gateway(quick_gateway: LocalGateway) -> LocalGateway:
    return quick_gateway


def test_each_row_has_its_result_in_the_order_of_the_input(gateway: LocalGateway, output: str) -> None:
    prompts = [f"prompt {number}" for number in range(20)]
    end = run(output, prompts)
    assert end.state == "success", end.error
    rows = list(read_rows(output))
    assert [row["text"] for row in rows] == [f"echo: {prompt}" for prompt in prompts]
    assert end.value["output_path"] == output
    assert end.value["rows"]["total"] == end.value["rows"]["succeeded"] == 20
    assert end.value["usage"]["total_tokens"] == sum(row["usage"]["total_tokens"] for row in rows)
    assert list(end.value["usage_by_model"]) == ["echo-1"]
    assert [summary["outcome"] for summary in end.value["batches"]] == ["succeeded"]
    assert end.deferrals == 1


@pytest.mark.parametrize("provider", ["azure", "anthropic", "gemini"])
def test_it_works_the_same_for_other_providers(gateway: LocalGateway, output: str, provider: str) -> None:
    params = {"max_tokens": 50} if provider == "anthropic" else None
    end = run(output, ["a", "b"], provider=provider, request_params=params)
    assert end.state == "success", end.error
    assert [row["custom_id"] for row in read_rows(output)] == ["row-000000001", "row-000000002"]
    assert all(row["text"] for row in read_rows(output))


def test_it_works_in_the_worker_too(gateway: LocalGateway, output: str) -> None:
    end = run(output, ["a"], deferrable=False)
    assert (end.state, end.deferrals, outcomes(output)) == ("success", 0, ["succeeded"])


def test_nothing_but_the_output_and_its_receipt_is_left(gateway: LocalGateway, output: str) -> None:
    run(output, ["a"])
    names = sorted(path.name for path in Path(output).parent.rglob("*"))
    assert [re.sub("[0-9a-f]{12}", "12", name) for name in names] == ["out.jsonl", "out.jsonl.bifrost-12-receipt.json"]


@pytest.mark.usefixtures("small_parts")
def test_a_large_input_is_split_into_batches_and_only_some_run_at_a_time(
    gateway: LocalGateway, output: str, submissions: Submissions
) -> None:
    at_once: list[int] = []

    def count_running(_: list[str]) -> None:
        at_once.append(sum(batch["status"] in ("validating", "in_progress") for batch in gateway.batches))

    submissions.after = count_running
    end = run(output, [str(number) for number in range(20)], max_parallel_batches=2)
    assert end.state == "success", end.error
    assert [row["text"] for row in read_rows(output)] == [f"echo: {number}" for number in range(20)]
    assert len(gateway.batches) == len(end.value["batches"]) == 7
    assert max(at_once) <= 2


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("deferrable", [True, False])
def test_a_batch_is_submitted_when_any_other_ends_even_if_a_slow_one_still_runs(
    gateway: LocalGateway, output: str, submissions: Submissions, deferrable: bool
) -> None:
    def keep_the_first_running(batch_ids: list[str]) -> None:
        if len(batch_ids) == 1:
            gateway.set_batch(batch_ids[0], status="in_progress")
        if len(batch_ids) == 5:
            gateway.set_batch(batch_ids[0], status=None)

    submissions.after = keep_the_first_running
    rows = [str(number) for number in range(14)]
    end = run(output, rows, max_parallel_batches=2, deferrable=deferrable, timeout=30)
    assert end.state == "success", end.error
    assert [row["text"] for row in read_rows(output)] == [f"echo: {row}" for row in rows]


def test_rows_with_transient_errors_are_sent_again_and_others_are_not(gateway: LocalGateway, output: str) -> None:
    end = run(output, ["fine", "!flaky 503", "!fail 400", "!expire"], max_row_attempts=3)
    assert end.state == "success", end.error
    assert outcomes(output)[:3] == ["succeeded", "succeeded", "failed"]
    assert [batch["rows"] for batch in gateway.batches][:2] == [4, 2]
    assert len(gateway.batches) <= 3


def test_a_row_is_sent_no_more_than_max_row_attempts_times(gateway: LocalGateway, output: str) -> None:
    end = run(output, ["fine", "!fail 503"], max_row_attempts=2)
    assert end.state == "success"
    assert outcomes(output) == ["succeeded", "failed"]
    assert [batch["rows"] for batch in gateway.batches] == [2, 1]


def test_fewer_results_than_a_batch_counts_fail_the_task_and_nothing_is_written(
    gateway: LocalGateway, output: str
) -> None:
    end = run(output, ["a", "!missing", "b"])
    assert isinstance(end.error, BifrostProtocolError)
    assert "2 results can be read, but the batch counts 3" in str(end.error)
    assert not Path(output).exists()


def test_rows_without_a_result_are_missing_if_that_is_allowed(
    gateway: LocalGateway, output: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run(output, ["a", "!missing", "b"], allow_incomplete=True)
    assert outcomes(output) == ["succeeded", "missing", "succeeded"]
    assert "1 rows without a result" in caplog.text


@pytest.mark.parametrize(
    "body", [b"\x00 not a file", b"", {"error": {"message": "no"}}], ids=["garbage", "empty", "error"]
)
def test_a_retry_reads_unreadable_results_again_and_pays_nothing_twice(
    gateway: LocalGateway, output: str, body: Any
) -> None:
    store = Store()
    gateway.inject(Fault(status=200, body=body, path_contains="/content", times=4))
    end = run(output, ["a", "b"], store=store)
    assert isinstance(end.error, BifrostProtocolError), end
    assert not isinstance(end.error, AirflowFailException)
    assert not Path(output).exists()
    assert run(output, ["a", "b"], store=store).state == "success"
    assert outcomes(output) == ["succeeded", "succeeded"]
    assert len(gateway.batches) == 1


def test_without_any_success_the_task_fails_but_writes_the_output(gateway: LocalGateway, output: str) -> None:
    end = run(output, ["!fail 400", "!fail 422"])
    assert isinstance(end.error, BatchFailed)
    assert "2 failed" in str(end.error)
    assert outcomes(output) == ["failed", "failed"]
    assert end.xcoms["rows"]["failed"] == 2


def test_the_user_chooses_the_accepted_outcomes(gateway: LocalGateway, output: str) -> None:
    assert isinstance(run(output, ["a", "!fail 400"], accept=["succeeded"]).error, BatchFailed)
    assert run(output, ["!fail 400"], accept=["failed"]).state == "success"
    assert run(output, ["!fail 400"], soft_fail=True).state == "skipped"


def test_rows_of_a_batch_that_is_cancelled_are_cancelled(gateway: LocalGateway, output: str) -> None:
    class Cancelling(Store):
        def set(self, key: str, value: Any) -> None:
            super().set(key, value)
            for batch in gateway.batches:
                cancel(gateway, batch["id"])

    store = Cancelling()
    end = run(output, ["a", "b"], store=store)
    assert isinstance(end.error, BatchFailed)
    assert outcomes(output) == ["cancelled", "cancelled"]
    again = Store(store)  # a clear
    assert run(output, ["a", "b"], store=again, try_number=2).state == "success"
    assert outcomes(output) == ["succeeded", "succeeded"]


def test_without_rows_the_task_is_skipped_and_submits_nothing(gateway: LocalGateway, output: str) -> None:
    assert run(output, []).state == "skipped"
    assert not gateway.batches
    assert not Path(output).exists()


def test_a_wrong_row_is_named_before_anything_is_sent(gateway: LocalGateway, output: str) -> None:
    end = run(output, ["a", 7])
    assert isinstance(end.error, BatchInputError)
    assert end.error.errors[0][0] == 2
    assert not gateway.requests


def test_rows_that_are_sent_again_are_split_by_the_gateways_upload_limit(
    monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.setattr(policy, "PACE", policy.Pace(min_interval=0.0))
    with LocalGateway(batch_seconds=0.2, max_body_mb=1) as gateway:
        monkeypatch.setenv("AIRFLOW_CONN_BIFROST_DEFAULT", gateway.connection_json(token="sk-bf-good"))
        rows = [f"!flaky 503 {number} " + "x" * 300_000 for number in range(6)]
        end = run(output, rows, max_request_body_size_mb=1)
        assert end.state == "success", end.error
        assert [batch["rows"] for batch in gateway.batches] == [3, 3, 3, 3]


@pytest.mark.parametrize(
    "spelling", ["{folder}/out.jsonl", "file://{folder}/out.jsonl", "{folder}/./a/../out.jsonl", "link"]
)
def test_the_output_never_replaces_the_input_in_any_spelling_of_the_paths(
    gateway: LocalGateway, output: str, spelling: str, tmp_path: Path
) -> None:
    Path(output).write_text('"a"\n')
    link = tmp_path / "link.jsonl"
    link.symlink_to(output)
    end = run(output, input_path=str(link) if spelling == "link" else spelling.format(folder=tmp_path))
    assert "includes output_path" in str(end.error)
    assert Path(output).read_text() == '"a"\n'
    assert not gateway.requests


@pytest.mark.parametrize("path", ["", "{folder}", "{folder}/new/", "foo://bucket/out.jsonl"])
def test_an_output_that_cannot_be_written_is_an_error_before_anything_is_submitted(
    gateway: LocalGateway, tmp_path: Path, path: str
) -> None:
    end = run(path.format(folder=tmp_path), ["a"])
    assert isinstance(end.error, ValueError)
    assert not gateway.requests


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "give exactly one of rows, input_path"),
        ({"rows": ["a"], "input_path": "b"}, "give exactly one of rows, input_path"),
        ({"rows": ["a"], "max_parallel_batches": 0}, "max_parallel_batches must be a whole number"),
        ({"rows": ["a"], "max_row_attempts": True}, "max_row_attempts must be a whole number"),
        ({"rows": ["a"], "accept": ["fine"]}, "accept has the unknown outcome 'fine'"),
    ],
    ids=str,
)
def test_wrong_arguments_are_an_error_when_the_dag_is_parsed(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BatchRunOperator(task_id="run", output_path="out.jsonl", **arguments)


class Verdict(BaseModel):
    good: bool
    words: list[str]


def test_answers_become_validated_objects(gateway: LocalGateway, output: str) -> None:
    end = run(output, ['!say {"good": true, "words": ["a"]}', "!say no JSON"], output_type=Verdict, max_row_attempts=2)
    assert end.state == "success", end.error
    good, bad = read_rows(output)
    assert (good["outcome"], good["output"]) == ("succeeded", {"good": True, "words": ["a"]})
    assert (bad["outcome"], bad["error"]["code"], bad["text"]) == ("failed", "invalid_output", "no JSON")
    spent = good["usage"]["total_tokens"] + 2 * bad["usage"]["total_tokens"]  # each answer is paid for
    assert end.value["usage"]["total_tokens"] == spent
    assert [batch["rows"] for batch in gateway.batches] == [2, 1]


def test_a_request_has_the_schema_and_the_other_parameters(gateway: LocalGateway, output: str) -> None:
    end = run(
        output,
        ["hi"],
        output_type=Verdict,
        request_params={"temperature": 0},
        cleanup="never",
    )
    assert end.state == "success", end.error
    [row] = read_rows(output)
    assert row["output"] == json.loads(row["text"])
    with BifrostHook() as hook, hook.file_content(gateway.batches[0]["input_file_id"]) as chunks:
        body = json.loads(b"".join(chunks))["body"]
    assert body["temperature"] == 0
    assert set(body["response_format"]["json_schema"]["schema"]["properties"]) == {"good", "words"}


def test_a_request_parameter_that_conflicts_with_the_schema_is_an_error(gateway: LocalGateway, output: str) -> None:
    end = run(output, ["hi"], output_type=Verdict, request_params={"response_format": "text"})
    assert "request_params sets response_format" in str(end.error)


def test_duplicates_that_the_gateway_made_are_in_the_manifest(
    gateway: LocalGateway, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.inject(Fault(drop=True, applied=True, **CREATE))

    def with_a_twin(_: float) -> None:
        if len(gateway.batches) == 1:
            [batch] = gateway.batches
            gateway.add_batch(status="in_progress", metadata=batch["metadata"], created_at=batch["created_at"] + 1)

    monkeypatch.setattr(submit_module, "TIMING", LedgerTiming(sleep=with_a_twin, settle=1.0, late=1.0))
    end = run(output, ["a"])
    assert end.state == "success", end.error
    [twin] = end.value["duplicates"]
    assert {batch["id"]: batch["status"] for batch in gateway.batches}[twin] in ("cancelling", "cancelled")


def test_counts_that_differ_from_the_batches_own_are_logged(
    gateway: LocalGateway, output: str, submissions: Submissions, caplog: pytest.LogCaptureFixture
) -> None:
    def count_wrongly(batch_ids: list[str]) -> None:
        gateway.set_batch(batch_ids[-1], request_counts={"total": 9, "completed": 9, "failed": 0})

    submissions.after = count_wrongly
    caplog.set_level(logging.WARNING)
    assert run(output, ["a"]).state == "success"
    [batch] = gateway.batches
    assert f"counts differ from its results. Batch {batch['id']}: total: the batch counts 9" in caplog.text


def test_unicode_and_a_megabyte_in_one_row_come_back_unchanged(gateway: LocalGateway, output: str) -> None:
    prompts = ["\u2028 line\u2029 separators \x85", "😀 \U0001f9d1\u200d\U0001f680", "\u0000 null", "é" * 500_000]
    end = run(output, prompts)
    assert end.state == "success", end.error
    assert [row["text"] for row in read_rows(output)] == [f"echo: {prompt}" for prompt in prompts]


def test_more_rows_than_a_batch_takes_come_back_in_order(gateway: LocalGateway, tmp_path: Path, output: str) -> None:
    path = tmp_path / "in.jsonl"
    with path.open("w") as file:
        file.writelines(f'"prompt {number}"\n' for number in range(60_000))
    end = run(output, input_path=str(path), max_row_attempts=1)
    assert end.state == "success", end.error
    assert len(gateway.batches) == 2
    assert all(row["text"] == f"echo: prompt {number}" for number, row in enumerate(read_rows(output)))
    assert end.value["rows"]["succeeded"] == 60_000
