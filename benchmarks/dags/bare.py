"""The cost of any DAG file with a sensor and an operator: the same DAG as ours.py, without this package."""

from airflow.sdk import DAG, BaseOperator, BaseSensorOperator


class Sensor(BaseSensorOperator):
    pass


class Operator(BaseOperator):
    pass


with DAG("bare", schedule=None):
    Sensor(task_id="wait") >> Operator(task_id="retrieve")
