"""``airflow bifrost doctor``: checks, by reading only, whether waits through a connection will work, and says what is wrong if not."""
