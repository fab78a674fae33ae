"""The gateway's HTTP API: what to send, how to read the answer, and two thin clients. From Airflow, it uses only the base class of errors."""
