"""The run's own PostgreSQL cluster, on loopback, for Airflow's metadata."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import sqlalchemy
from support.processes import Processes

from endurance.machine import find_program, free_port, postgres_folders, unprivileged

_START_SECONDS = 60.0
_SETTINGS = {
    "fsync": "off",  # the run ends processes, not the machine
    "max_connections": "200",
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "64MB",
}


class Postgres:
    """The server, and what the account reads from it.

    :param folder: for the cluster; created here.
    """

    def __init__(self, folder: Path, processes: Processes) -> None:
        self._processes = processes
        self._port = free_port()
        folders = postgres_folders()
        self._server = find_program("postgres", "postgresql", folders)
        self._dump = find_program("pg_dump", "postgresql-client", folders)
        initdb = find_program("initdb", "postgresql", folders)
        folder.mkdir(parents=True)
        self._as_user = unprivileged(folder)
        self._folder = folder
        self._data = folder / "data"
        command = [*self._as_user, str(initdb), "-D", str(self._data), "-U", "airflow", "--auth=trust", "--no-sync"]
        made = subprocess.run([*command, "--encoding=UTF8", "--locale=C"], capture_output=True, text=True, cwd="/")
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stdout}{made.stderr}")
        self.start()
        with self._connect("postgres").connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("CREATE DATABASE airflow")
        self.engine = self._connect("airflow")

    @property
    def url(self) -> str:
        """Where Airflow's database is, for SQLAlchemy."""
        return f"postgresql+psycopg2://airflow@127.0.0.1:{self._port}/airflow"

    @property
    def settings(self) -> dict[str, str]:
        """Airflow's settings for this database, as environment variables."""
        return {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.url,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": self.url.replace("psycopg2", "asyncpg"),
        }

    def start(self) -> None:
        """Start the server; returns when it answers."""
        options = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._server), "-D", str(self._data), "-p", str(self._port), "-k", str(self._folder), *options]
        self._processes.start("postgres", [*self._as_user, *command], env=os.environ, cwd=Path("/"))
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            self._processes.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start\n{self._processes.log_tail('postgres')}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the server in fast mode: it closes connections and rolls back transactions."""
        self._processes.end("postgres", signal.SIGINT, seconds=120)

    def rows(self, query: str) -> list[dict[str, object]]:
        """Return the rows of a query."""
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(sqlalchemy.text(query)).mappings()]

    def dump(self, path: Path) -> None:
        """Write everything in the database into a file, as text."""
        command = [str(self._dump), "-h", "127.0.0.1", "-p", str(self._port), "-U", "airflow", "--inserts", "airflow"]
        with path.open("wb") as target:
            subprocess.run(command, stdout=target, check=True, timeout=120)

    def close(self) -> None:
        """Close the connections, and stop the server."""
        self.engine.dispose()
        self.stop()

    def _connect(self, database: str) -> sqlalchemy.Engine:
        url = f"postgresql+psycopg2://airflow@127.0.0.1:{self._port}/{database}"
        return sqlalchemy.create_engine(url, pool_pre_ping=True)

    def _answers(self) -> bool:
        try:
            with self._connect("postgres").connect():
                return True
        except sqlalchemy.exc.OperationalError:
            return False
