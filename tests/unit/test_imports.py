"""The public names, and what importing them costs."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import pytest

import airflow_bifrost

HOMES = {
    "BatchCancelOperator": "airflow_bifrost.operators.cancel",
    "BatchDownloadOperator": "airflow_bifrost.operators.download",
    "BatchSubmitOperator": "airflow_bifrost.operators.submit",
    "BatchRetrieveOperator": "airflow_bifrost.operators.retrieve",
    "BatchRunOperator": "airflow_bifrost.operators.run",
    "BatchSensor": "airflow_bifrost.sensors.batch",
    "BatchTrigger": "airflow_bifrost.triggers.batch",
    "BifrostHook": "airflow_bifrost.hooks.bifrost",
}


def modules_after(code: str) -> set[str]:
    """Modules that a fresh interpreter has loaded after some code."""
    script = f"import sys\n{code}\nprint('loaded:', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(next(line for line in done.stdout.splitlines() if line.startswith("loaded:")).split()[1:])


@pytest.mark.parametrize(("name", "home"), HOMES.items())
def test_a_public_name_is_had_from_the_package_and_from_its_module(name: str, home: str) -> None:
    assert getattr(airflow_bifrost, name) is getattr(importlib.import_module(home), name)


def test_the_public_names_are_these() -> None:
    assert sorted(airflow_bifrost.__all__) == sorted([*HOMES, "__version__"])
    assert set(dir(airflow_bifrost)) == set(airflow_bifrost.__all__)


def test_a_star_import_brings_the_public_names() -> None:
    names: dict[str, Any] = {}
    exec("from airflow_bifrost import *", names)
    assert set(HOMES) <= set(names)


@pytest.mark.parametrize("name", ["BatchSensr", "batch", "httpx"])
def test_an_unknown_name_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'airflow_bifrost' has no attribute '{name}'"):
        getattr(airflow_bifrost, name)
    with pytest.raises(ImportError):
        exec(f"from airflow_bifrost import {name}")


def test_the_package_alone_loads_no_airflow() -> None:
    loaded = modules_after("import airflow_bifrost, airflow_bifrost.provider_info as info; info.get_provider_info()")
    assert not {"airflow", "httpx", "pydantic"} & loaded


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


def test_every_operator_has_a_module_and_one_import_path_for_all_of_them() -> None:
    batch = importlib.import_module("airflow_bifrost.operators.batch")
    operators = {name: home for name, home in HOMES.items() if ".operators." in home}
    assert sorted(batch.__all__) == sorted(operators)
    assert all(getattr(batch, name).__module__ == home for name, home in operators.items())


def test_a_dag_file_with_every_operator_loads_the_operators_and_little_else() -> None:
    loaded = modules_after(DAG_FILE) - modules_after(BARE)
    ours = {name.removeprefix("airflow_bifrost.") for name in loaded if name.startswith("airflow_bifrost.")}
    rooms = {name for name in ours if name.split(".")[0] in {"operators", "sensors", "decorators"}}
    assert rooms >= {"operators.run", "sensors.batch", "decorators.batch"}
    assert ours - rooms == {"_compat", "exceptions", "worker", "worker.arguments"}
    assert not {"httpx", "httpcore", "aiohttp"} & loaded
