"""Where result rows are: a URI -> a path and the file system that it is in."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

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

    path = ObjectStoragePath(uri, conn_id=conn_id)
    try:
        return path, path.fs
    except ValueError as error:
        if not path.conn_id:
            with suppress(ValueError, ImportError):
                return path, fsspec.filesystem(path.protocol)
        raise ValueError(
            f"Airflow cannot open {path}: no installed provider knows {path.protocol}://. Install the one that does"
            " (s3: apache-airflow-providers-amazon[s3fs], gs: apache-airflow-providers-google)."
        ) from error
