"""What a fresh interpreter has loaded after an import of this package."""

from __future__ import annotations

import pytest
from support.fresh_interpreter import loaded_by

BARE = """
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, dag, task
from airflow.sdk.bases.decorator import DecoratedOperator
"""


DAG_FILE = """
from datetime import datetime
from airflow.sdk import dag
from airflow_bifrost.operators.batch import BatchRetrieveOperator
from airflow_bifrost import (
    BatchCancelOperator, BatchDownloadOperator, BatchRunOperator, BatchSensor, BatchSubmitOperator
)
from airflow_bifrost.decorators.batch import bifrost_batch_task
from airflow_bifrost.exceptions import BatchFailed

@dag(schedule=None, start_date=datetime(2026, 1, 1))
def every_operator():
    @bifrost_batch_task(output_path="rows.jsonl", model="m")
    def rows():
        yield "hi"

    BatchRunOperator(task_id="run", rows=["hi"], output_path="out.jsonl") << rows()
    batch_id = BatchSubmitOperator(task_id="submit", rows=["hi"]).output
    BatchSensor(task_id="wait", batch_id=batch_id)
    BatchSensor(task_id="poke", batch_id=batch_id, deferrable=False, mode="reschedule")
    BatchRetrieveOperator(task_id="retrieve", batch_id=batch_id, wait_for_completion=True)
    BatchRetrieveOperator.partial(task_id="mapped").expand(batch_id=["a", "b"])
    BatchDownloadOperator(task_id="download", batch_id=batch_id, output_path="out.jsonl")
    BatchCancelOperator(task_id="cancel", batch_id=batch_id)

every_operator()
"""


CLI = """
from airflow_bifrost.doctor.cli import get_bifrost_cli_commands
get_bifrost_cli_commands()
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    cases = {"DAG file": (DAG_FILE,), "CLI": ("import airflow.cli.cli_config", CLI)}
    return dict(zip(cases, loaded_by(*cases.values(), base=BARE), strict=True))


def test_a_dag_file_with_every_operator_loads_the_operators_and_little_else(loaded: dict[str, set[str]]) -> None:
    ours = {name.removeprefix("airflow_bifrost.") for name in loaded["DAG file"] if name.startswith("airflow_bifrost.")}
    loaders = {name for name in ours if name.split(".")[0] in {"operators", "sensors", "decorators"}}
    assert loaders >= {"operators.run", "sensors.batch", "decorators.batch"}
    assert ours - loaders == {"_compat", "exceptions", "worker", "worker.arguments"}
    assert not {"httpx", "httpcore", "aiohttp"} & loaded["DAG file"]


def test_the_definition_of_the_command_loads_nothing_that_a_command_of_airflow_has_not_loaded(
    loaded: dict[str, set[str]],
) -> None:
    assert loaded["CLI"] <= {"airflow_bifrost", "airflow_bifrost.doctor", "airflow_bifrost.doctor.cli"}


def test_the_package_alone_loads_no_airflow() -> None:
    [loaded] = loaded_by(("import airflow_bifrost, airflow_bifrost.provider_info as info; info.get_provider_info()",))
    assert "airflow_bifrost.provider_info" in loaded
    assert not {"airflow", "httpx", "pydantic"} & loaded
