"""Airflow provider package for the batch API of the Bifrost AI gateway.

A public name loads its module when it is first used, so that a DAG file pays only for the names that it uses.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_bifrost.hooks.bifrost import BifrostHook
    from airflow_bifrost.operators.batch import (
        BatchCancelOperator,
        BatchDownloadOperator,
        BatchRetrieveOperator,
        BatchRunOperator,
        BatchSubmitOperator,
    )
    from airflow_bifrost.sensors.batch import BatchSensor
    from airflow_bifrost.triggers.batch import BatchTrigger

__version__ = "0.1.0"

__all__ = [
    "BatchCancelOperator",
    "BatchDownloadOperator",
    "BatchRetrieveOperator",
    "BatchRunOperator",
    "BatchSensor",
    "BatchSubmitOperator",
    "BatchTrigger",
    "BifrostHook",
    "__version__",
]

_HOME = {
    "BatchCancelOperator": "airflow_bifrost.operators.cancel",
    "BatchDownloadOperator": "airflow_bifrost.operators.download",
    "BatchRetrieveOperator": "airflow_bifrost.operators.retrieve",
    "BatchRunOperator": "airflow_bifrost.operators.run",
    "BatchSensor": "airflow_bifrost.sensors.batch",
    "BatchSubmitOperator": "airflow_bifrost.operators.submit",
    "BatchTrigger": "airflow_bifrost.triggers.batch",
    "BifrostHook": "airflow_bifrost.hooks.bifrost",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
