"""BatchSubmitOperator over real HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.airflow import End, FakeTI, Store, run_to_its_end

from airflow_bifrost import BatchSubmitOperator, BifrostHook
from airflow_bifrost.exceptions import BatchInputError, SubmissionInDoubt
from airflow_bifrost.submission.ledger import LedgerTiming
from airflow_bifrost.testing import Fault, LocalGateway, ProviderAnswer
from airflow_bifrost.worker import submit as submit_module

ROWS = ["Say yes.", {"messages": [{"role": "user", "content": "{{ ds }}"}]}]
CREATE = {"method": "POST", "path_contains": "/batches"}


@pytest.fixture(autouse=True)
def no_waiting_for_the_gateway_to_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit_module, "TIMING", LedgerTiming(settle=0.0, late=0.0, sleep=lambda _: None))


def submit(store: Store | None = None, *, try_number: int = 1, remembering: bool = True, **arguments: Any) -> End:
    arguments = {"rows": ROWS, "model": "echo-1"} | arguments
    if "input_path" in arguments or "input_file_id" in arguments:
        del arguments["rows"]
    ti = FakeTI(task_id="submit", try_number=try_number)
    make = lambda: BatchSubmitOperator(task_id="submit", **arguments)  # noqa: E731
    return run_to_its_end(make, ti=ti, store=store, remembering=remembering)


def sent_rows(gateway: LocalGateway, batch_id: str) -> list[dict[str, Any]]:
    with BifrostHook() as hook:
        batch = hook.get_batch(batch_id)
        with hook.file_content(batch.input_file_id or "") as chunks:
            return [json.loads(line) for line in b"".join(chunks).splitlines()]


def test_the_return_value_is_the_id_of_the_batch(gateway: LocalGateway) -> None:
    end = submit(metadata={"team": "search"})
    [batch] = gateway.batches
    assert (end.state, end.value) == ("success", batch["id"])
    assert batch["endpoint"] == "/v1/chat/completions"
    assert batch["metadata"]["team"] == "search"


def test_a_prompt_that_looks_like_a_template_is_sent_unchanged(gateway: LocalGateway) -> None:
    rows = sent_rows(gateway, submit(system_prompt="Be brief.", request_params={"max_tokens": 5}).value)
    assert [row["body"]["messages"][-1]["content"] for row in rows] == ["Say yes.", "{{ ds }}"]
    assert {row["body"]["max_tokens"] for row in rows} == {5}


@pytest.mark.parametrize("provider", ["openai", "azure", "anthropic", "gemini"])
def test_prompts_become_a_batch_of_each_provider(gateway: LocalGateway, provider: str) -> None:
    end = submit(
        rows=["a", "b", "c"], provider=provider, request_params={"max_tokens": 5} if provider == "anthropic" else None
    )
    assert end.state == "success"
    [batch] = gateway.batches
    assert (batch["provider"], batch["rows"]) == (provider, 3)


def test_bedrock_gets_its_arguments(gateway: LocalGateway) -> None:
    end = submit(
        rows=["hello"] * 100,
        provider="bedrock",
        model="anthropic.claude-3",
        request_params={"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9},
        extra_body={"role_arn": "arn:aws:iam::1:role/batch", "output_s3_uri": "s3://bucket/out/"},
        extra_form={"storage_config[s3][bucket]": "bucket"},
    )
    assert end.state == "success", end.error
    [batch] = gateway.batches
    assert (batch["provider"], batch["rows"]) == ("bedrock", 100)


def test_inputs_of_bedrock_never_overwrite_each_other_in_the_bucket(gateway: LocalGateway) -> None:
    rest = {
        "provider": "bedrock",
        "model": "anthropic.claude-3",
        "request_params": {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9},
        "extra_body": {"role_arn": "arn:aws:iam::1:role/batch", "output_s3_uri": "s3://bucket/out/"},
        "extra_form": {"storage_config[s3][bucket]": "bucket"},
    }
    for word in ("yesterday", "today"):
        assert submit(rows=[word] * 100, **rest).state == "success"
    assert len({batch["input_file_id"] for batch in gateway.batches}) == 2


def test_values_that_a_create_call_cannot_hold_are_an_error_before_anything_is_sent_or_recorded(
    gateway: LocalGateway,
) -> None:
    store, rest = Store(), {"provider": "anthropic", "rows": ["a"], "request_params": {"max_tokens": 5}}
    assert "metadata['day'] must be a string" in str(submit(store, metadata={"day": 1}, **rest).error)
    assert not gateway.requests
    assert submit(store, try_number=2, metadata={"day": "1"}, **rest).state == "success"


def test_rows_can_come_from_a_jsonl_file(gateway: LocalGateway, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('"one"\n\n{"custom_id": "b", "body": {"model": "m", "messages": ["Hi"]}}\n')
    end = submit(input_path=str(path), model="m")
    assert [row["custom_id"] for row in sent_rows(gateway, end.value)] == ["row-000000001", "b"]


def test_a_wrong_line_is_named_before_anything_is_sent(gateway: LocalGateway, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('"one"\n\n{"body": \n')
    end = submit(input_path=str(path))
    assert end.kind == "BatchInputError"
    assert "line 3" in str(end.error)
    assert not gateway.requests


def test_a_file_that_is_already_at_the_provider_needs_no_rows(gateway: LocalGateway) -> None:
    line = {"custom_id": "1", "method": "POST", "url": "/v1/embeddings", "body": {"model": "e", "input": "x"}}
    file_id = gateway.add_file(json.dumps(line).encode())
    end = submit(input_file_id=file_id, endpoint="/v1/embeddings")
    [batch] = gateway.batches
    assert (end.value, batch["input_file_id"]) == (batch["id"], file_id)


def test_without_rows_the_task_is_skipped_and_submits_nothing(gateway: LocalGateway) -> None:
    assert submit(rows=[]).state == "skipped"
    assert not gateway.batches


@pytest.mark.parametrize(("on_changed_input", "cancels"), [("leave", 0), ("cancel", 1)])
def test_a_retry_without_rows_supersedes_the_batch_of_the_attempt_before_and_is_then_skipped(
    on_changed_input: str, cancels: int, gateway: LocalGateway
) -> None:
    store = Store()
    batch_id = submit(store, rows=["hi"]).value
    gateway.set_batch(batch_id, status="in_progress")
    end = submit(store, try_number=2, rows=[], on_changed_input=on_changed_input)
    assert end.state == "skipped"
    assert sum(request.path.endswith(f"{batch_id}/cancel") for request in gateway.requests) == cancels


def test_more_rows_than_one_batch_takes_are_an_error_that_names_the_operator_for_it(
    gateway: LocalGateway, tmp_path: Path
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('"x"\n' * 50_001)
    end = submit(input_path=str(path))
    assert isinstance(end.error, BatchInputError)
    assert "BatchRunOperator" in str(end.error)
    assert not gateway.requests


def test_max_rows_stops_the_task_before_the_upload(gateway: LocalGateway) -> None:
    end = submit(rows=["a", "b"], max_rows=1)
    assert "max_rows=1" in str(end.error)
    assert not gateway.requests


def test_a_retry_and_a_clear_continue_with_the_batch(gateway: LocalGateway) -> None:
    store = Store()
    ids = {submit(store, try_number=number).value for number in (1, 2, 3)}
    assert len(ids) == len(gateway.batches) == 1


def test_without_a_state_store_they_find_it_in_the_list(gateway: LocalGateway) -> None:
    ids = {submit(try_number=number, remembering=False).value for number in (1, 2, 3)}
    assert len(ids) == len(gateway.batches) == 1


def test_other_rows_or_another_endpoint_are_another_batch(gateway: LocalGateway) -> None:
    store = Store()
    asked: list[dict[str, Any]] = [{}, {"rows": ["other"]}, {"rows": ["other"], "completion_window": "48h"}]
    ids = {submit(store, try_number=2, **arguments).value for arguments in asked}
    assert len(ids) == len(gateway.batches) == 3


def test_an_answer_that_is_lost_costs_no_second_batch(gateway: LocalGateway) -> None:
    gateway.inject(Fault(drop=True, applied=True, **CREATE))
    end = submit()
    [batch] = gateway.batches
    assert end.value == batch["id"]


def test_a_refused_create_is_made_again_in_the_same_attempt(
    gateway: LocalGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__BIFROST__RETRY_BUDGET", "300")
    gateway.inject(Fault(status=429, **CREATE))
    assert submit(Store()).state == "success"
    assert len(gateway.batches) == 1


def test_an_undetermined_submission_stops_the_task_until_a_user_decides(gateway: LocalGateway) -> None:
    store, rest = Store(), {"provider": "anthropic", "rows": ["a"], "request_params": {"max_tokens": 5}}
    gateway.inject(Fault(status=504, applied=True, **CREATE))
    assert submit(store, **rest).state == "failed"
    assert isinstance(submit(store, try_number=2, **rest).error, SubmissionInDoubt)
    assert submit(store, try_number=3, on_unknown="resubmit", **rest).state == "success"
    assert len(gateway.batches) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"rows": None}, "give exactly one of rows, input_path, input_file_id"),
        ({"rows": ["a"], "input_path": "b"}, "give exactly one of"),
        ({"rows": ["a"], "on_unknown": "ignore"}, "on_unknown must be 'fail', 'resubmit', "),
        ({"rows": ["a"], "on_changed_input": "kill"}, "on_changed_input must be 'leave' or 'cancel'"),
        ({"rows": ["a"], "resubmit": ("lost",)}, "lost"),
    ],
    ids=str,
)
def test_wrong_arguments_are_an_error_when_the_dag_is_parsed(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BatchSubmitOperator(task_id="submit", **arguments)


@pytest.mark.parametrize("rows", ["one prompt", {"a": 1}, 7], ids=repr)
def test_a_rows_argument_that_is_not_iterable_is_a_clear_error(gateway: LocalGateway, rows: Any) -> None:
    end = submit(rows=rows)
    assert "rows must be a list" in str(end.error)


@pytest.mark.parametrize("given", ["rows", "input_file_id"])
def test_nothing_is_submitted_after_a_kill_and_the_next_attempt_submits_once(given: str, gateway: LocalGateway) -> None:
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "echo-1"}}
    file_id = gateway.add_file(json.dumps(line).encode())
    arguments: dict[str, Any] = {"model": "echo-1"}
    arguments |= {"rows": ["hi"]} if given == "rows" else {"input_file_id": file_id}
    task = BatchSubmitOperator(task_id="submit", **arguments)

    class KilledBeforeTheCreate(Store):
        def set(self, key: str, value: Any) -> None:
            super().set(key, value)
            task.on_kill()  # Airflow calls it in its signal handler, and the task runs on

    store = KilledBeforeTheCreate()
    end = run_to_its_end(lambda: task, ti=FakeTI(task_id="submit"), store=store)
    assert end.kind == "TaskStopped", end.error
    assert not gateway.batches
    again = run_to_its_end(
        lambda: BatchSubmitOperator(task_id="submit", **arguments),
        ti=FakeTI(task_id="submit", try_number=2),
        store=Store(store),
    )
    assert again.state == "success", again.error
    assert len(gateway.batches) == 1


def test_a_provider_that_keeps_too_many_files_is_an_error_that_says_how_to_delete_them(gateway: LocalGateway) -> None:
    message = "The number of files in this resource has reached the limit: the maximum is 500."
    refusal = ProviderAnswer(status=400, body={"error": {"message": message, "code": "FileLimit"}})
    gateway.inject(Fault(call="file_upload", provider_answer=refusal))
    end = submit(provider="azure")
    assert end.kind == "BifrostRequestError"
    assert "the maximum is 500" in str(end.error)
    assert "cleanup" in str(end.error)
    assert "output_expires_after" in str(end.error)
    assert gateway.batches == []
