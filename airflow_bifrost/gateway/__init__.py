"""The gateway's HTTP API: what to send, how to read the answer, and two thin clients. Of Airflow, it knows only the base class of errors."""
