"""A DAG file with the batch sensor and operator of apache-airflow-providers-anthropic."""

from airflow.providers.anthropic.operators.batch import AnthropicBatchOperator
from airflow.providers.anthropic.sensors.batch import AnthropicBatchSensor
from airflow.sdk import DAG

with DAG("anthropic", schedule=None):
    run = AnthropicBatchOperator(task_id="run", requests=[], wait_for_completion=False)
    run >> AnthropicBatchSensor(task_id="wait", batch_id="msgbatch_abc123", deferrable=True)
