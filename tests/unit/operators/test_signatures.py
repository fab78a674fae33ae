"""Editors and type checkers see every argument of every operator, and no other name."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import airflow
import pytest
from airflow.sdk import BaseOperator
from mypy import api

import airflow_bifrost
from airflow_bifrost import (
    BatchCancelOperator,
    BatchDownloadOperator,
    BatchRetrieveOperator,
    BatchRunOperator,
    BatchSensor,
    BatchSubmitOperator,
)
from airflow_bifrost.decorators.batch import NOT_GIVEN, bifrost_batch_task
from airflow_bifrost.worker.airflow_arguments import BaseOperatorArguments, DecoratorArguments, OperatorArguments

OPERATORS = [
    BatchCancelOperator,
    BatchDownloadOperator,
    BatchRetrieveOperator,
    BatchRunOperator,
    BatchSensor,
    BatchSubmitOperator,
]
ADDED_IN = {"render_template_as_native_obj": (3, 2), "retry_policy": (3, 3)}  # before that, Airflow itself refuses them


def parameters(function: Any) -> dict[str, inspect.Parameter]:
    return {name: found for name, found in inspect.signature(function).parameters.items() if name != "self"}


def own(function: Any) -> set[str]:
    return {name for name, found in parameters(function).items() if found.kind is inspect.Parameter.KEYWORD_ONLY}


def documented(text: str | None) -> set[str]:
    return set(re.findall(r":param (\w+):", text or ""))


def test_airflow_takes_exactly_the_arguments_that_pass_through() -> None:
    minor = tuple(map(int, airflow.__version__.split(".")[:2]))
    missing = {name for name, added_in in ADDED_IN.items() if minor < added_in}
    assert own(BaseOperator.__init__) - {"task_id"} == set(BaseOperatorArguments.__annotations__) - missing


@pytest.mark.parametrize("operator", OPERATORS)
def test_only_airflows_own_arguments_are_not_listed(operator: Any) -> None:
    [rest] = [found for found in parameters(operator.__init__).values() if found.kind is inspect.Parameter.VAR_KEYWORD]
    assert rest.annotation == "Unpack[OperatorArguments]"
    assert not own(operator.__init__) & set(OperatorArguments.__annotations__)


@pytest.mark.parametrize("operator", OPERATORS)
def test_each_argument_is_documented_and_nothing_else(operator: Any) -> None:
    assert documented(operator.__doc__) == own(operator.__init__)


def test_the_decorator_lists_the_arguments_of_the_run_operator_but_the_rows() -> None:
    run, decorator = parameters(BatchRunOperator.__init__), parameters(bifrost_batch_task)
    assert own(bifrost_batch_task) == own(BatchRunOperator.__init__) - {"rows", "input_path", "input_format"}
    assert {name: run[name].annotation for name in own(bifrost_batch_task)} == {
        name: decorator[name].annotation for name in own(bifrost_batch_task)
    }
    assert decorator["kwargs"].annotation == "Unpack[DecoratorArguments]"
    assert set(DecoratorArguments.__annotations__) == set(OperatorArguments.__annotations__)


def test_what_the_decorator_is_not_given_is_left_to_the_operator() -> None:
    assert {decorator.default for decorator in parameters(bifrost_batch_task).values()} == {
        None,
        NOT_GIVEN,
        inspect.Parameter.empty,
    }


HEADER = """
from datetime import timedelta
from airflow_bifrost import *
from airflow_bifrost.decorators.batch import bifrost_batch_task
"""
RIGHT = """
submit = BatchSubmitOperator(task_id="a", rows=["hi"], model="m", retries=3, retry_delay=timedelta(minutes=5), pool="llm")
BatchSensor(task_id="a", batch_id=["b"], timeout=timedelta(hours=1), mode="reschedule", soft_fail=True, owner="me")
BatchRetrieveOperator(task_id="a", batch_id="b", wait_for_completion=True, accept=["failed"], trigger_rule="all_done")
BatchDownloadOperator(task_id="a", batch_id="b", output_path="out.jsonl", doc_md="text")
BatchCancelOperator(task_id="a", batch_id="b", provider="azure", execution_timeout=timedelta(minutes=1))
BatchRunOperator(task_id="a", input_path="in.jsonl", output_path="out.jsonl", max_row_attempts=2, retries=1)
@bifrost_batch_task(output_path="out.jsonl", model="m", retries=3, task_id="a")
def rows() -> list[str]:
    return ["hi"]
"""
# Each line has one mistake, and what mypy must say of it.
WRONG = {
    'BatchSensor(task_id="a", batch_id="b", acept=["failed"])': '"acept"',
    'BatchSensor(task_id="a", batch_id="b", max_wait=5)': '"max_wait"',
    'BatchRetrieveOperator(task_id="a", batch_id="b", poll_intervall=5)': '"poll_intervall"',
    'BatchRetrieveOperator(task_id="a", batch_id="b", timeout="1h")': '"timeout"',
    'BatchCancelOperator(task_id="a", batch_id="b", retires=1)': '"retires"',
    'BatchCancelOperator(batch_id="b")': '"task_id"',
    'BatchDownloadOperator(task_id="a", batch_id="b", output="o")': '"output"',
    'BatchSubmitOperator(task_id="a", rows=[], max_rows="all")': '"max_rows"',
    'BatchSubmitOperator(task_id="a", rows=[], output_path="o")': '"output_path"',
    'BatchRunOperator(task_id="a", rows=[], output_path="o", max_row_atempts=2)': '"max_row_atempts"',
    'BatchRunOperator(task_id="a", rows=[], output_path="o", execution_timeout=60)': '"execution_timeout"',
    'BatchRunOperator(task_id="a", rows=[])': '"output_path"',
    'bifrost_batch_task(output_path="o", modell="m")': '"modell"',
    'bifrost_batch_task(output_path="o", rows=["hi"])': '"rows"',
    'bifrost_batch_task(output_path="o", retires=3)': '"retires"',
}
FIRST_WRONG = "\n".join([HEADER, RIGHT, ""]).count("\n") + 1  # the line number


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """What mypy says of each line of a DAG file, with the right lines first."""
    folder = tmp_path_factory.mktemp("types")
    (folder / "mypy.ini").write_text(  # without reading Airflow, which takes ten times as long
        "[mypy]\n[mypy-airflow.*,pydantic.*,httpx.*,pendulum.*]\nfollow_imports = skip\n"
    )
    (folder / "dag_file.py").write_text("\n".join([HEADER, RIGHT, *WRONG]))
    arguments = ["--config-file", str(folder / "mypy.ini"), "--cache-dir", str(folder / "cache"), "--no-error-summary"]
    said, trouble, _ = api.run([*arguments, "--hide-error-context", str(folder / "dag_file.py")])
    assert not trouble
    found: dict[int, str] = {}
    for number, kind, text in re.findall(r"dag_file\.py:(\d+): (\w+): (.*)", said):
        if kind == "error":
            found[int(number)] = found.get(int(number), "") + text
    return found


def test_the_package_tells_type_checkers_that_it_has_types() -> None:
    assert (Path(airflow_bifrost.__file__).parent / "py.typed").exists()


def test_mypy_accepts_arguments_that_are_right(complaints: dict[int, str]) -> None:
    assert {line: text for line, text in complaints.items() if line < FIRST_WRONG} == {}


@pytest.mark.parametrize("line", WRONG)
def test_mypy_rejects_an_argument_that_is_misspelt_missing_or_of_another_type(
    line: str, complaints: dict[int, str]
) -> None:
    assert WRONG[line] in complaints.get(FIRST_WRONG + list(WRONG).index(line), "")
