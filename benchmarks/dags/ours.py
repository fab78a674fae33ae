"""A DAG file that uses every public operator of this package. Any ``@task.something`` makes Airflow itself load every provider's."""

from airflow.sdk import DAG

from airflow_bifrost import (
    BatchCancelOperator,
    BatchDownloadOperator,
    BatchRetrieveOperator,
    BatchRunOperator,
    BatchSensor,
    BatchSubmitOperator,
)

with DAG("ours", schedule=None):
    submit = BatchSubmitOperator(task_id="submit", input_path="s3://bucket/in.jsonl", provider="openai")
    wait = BatchSensor(task_id="wait", batch_id="batch_abc123", provider="openai")
    submit >> wait >> BatchRetrieveOperator(task_id="retrieve", batch_id="batch_abc123", provider="openai")
    wait >> BatchDownloadOperator(task_id="download", batch_id="batch_abc123", output_path="s3://bucket/out.jsonl")
    wait >> BatchCancelOperator(task_id="cancel", batch_id="batch_abc123", provider="openai", trigger_rule="all_failed")
    BatchRunOperator(task_id="run", input_path="s3://bucket/in.jsonl", output_path="s3://bucket/rows.jsonl")
