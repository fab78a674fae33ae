"""The public import path of the operators. Each operator has a module next to this one."""

from airflow_bifrost.operators.cancel import BatchCancelOperator
from airflow_bifrost.operators.download import BatchDownloadOperator
from airflow_bifrost.operators.retrieve import BatchRetrieveOperator
from airflow_bifrost.operators.run import BatchRunOperator
from airflow_bifrost.operators.submit import BatchSubmitOperator

__all__ = [
    "BatchCancelOperator",
    "BatchDownloadOperator",
    "BatchRetrieveOperator",
    "BatchRunOperator",
    "BatchSubmitOperator",
]
