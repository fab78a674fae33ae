"""BatchRunOperator and BatchSubmitOperator with tables: which request each row becomes, and which columns its result carries."""

from __future__ import annotations

import csv
import gzip
import logging
import shutil
from pathlib import Path
from typing import Any

import pandas
import pytest
from airflow.sdk import DAG, task, task_group
from airflow.sdk.definitions.param import DagParam
from support.airflow import Store, TaskOutput, run_to_its_end
from support.runs import UNREADABLE, run

from airflow_bifrost import BatchRunOperator, BatchSubmitOperator
from airflow_bifrost.exceptions import BatchInputError
from airflow_bifrost.results import read_rows
from airflow_bifrost.testing import Fault, LocalGateway
from airflow_bifrost.worker.rows import resolved

REVIEWS = [{"id": 1, "review": "fine"}, {"id": 2, "review": "poor"}]


@pytest.fixture
def gateway(quick_gateway: LocalGateway) -> LocalGateway:
    return quick_gateway


def write_csv(path: Path, rows: list[dict[str, Any]]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def test_a_frame_comes_back_with_its_ids_and_the_carried_columns(gateway: LocalGateway, output: str) -> None:
    end = run(output, pandas.DataFrame(REVIEWS), prompt="Classify: {review}", id_column="id", keep=["review"])
    assert end.state == "success", end.error
    rows = list(read_rows(output))
    assert [(row["custom_id"], row["text"]) for row in rows] == [
        ("1", "echo: Classify: fine"),
        ("2", "echo: Classify: poor"),
    ]
    assert [row["source"] for row in rows] == [{"review": "fine"}, {"review": "poor"}]


def test_rows_without_carried_columns_have_no_source(gateway: LocalGateway, output: str) -> None:
    run(output, REVIEWS, prompt="{review}")
    assert all("source" not in row for row in read_rows(output))


def test_a_row_without_a_result_carries_its_columns_too(gateway: LocalGateway, output: str) -> None:
    end = run(output, [{"a": "!fail 400"}, {"a": "fine"}], prompt="{a}", keep=["a"], max_row_attempts=1)
    assert end.state == "success", end.error
    assert [(row["outcome"], row["source"]["a"]) for row in read_rows(output)] == [
        ("failed", "!fail 400"),
        ("succeeded", "fine"),
    ]


ONE, OTHER = [{"a": "x", "b": "y"}], [{"a": "z", "b": "y"}]


def test_a_retry_with_another_keep_continues_with_the_earlier_columns_and_warns(
    gateway: LocalGateway, output: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store()
    gateway.inject(Fault(**UNREADABLE))
    assert run(output, ONE, store=store, prompt="{a}", keep=["a"], deferrable=False).state == "failed"
    gateway.clear_faults()
    end = run(output, ONE, store=store, try_number=2, prompt="{a}", keep=["b"])
    assert end.state == "success", end.error
    assert [row["source"] for row in read_rows(output)] == [{"a": "x"}]
    assert "The columns that keep names, or their values, differ" in caplog.text
    assert len(gateway.batches) == 1


def test_rows_that_come_back_with_another_keep_carry_the_new_columns(gateway: LocalGateway, output: str) -> None:
    store = Store()
    gateway.inject(Fault(**UNREADABLE))
    for try_number, rows in enumerate((ONE, OTHER), start=1):
        end = run(output, rows, store=store, try_number=try_number, prompt="{a}", keep=["a"], deferrable=False)
        assert end.state == "failed"
    gateway.clear_faults()
    end = run(output, ONE, store=store, try_number=3, prompt="{a}", keep=["b"])
    assert end.state == "success", end.error
    assert [row["source"] for row in read_rows(output)] == [{"b": "y"}]


@pytest.mark.parametrize("provider", ["anthropic", "gemini"])
def test_the_id_column_works_for_each_form_of_a_line(gateway: LocalGateway, output: str, provider: str) -> None:
    params = {"max_tokens": 50} if provider == "anthropic" else None
    end = run(output, REVIEWS, prompt="{review}", id_column="id", provider=provider, request_params=params)
    assert end.state == "success", end.error
    assert [row["custom_id"] for row in read_rows(output)] == ["1", "2"]


def test_files_in_a_folder_follow_each_other_in_the_order_of_their_names(
    gateway: LocalGateway, output: str, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    (folder / "day=2").mkdir(parents=True)
    (folder / "_SUCCESS").touch()
    write_csv(folder / "day=2" / "b.csv", REVIEWS[1:])
    content = Path(write_csv(tmp_path / "a.csv", REVIEWS[:1])).read_bytes()
    (folder / "a.csv.gz").write_bytes(gzip.compress(content))
    end = run(output, input_path=str(folder), prompt="{review}", id_column="id")
    assert end.state == "success", end.error
    assert [row["custom_id"] for row in read_rows(output)] == ["1", "2"]


def test_a_pattern_selects_files_and_an_error_names_the_file(
    gateway: LocalGateway, output: str, tmp_path: Path
) -> None:
    write_csv(tmp_path / "in-1.csv", REVIEWS)
    write_csv(tmp_path / "in-2.csv", [{"id": 3, "other": "x"}])
    write_csv(tmp_path / "out-3.csv", [{"id": 4, "nothing": "x"}])
    end = run(output, input_path=f"{tmp_path}/in-*.csv", prompt="{review}")
    assert isinstance(end.error, BatchInputError)
    assert "row 1 of in-2.csv has no column 'review': it has 'id', 'other'" in str(end.error)
    assert not gateway.batches


@pytest.mark.parametrize(
    ("path", "error"), [("{}/none.csv", "no file at"), ("{}/none-*.csv", "no file at"), ("{}", "no file of rows")]
)
def test_a_path_without_a_file_is_an_error_instead_of_empty_input(
    gateway: LocalGateway, tmp_path: Path, path: str, error: str
) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(FileNotFoundError, match=error):
        run(str(tmp_path / "out.jsonl"), input_path=path.format(tmp_path / "in"), prompt="{review}")
    assert not gateway.requests


@pytest.mark.parametrize("spelling", ["{}", "{}/", "{}/*.jsonl", "{}/../in/o*"])
def test_an_output_among_the_inputs_is_an_error(gateway: LocalGateway, tmp_path: Path, spelling: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_text('"a"\n')
    end = run(str(folder / "out.jsonl"), input_path=spelling.format(folder))
    assert "includes output_path" in str(end.error)
    assert not gateway.requests


@pytest.mark.parametrize("rows", [pandas.DataFrame(REVIEWS), "in.csv"], ids=["frame", "file"])
def test_a_table_without_a_prompt_is_an_error_that_lists_its_columns(
    gateway: LocalGateway, output: str, tmp_path: Path, rows: Any
) -> None:
    path = write_csv(tmp_path / "in.csv", REVIEWS)
    end = run(output, input_path=path) if isinstance(rows, str) else run(output, rows)
    assert isinstance(end.error, BatchInputError)
    assert "with the columns 'id', 'review', and the task has no `prompt`" in str(end.error)
    assert not gateway.batches


def test_the_rows_of_a_dict_reader_without_a_prompt_are_an_error_that_names_their_keys(
    gateway: LocalGateway, output: str, tmp_path: Path
) -> None:
    with Path(write_csv(tmp_path / "in.csv", REVIEWS)).open(newline="") as file:
        end = run(output, list(csv.DictReader(file)))
    assert isinstance(end.error, BatchInputError)
    assert "without `messages`, which /v1/chat/completions of openai needs: it has 'id', 'review'" in str(end.error)
    assert not gateway.batches


BARE = {
    ("openai", "/v1/chat/completions"): "`messages`",
    ("openai", "/v1/embeddings"): "`input`",
    ("openai", "/v1/completions"): "`prompt`",
    ("azure", "/chat/completions"): "`messages`",
    ("anthropic", "/v1/chat/completions"): "`messages`",
    ("gemini", "/v1/chat/completions"): "`contents`",
    ("bedrock", "/v1/chat/completions"): "`messages`",
    ("a new one", "/v1/responses"): "`input`",
}


@pytest.mark.parametrize(("provider", "endpoint"), BARE)
def test_a_body_without_the_member_that_asks_is_an_error_that_on_bare_body_overrides(
    gateway: LocalGateway, output: str, provider: str, endpoint: str
) -> None:
    arguments: dict[str, Any] = {"provider": provider, "endpoint": endpoint, "request_params": {"max_tokens": 9}}
    end = run(output, [{"temperature": 0}] * 100, **arguments)
    assert isinstance(end.error, BatchInputError)
    assert f"without {BARE[provider, endpoint]}" in str(end.error)
    assert not gateway.batches
    sent = run(output, [{"temperature": 0}] * 100, **arguments, on_bare_body="send", max_rows=99)
    assert "max_rows=99" in str(sent.error)  # every row was good enough to be counted


def test_a_tuple_is_an_error_that_shows_how_to_name_its_columns(gateway: LocalGateway, output: str) -> None:
    end = run(output, [(1, "fine")])
    assert "row 1 is tuple" in str(end.error)
    assert 'prompt="Classify: {0}"' in str(end.error)
    assert run(output, [(1, "fine")], prompt="Classify: {1}").state == "success"


def test_an_id_that_is_a_whole_number_is_sent_as_text_and_the_log_says_so_once(
    gateway: LocalGateway, output: str, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    with caplog.at_level(logging.INFO, "airflow.task"):
        end = run(output, [{"custom_id": number, "body": body} for number in (7, 8)])
    assert end.state == "success", end.error
    assert [row["custom_id"] for row in read_rows(output)] == ["7", "8"]
    assert [record.message for record in caplog.records if "whole number" in record.message] == [
        "2 rows have a whole number as their ID. It was sent as text."
    ]


@pytest.mark.parametrize(
    ("rows_later", "kept"), [(REVIEWS, ["fine", "poor"]), ([{"id": 3, "review": "new"}], [None, None])]
)
def test_carried_columns_are_rebuilt_if_the_runs_folder_is_lost_or_else_null(
    gateway: LocalGateway, output: str, rows_later: Any, kept: list[str | None]
) -> None:
    tasks: list[BatchRunOperator] = []

    def make_task() -> BatchRunOperator:
        if tasks:  # the task resumes, on a worker that has lost the folder
            for folder in Path(output).parent.glob("*-parts"):
                shutil.rmtree(folder)
        rows = rows_later if tasks else REVIEWS
        arguments: dict[str, Any] = {"model": "echo-1", "poll_interval": 0.05, "prompt": "{review}", "keep": ["review"]}
        tasks.append(BatchRunOperator(task_id="run", output_path=output, rows=rows, **arguments))
        return tasks[-1]

    end = run_to_its_end(make_task)
    assert end.state == "success", end.error
    assert [(row["source"] or {}).get("review") for row in read_rows(output)] == kept


def test_the_manifest_the_log_and_the_error_say_why_rows_failed(
    gateway: LocalGateway, output: str, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = ["!fail 400", "!fail 400", "fine", "!fail 500"]
    end = run(output, prompts, max_row_attempts=1, max_failed_rows=2)
    assert end.kind == "BatchFailed"
    assert end.xcoms["errors"] == {"invalid_request_error": 2, "server_error": 1}
    assert end.xcoms["reasons"][0] == {
        "code": "invalid_request_error",
        "rows": 2,
        "message": "The row asked to fail.",
        "custom_ids": ["row-000000001", "row-000000002"],
    }
    assert "3 of 4 rows have no answer, and max_failed_rows is 2: 1 succeeded, 3 failed" in str(end.error)
    assert (
        "Most frequent: 2 invalid_request_error (The row asked to fail.; rows row-000000001, row-000000002); 1 server_error"
        in str(end.error)
    )
    table = next(record.message for record in caplog.records if "Why rows did not succeed" in record.message)
    assert [line.split()[:2] for line in table.splitlines()[1:]] == [
        ["rows", "code"],
        ["2", "invalid_request_error"],
        ["1", "server_error"],
    ]


@pytest.mark.parametrize(
    ("limit", "state"), [(1, "success"), (0, "failed"), (0.25, "success"), (0.2, "failed"), (None, "success")]
)
def test_max_failed_rows_is_a_number_or_a_share_of_the_rows(
    gateway: LocalGateway, output: str, limit: Any, state: str
) -> None:
    end = run(output, ["!fail 400", "a", "b", "c"], max_row_attempts=1, max_failed_rows=limit)
    assert end.state == state, end.error


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "2%"])
def test_a_wrong_max_failed_rows_is_an_error_when_the_dag_is_parsed(wrong: Any) -> None:
    with pytest.raises(ValueError, match="max_failed_rows must be a number of rows"):
        BatchRunOperator(task_id="run", rows=[], output_path="o", max_failed_rows=wrong)


@pytest.mark.parametrize(
    ("prompt", "text"), [(lambda row: f"Is {row['a']} good?", "Is x good?"), ("{a} on {{ ds }}", "x on 2026-01-02")]
)
def test_a_prompt_is_a_template_or_a_function_after_airflow_has_rendered_the_task(
    gateway: LocalGateway, output: str, prompt: Any, text: str
) -> None:
    context: dict[str, Any] = {"ds": "2026-01-02"}

    def make_task() -> BatchRunOperator:
        task = BatchRunOperator(
            task_id="run", output_path=output, rows=[{"a": "x"}], prompt=prompt, model="echo-1", poll_interval=0.05
        )
        task.render_template_fields(context)  # type: ignore[arg-type]
        return task

    end = run_to_its_end(make_task, context=context)
    assert end.state == "success", end.error
    assert [row["text"] for row in read_rows(output)] == [f"echo: {text}"]


def resolved_rows(rows: Any, **context: Any) -> list[Any]:
    return list(resolved(rows, BatchSubmitOperator(task_id="submit", rows=rows), context))  # type: ignore[arg-type]


def test_an_item_of_a_list_that_another_task_returns_stands_for_its_rows() -> None:
    assert resolved_rows(["a", TaskOutput("b"), TaskOutput(["c", "d"]), TaskOutput({"e": 1})]) == [
        "a",
        "b",
        "c",
        "d",
        {"e": 1},
    ]


def test_rows_given_as_a_template_are_rendered_and_text_is_an_error() -> None:
    with DAG("native", render_template_as_native_obj=True) as dag:
        submit = BatchSubmitOperator(task_id="submit", rows="{{ reviews }}")
    assert resolved(submit.rows, submit, {"reviews": ["a", "b"]}) == ["a", "b"]  # type: ignore[arg-type]
    assert dag.task_ids == ["submit"]
    with pytest.raises(ValueError, match="rows must be a list of rows or a table, not text"):
        resolved_rows("{{ reviews }}", reviews=["a"])


def test_a_parameter_of_the_dag_is_resolved() -> None:
    with DAG("dag") as dag:
        assert resolved_rows(DagParam(dag, "reviews", ["a"])) == ["a"]


def test_a_task_depends_on_each_task_whose_output_it_uses() -> None:
    with DAG("dag") as dag:

        @task
        def reviews() -> list[str]:
            return ["a"]

        @task
        def style() -> str:
            return "Be brief."

        @task_group
        def group(rows: Any) -> None:
            BatchSubmitOperator(task_id="mapped", rows=rows)

        first, second = reviews.override(task_id="first")(), reviews.override(task_id="second")()
        submit = BatchSubmitOperator(
            task_id="submit", rows=[first, second], system_prompt=style(), model=style.override(task_id="model")()
        )
        group.expand(rows=reviews.override(task_id="lists")())
    assert submit.upstream_task_ids == {"first", "second", "style", "model"}
    assert dag.get_task("group.mapped").upstream_task_ids == {"lists"}
