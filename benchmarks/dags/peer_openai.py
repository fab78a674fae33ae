"""A DAG file with the batch operator of apache-airflow-providers-openai."""

from airflow.providers.openai.operators.openai import OpenAITriggerBatchOperator
from airflow.sdk import DAG

with DAG("openai", schedule=None):
    OpenAITriggerBatchOperator(task_id="run", file_id="file-abc123", endpoint="/v1/chat/completions", deferrable=True)
