"""The public names, and what importing them costs."""

from __future__ import annotations

import importlib
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


def test_every_operator_has_a_module_and_one_import_path_for_all_of_them() -> None:
    batch = importlib.import_module("airflow_bifrost.operators.batch")
    operators = {name: home for name, home in HOMES.items() if ".operators." in home}
    assert sorted(batch.__all__) == sorted(operators)
    assert all(getattr(batch, name).__module__ == home for name, home in operators.items())
