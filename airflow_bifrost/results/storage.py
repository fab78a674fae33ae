"""Where rows are: a URI -> a path and the file system that it is in, and files there that are whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath


def locate(
    uri: str | os.PathLike[str] | ObjectStoragePath, conn_id: str | None = None
) -> tuple[ObjectStoragePath, Any]:
    """The path of a URI, and its fsspec file system.

    Airflow knows the schemes that its providers bring; without a connection fsspec may know more, such as ``memory``.

    :raises ValueError: neither knows the scheme.
    """
    import fsspec  # type: ignore[import-untyped]
    from airflow.sdk import ObjectStoragePath

    text = str(uri)
    if not isinstance(uri, ObjectStoragePath) and "://" not in text:
        uri = os.path.abspath(text)  # Airflow 3.1 takes a relative path for one below the root
    parts = urlsplit(text)
    unknown = ValueError(
        f"Airflow cannot open {text}: no installed provider knows {parts.scheme}://. Install the one that does"
        " (s3: apache-airflow-providers-amazon[s3fs], gs: apache-airflow-providers-google), or correct the path."
    )
    try:
        path = ObjectStoragePath(uri, **{"conn_id": conn_id} if conn_id else {})  # Airflow 3.1: None is a choice, too
    except ValueError as error:
        raise unknown from error
    try:
        return path, path.fs
    except ValueError as error:
        if not (conn_id or "@" in parts.netloc):
            with suppress(ValueError, ImportError):
                return path, fsspec.filesystem(parts.scheme)
        raise unknown from error


def locate_file(
    uri: str | os.PathLike[str] | ObjectStoragePath, conn_id: str | None = None
) -> tuple[ObjectStoragePath, Any]:
    """The same of a file that is to be written.

    :raises ValueError: ``uri`` names a folder, or a store that no installed provider knows.
    """
    if not str(uri):
        raise ValueError("The path is empty: name a file. Did the task that makes it push one?")
    path, fs = locate(uri, conn_id)
    if str(uri).endswith("/") or fs.isdir(path.path):
        raise ValueError(f"{uri} is a folder. Name a file in it, such as {path / 'results.jsonl'}.")
    return path, fs


@contextmanager
def whole_file(uri: str | os.PathLike[str] | ObjectStoragePath, conn_id: str | None = None) -> Iterator[IO[bytes]]:
    """A file that gets its name only when it was written to the end; where a store cannot rename, that is a copy within it.

    :raises ValueError: ``uri`` names a folder, or a store that no installed provider knows.
    :raises OSError: it could not be written.
    """
    path, fs = locate_file(uri, conn_id)
    part = (path.parent / f".{path.name}.{uuid.uuid4().hex}.part").path
    try:
        with _open_new(fs, part) as file:
            yield file
        _rename(fs, part, path.path)
    except BaseException:
        with suppress(OSError):
            fs.rm_file(part)
        raise


def _rename(fs: Any, part: str, path: str) -> None:
    from fsspec import AbstractFileSystem

    if type(fs).mv is AbstractFileSystem.mv:  # copies and deletes what it takes for patterns: a name may have a [
        fs.cp_file(part, path)
        fs.rm_file(part)
    else:
        fs.mv(part, path)


def _open_new(fs: Any, path: str) -> IO[bytes]:
    try:
        return fs.open(path, "wb")  # type: ignore[no-any-return]
    except FileNotFoundError:  # a store with folders; others are not asked for one, which may take more rights
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        return fs.open(path, "wb")  # type: ignore[no-any-return]
