"""The gateway's wire: what to send, what came back, and two thin clients. Knows nothing of Airflow but its base exception."""
