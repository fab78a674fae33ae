"""BatchTrigger, and what it exchanges with tasks and with Airflow."""
