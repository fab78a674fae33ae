"""``python -m airflow_bifrost``: the commands, on every version of Airflow."""

from airflow_bifrost.doctor.cli import main

if __name__ == "__main__":
    main()
