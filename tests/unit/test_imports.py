"""The public names, and what importing them costs."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import pytest

import airflow_bifrost

HOMES = {
    "BatchCancelOperator": "airflow_bifrost.operators.batch",
    "BatchDownloadOperator": "airflow_bifrost.operators.batch",
    "BatchSubmitOperator": "airflow_bifrost.operators.batch",
    "BatchRetrieveOperator": "airflow_bifrost.operators.batch",
    "BatchRunOperator": "airflow_bifrost.operators.batch",
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


DAG_FILE = """
from datetime import datetime
from airflow.sdk import dag, task
from airflow_bifrost import BatchCancelOperator, BatchRetrieveOperator, BatchSensor, BifrostHook

@dag(schedule=None, start_date=datetime(2026, 1, 1))
def every_operator():
    @task
    def submit():
        return BifrostHook().list_batches()

    batch_id = submit()
    BatchSensor(task_id="wait", batch_id=batch_id)
    BatchSensor(task_id="poke", batch_id=batch_id, deferrable=False, mode="reschedule")
    BatchRetrieveOperator(task_id="retrieve", batch_id=batch_id, wait_for_completion=True)
    BatchRetrieveOperator.partial(task_id="mapped").expand(batch_id=["a", "b"])
    BatchCancelOperator(task_id="cancel", batch_id=batch_id)

every_operator()
"""


def test_a_dag_file_with_every_public_operator_loads_neither_the_client_nor_the_waiting() -> None:
    ours = {name for name in modules_after(DAG_FILE) if name.startswith("airflow_bifrost.")}
    assert "airflow_bifrost.sensors.batch" in ours
    assert not {name for name in ours if name.split(".")[1] in {"gateway", "waiting", "triggers", "testing"}}
