"""A DAG file with the batch operator of apache-airflow-providers-common-ai."""

from airflow.providers.common.ai.operators.llm_batch import LLMBatchOperator
from airflow.sdk import DAG

with DAG("common_ai", schedule=None):
    LLMBatchOperator(
        task_id="run",
        requests=[{"prompt": "Hello"}],
        result_path="file:///tmp/results",
        llm_conn_id="pydanticai_default",
        model_id="openai:gpt-4o-mini",
    )
