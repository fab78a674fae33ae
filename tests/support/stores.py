"""Object stores in memory, under the schemes of the real ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec  # type: ignore[import-untyped]
from airflow.sdk.io import attach
from airflow.sdk.io.store import _STORE_CACHE
from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]
from fsspec.registry import _registry  # type: ignore[import-untyped]


class Bucket(MemoryFileSystem):  # type: ignore[misc]
    """A store in memory. ``refuses`` is the error with which it answers every listing."""

    protocol = ("gs", "s3")
    cachable = False
    store: dict[str, Any] = {}
    pseudo_dirs = [""]
    root_marker = ""
    refuses: Exception | None = None

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.partition("://")[2].strip("/") if "://" in path else path.strip("/")

    def find(self, path: str, *args: Any, **options: Any) -> Any:
        if Bucket.refuses is not None:
            raise Bucket.refuses
        return super().find(path, *args, **options)


@contextmanager
def bucket_in_memory() -> Iterator[Bucket]:
    """``gs://`` and ``s3://`` for the time of a test."""
    before = {scheme: _registry.pop(scheme, None) for scheme in Bucket.protocol}
    attached = {scheme: _STORE_CACHE.pop(scheme, None) for scheme in Bucket.protocol}
    for scheme in before:
        fsspec.register_implementation(scheme, Bucket, clobber=True)
        attach(protocol=scheme, fs=Bucket())  # also where an Airflow provider package knows the scheme
    Bucket.store.clear()
    Bucket.refuses = None
    try:
        yield Bucket()
    finally:
        Bucket.store.clear()
        Bucket.refuses = None
        for scheme, store in attached.items():
            del _STORE_CACHE[scheme]
            if store is not None:
                _STORE_CACHE[scheme] = store
        for scheme, implementation in before.items():
            del _registry[scheme]
            if implementation is not None:
                fsspec.register_implementation(scheme, implementation, clobber=True)
