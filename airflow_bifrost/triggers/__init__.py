"""The trigger, and what it exchanges with tasks and with Airflow."""
