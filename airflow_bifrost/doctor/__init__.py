"""``airflow bifrost doctor``: asks a gateway, reading only, whether waits through a connection will work, and says what is wrong if not."""
