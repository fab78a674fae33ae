"""Finds the path and file system of a URI, and writes files that appear only when they are complete."""

from __future__ import annotations

import hashlib
import os
import posixpath
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

import fsspec  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath


def locate(
    uri: str | os.PathLike[str] | ObjectStoragePath, conn_id: str | None = None
) -> tuple[ObjectStoragePath, Any]:
    """The path of a URI, and its fsspec file system.

    Airflow knows the schemes of the installed Airflow provider packages. Without a connection, fsspec may know others, such as ``memory``.

    :raises ValueError: neither of them knows the scheme.
    """
    # Imported here, because reading a local file of results needs no Airflow, which takes seconds to import.
    from airflow.sdk import ObjectStoragePath

    text = str(uri)
    if not isinstance(uri, ObjectStoragePath) and "://" not in text:
        uri = os.path.abspath(text)  # Airflow 3.1 resolves a relative path against the root
    parts = urlsplit(text)
    unknown = ValueError(
        f"Airflow cannot open {text}: no installed Airflow provider package knows {parts.scheme}://. Install the one that does"
        " (s3: apache-airflow-providers-amazon[s3fs], gs: apache-airflow-providers-google), or correct the path."
    )
    try:
        # Do not pass conn_id=None: Airflow 3.1 would treat it as a connection.
        path = ObjectStoragePath(uri, **{"conn_id": conn_id} if conn_id else {})
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
    """The path and file system of a file to write.

    :raises ValueError: ``uri`` is a folder, or is in a store that no installed package knows.
    """
    if not str(uri):
        raise ValueError(
            "The path is empty. Pass the path of a file; if another task pushes it, check that task's XCom."
        )
    path, fs = locate(uri, conn_id)
    if str(uri).endswith("/") or fs.isdir(path.path):
        raise ValueError(f"{uri} is a folder. Name a file in it, such as {path / 'results.jsonl'}.")
    return path, fs


def covers(input_path: str | os.PathLike[str] | ObjectStoragePath, output_path: str) -> bool:
    """Whether an input (a file, a folder or a pattern) includes the file at ``output_path``, however the two are spelled."""
    (path, fs), (other_path, other_fs) = locate(input_path), locate(output_path)
    if _schemes(fs) != _schemes(other_fs):
        return False
    normal = os.path.realpath if "file" in _schemes(fs) else posixpath.normpath
    wanted, output = normal(path.path), normal(other_path.path)
    if wanted == output or fnmatchcase(output, wanted):
        return True
    return output.startswith(f"{wanted.rstrip('/')}/") and (str(input_path).endswith("/") or fs.isdir(path.path))


def is_local(uri: str | os.PathLike[str] | ObjectStoragePath) -> bool:
    """Whether a URI is on the worker's own disk."""
    return "file" in _schemes(locate(uri)[1])


def fingerprint(uri: str | os.PathLike[str] | ObjectStoragePath, conn_id: str | None = None) -> dict[str, Any]:
    """Identifies the content of a file by its size and the store's ETag, or by its size and SHA-256. Empty if there is no file."""
    path, fs = locate(uri, conn_id)
    fs.invalidate_cache()
    try:
        info = fs.info(path.path)
    except FileNotFoundError:
        return {}
    for name in ("ETag", "etag", "md5Hash", "content_md5"):  # S3, Azure and GCS, GCS, Azure
        if info.get(name):
            return {"size": info["size"], "etag": str(info[name])}
    digest = hashlib.sha256()
    with fs.open(path.path, "rb") as file:
        for chunk in iter(lambda: file.read(2**20), b""):
            digest.update(chunk)
    return {"size": info["size"], "sha256": digest.hexdigest()}


def _schemes(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


@contextmanager
def whole_file(uri: str | os.PathLike[str] | ObjectStoragePath, conn_id: str | None = None) -> Iterator[IO[bytes]]:
    """Open a file that appears under its name only when it is complete. In a store that cannot rename, it is then copied.

    :raises ValueError: ``uri`` is a folder, or is in a store that no installed package knows.
    :raises OSError: the file could not be written.
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
    if type(fs).mv is fsspec.AbstractFileSystem.mv:  # the base class's mv expands patterns, and a name may contain [
        fs.cp_file(part, path)
        fs.rm_file(part)
    else:
        fs.mv(part, path)


def _open_new(fs: Any, path: str) -> IO[bytes]:
    try:
        return fs.open(path, "wb")  # type: ignore[no-any-return]
    except FileNotFoundError:  # only stores with folders need one; elsewhere, creating it may need more permissions
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        return fs.open(path, "wb")  # type: ignore[no-any-return]
