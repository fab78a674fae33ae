"""A DAG file that uses every public operator of this package."""

from airflow.sdk import DAG

from airflow_bifrost import BatchCancelOperator, BatchRetrieveOperator, BatchSensor

with DAG("ours", schedule=None):
    wait = BatchSensor(task_id="wait", batch_id="batch_abc123", provider="openai")
    wait >> BatchRetrieveOperator(task_id="retrieve", batch_id="batch_abc123", provider="openai")
    wait >> BatchCancelOperator(task_id="cancel", batch_id="batch_abc123", provider="openai", trigger_rule="all_failed")
