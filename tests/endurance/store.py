"""Where the load's inputs and outputs are: a folder of this machine, or, for workers on several machines, a bucket of a local S3."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Protocol

import fsspec
from support.processes import Processes

from endurance.machine import free_port, wait_for_port

BUCKET = "endurance"
CONNECTION = "lake"
REGION = "us-east-1"


class Store(Protocol):
    """Files by their names, which may have slashes."""

    uri: str  # of the folder, as tasks name it
    env: dict[str, str]  # what tasks need to open it

    def write(self, name: str, content: bytes) -> None: ...

    def read(self, name: str) -> bytes | None: ...

    def names(self, folder: str) -> list[str]: ...


class FileStore:
    """A store of fsspec, under one root."""

    def __init__(self, fs: Any, root: str, uri: str, env: dict[str, str]) -> None:
        self._fs, self._root, self.uri, self.env = fs, root, uri, env

    def write(self, name: str, content: bytes) -> None:
        """Write a file, and the folders that it needs."""
        self._fs.makedirs(f"{self._root}/{name}".rpartition("/")[0], exist_ok=True)
        self._fs.pipe_file(f"{self._root}/{name}", content)

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if there is no such file."""
        self._fs.invalidate_cache()
        try:
            return bytes(self._fs.cat_file(f"{self._root}/{name}"))
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        """The names of all files below a folder, without the folder's."""
        self._fs.invalidate_cache()
        prefix = f"{self._root}/{folder}/"
        return sorted(path.removeprefix(prefix) for path in self._fs.find(prefix.rstrip("/")))


def local_store(folder: Path) -> FileStore:
    """A folder that all tasks share."""
    for name in ("in", "out"):
        (folder / name).mkdir(parents=True)
    return FileStore(fsspec.filesystem("file"), str(folder), str(folder), {})


def s3_store(processes: Processes) -> FileStore:
    """A bucket of moto's S3 server, which is started."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    processes.start("s3", command, env=os.environ, cwd=Path("/"))
    url = f"http://127.0.0.1:{port}"
    wait_for_port(port, processes)
    from boto3 import client  # only the environment for Celery has it

    s3 = client("s3", endpoint_url=url, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test")
    s3.create_bucket(Bucket=BUCKET)
    kwargs = {"endpoint_url": url, "region_name": REGION}
    fs = fsspec.filesystem("s3", key="test", secret="test", client_kwargs=kwargs)
    connection = {"conn_type": "aws", "login": "test", "password": "test"}
    extra = {"extra": {"endpoint_url": url, "region_name": REGION}}
    env = {f"AIRFLOW_CONN_{CONNECTION.upper()}": json.dumps(connection | extra)}
    return FileStore(fs, BUCKET, f"s3://{CONNECTION}@{BUCKET}", env)
