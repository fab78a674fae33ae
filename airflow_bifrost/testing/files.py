"""The gateway's calls about files."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from pathlib import PurePosixPath
from typing import IO

from airflow_bifrost.testing import results
from airflow_bifrost.testing.arguments import cursor, page_limit, read_cursor
from airflow_bifrost.testing.behavior import Behaviors
from airflow_bifrost.testing.model import JsonObject
from airflow_bifrost.testing.providers import PROVIDERS, Provider
from airflow_bifrost.testing.snapshots import snapshot
from airflow_bifrost.testing.store import File, Store
from airflow_bifrost.testing.versions import V1_4, Version

_CHUNK = 1 << 20  # bytes of an upload that are copied at once


class Files:
    """Uploaded files, and those that batches yield."""

    def __init__(self, store: Store, behaviors: Behaviors, version: Version = V1_4) -> None:
        self._store = store
        self._version = version
        self._behaviors = behaviors

    def upload(
        self, provider: str, form: dict[str, str], filename: str, content: IO[bytes], *, native: bool
    ) -> JsonObject:
        """Keep an uploaded file."""
        api = PROVIDERS[provider]
        purpose = form["purpose"]
        if api.validates_input and purpose == "batch" and not filename.endswith(".jsonl"):
            raise api.refusal(400, "Invalid file format for Batch API. Must be .jsonl")
        blob, size = self._store.write_blob(iter(partial(content.read, _CHUNK), b""))
        file = self._store.add_file(
            provider, api.new_file_id(filename, form), filename, purpose, time.time(), blob, size
        )
        self._behaviors.add_upload(file.seq, provider)
        pending = self._behaviors.of(provider).file_pending > 0
        return self._wire(file, "pending" if pending else api.upload_status, native=native)

    def add(
        self,
        api: Provider,
        content: Iterable[bytes],
        *,
        filename: str,
        file_id: str | None = None,
        purpose: str = "batch",
    ) -> File:
        """Keep a file that nobody uploaded."""
        blob, size = self._store.write_blob(content)
        own = api.new_file_id(filename, {}) if file_id is None else api.own_file_id(file_id)
        return self._store.add_file(api.name, own, filename, purpose, time.time(), blob, size)

    def retrieve(self, provider: str, segment: str, *, native: bool) -> JsonObject:
        """The file object."""
        file = self._find(provider, segment)
        shown = self._wire(file, self._behaviors.file_status(file.seq), native=native)
        return PROVIDERS[provider].retrieved(shown)

    def list(self, provider: str, query: dict[str, str], *, native: bool) -> JsonObject:
        """A page of files, newest first. The cursor is called ``after`` here."""
        api = PROVIDERS[provider]
        before = None
        if api.cursors_advance and query.get("after"):
            last = self._store.file(provider, read_cursor(query["after"], self._version))
            before = 0 if last is None else last.seq
        limit = page_limit(query)
        found: list[File] = []
        while len(found) <= limit:
            chunk = self._store.files(provider, before, limit + 1)
            found += [
                file for file in chunk if self._exists(file) and query.get("purpose", file.purpose) == file.purpose
            ]
            if len(chunk) <= limit:
                break
            before = chunk[-1].seq
        page: JsonObject = {
            "object": "list",
            "data": [
                api.retrieved(self._wire(file, "processed", native=native, listed=True)) for file in found[:limit]
            ],
        }
        if len(found) > limit:
            page |= {"has_more": True, "after": cursor(found[limit - 1].id)}
        return page

    def delete(self, provider: str, segment: str, *, native: bool) -> JsonObject:
        """Delete a file."""
        file = self._find(provider, segment)
        self._store.delete_file(file)
        return {"id": PROVIDERS[provider].public_file_id(file.id, native=native), "object": "file", "deleted": True}

    def content(self, provider: str, segment: str) -> File:
        """The requested file. Its content exists when this returns."""
        return self._find(provider, segment)

    def _find(self, provider: str, segment: str) -> File:
        api = PROVIDERS[provider]
        own = api.own_file_id(segment)
        file = self._store.file(provider, own)
        if file is None or not self._exists(file):
            raise api.no_file(own)
        return self._written(file)

    def _exists(self, file: File) -> bool:
        if file.batch is None or file.blob is not None:
            return True
        return file.kind in snapshot(self._store, self._store.batch_by_seq(file.batch)).yielded

    def _written(self, file: File) -> File:
        """The file with its content. Output files of a batch are written at the first request."""
        if file.blob is not None or file.batch is None or file.kind is None:
            return file
        moment = snapshot(self._store, self._store.batch_by_seq(file.batch))
        blob, size = self._store.write_blob(results.lines(self._store, moment, file.kind))
        return self._store.fill_yield(file, blob, size)

    def _wire(self, file: File, status: str, *, native: bool, listed: bool = False) -> JsonObject:
        return PROVIDERS[file.provider].file(
            file.id,
            size=self._written(file).bytes,
            created_at=int(file.created_at),
            filename=file.filename,
            purpose=file.purpose,
            status=status,
            listed=listed,
            native=native,
        )


def plain_name(filename: str | None) -> str:
    """The last part of a file name that a client gave."""
    return PurePosixPath(filename or "file").name
