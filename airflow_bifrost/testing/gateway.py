"""The gateway's calls, on top of the state: what each does, and what it answers."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from typing import IO, Any

from airflow_bifrost.testing import clock, results
from airflow_bifrost.testing.arguments import cursor, read_cursor
from airflow_bifrost.testing.clock import Batch
from airflow_bifrost.testing.model import JsonObject, echo_lines, to_line
from airflow_bifrost.testing.providers import COUNTS, PROVIDERS, Provider, Snapshot, check_names, provider_of
from airflow_bifrost.testing.store import File, Store

_FIRST_PAGE = 30  # what the gateway asks for if no usable limit is given
_CHUNK = 1 << 20  # bytes of an upload that are copied at once
_PAGE_CAP = 100
_PROVIDER_PAGE = 20  # what a provider gives if it is not asked for a number


class Gateway:
    """Files and batches.

    :param store: where they are kept.
    :param batch_seconds: seconds from creation to the end of a new batch.
    """

    def __init__(self, store: Store, batch_seconds: float) -> None:
        self.store = store
        self.batch_seconds = batch_seconds

    # batches

    def create(self, provider: str, body: JsonObject, *, native: bool, idempotency_key: str | None) -> JsonObject:
        """Create a batch. Nothing is looked for first: the same call twice makes two."""
        api = PROVIDERS[provider]
        own_input, input_file = self._input(api, body)
        batch = self._add(
            api,
            input_file,
            id=api.new_batch_id(),
            input_file_id=own_input,
            endpoint=str(body.get("endpoint") or "/v1/chat/completions"),
            completion_window=str(body.get("completion_window") or "24h"),
            model=body.get("model"),
            metadata=body.get("metadata") or {},
            options={name: body[name] for name in ("job_name", "role_arn", "output_s3_uri") if name in body},
            idempotency_key=idempotency_key,
        )
        at_creation = replace(self._snapshot(batch), progress=clock.at_creation(batch), yielded={})
        return api.created(at_creation, native=native)

    def _input(self, api: Provider, body: JsonObject) -> tuple[str | None, File]:
        """The input's id as the batch shows it, and the stored file; a file wins over inline requests."""
        if body.get("input_file_id") and api.name != "anthropic":
            own = api.own_file_id(str(body["input_file_id"]))
            file = self.store.file(api.name, own)
            if file is None:
                raise api.no_input(own)
            shown = own if api.name == "bedrock" else str(body["input_file_id"])
            return shown, file
        file = self.add_file(api, map(to_line, body["requests"]), filename="batch_requests.jsonl")
        inline_is_visible = api.name in ("openai", "azure", "bedrock")
        return (file.id if inline_is_visible else None), file

    def _add(self, api: Provider, file: File, **columns: Any) -> Batch:
        scan = self.store.scan(file, validated=api.validates_input)
        yields = api.yields(columns["id"], columns["input_file_id"], columns["options"])
        defaults = {"created_at": time.time(), "seconds": self.batch_seconds, "overrides": {}}
        columns = {**defaults, **columns, "provider": api.name, "input_file": file.seq}
        return self.store.add_batch(scan, yields, **columns)

    def retrieve(self, provider: str, segment: str, *, native: bool) -> JsonObject:
        """The batch as it stands now."""
        return self._wire(self._find(provider, segment, native=native), native=native)

    def list_batches(self, provider: str, query: dict[str, str], *, native: bool) -> JsonObject:
        """A page of batches, newest first."""
        api = PROVIDERS[provider]
        before = None
        if api.cursors_advance and query.get("after"):
            last = self.store.batch(provider, read_cursor(query["after"]))
            before = 0 if last is None else last.seq
        limit = _limit(query)
        found = self.store.batches(provider, before, limit + 1)
        page: JsonObject = {
            "object": "list",
            "data": [self._listed(batch, native=native) for batch in found[:limit]],
        }
        if len(found) > limit:
            page |= {"has_more": True, "next_cursor": cursor(found[limit - 1].id)}
        return page

    def _listed(self, batch: Batch, *, native: bool) -> JsonObject:
        api = PROVIDERS[batch.provider]
        entry = self._wire(batch, native=native, listed=True)
        about = {"request_type": api.list_request_type}
        if api.list_request_type:
            about["provider"] = batch.provider
        return {**entry, "extra_fields": {**about, "latency": 0, "chunk_index": 0}}

    def cancel(self, provider: str, segment: str, *, native: bool) -> JsonObject:
        """Ask a batch to stop: it is cancelling for a fifth of its seconds, and keeps the rows that are done."""
        api = PROVIDERS[provider]
        batch = self._find(provider, segment, native=native)
        snapshot = self._snapshot(batch)
        if snapshot.progress.terminal:
            raise api.not_cancellable(snapshot)
        if batch.cancel_at is None:
            self.store.update_batch(batch, cancel_at=time.time())
        batch = self.store.batch_by_seq(batch.seq)
        return api.cancelled(self._snapshot(batch, now=batch.cancel_at), native=native)

    def native_results(self, provider: str, segment: str) -> JsonObject:
        """The results as the native route gives them."""
        batch = self._find(provider, segment, native=True)
        return results.native(self.store, self._snapshot(batch), segment)

    def _find(self, provider: str, segment: str, *, native: bool) -> Batch:
        api = PROVIDERS[provider]
        own = api.own_batch_id(segment, native=native)
        batch = self.store.batch(provider, own)
        if batch is None:
            raise api.no_batch(own)
        return batch

    def _snapshot(self, batch: Batch, now: float | None = None) -> Snapshot:
        api = PROVIDERS[batch.provider]
        progress = clock.progress(batch, api.phases, time.time() if now is None else now)
        tally = self.store.tally(batch, progress.finished)
        kinds = api.yielded(progress, batch, tally)
        files = self.store.yields(batch) if kinds else {}
        return Snapshot(
            batch,
            progress,
            tally,
            {kind: files[kind].id for kind in ("output", "error", "manifest") if kind in kinds & files.keys()},
        )

    def _wire(self, batch: Batch, *, native: bool, listed: bool = False) -> JsonObject:
        body = PROVIDERS[batch.provider].batch(self._snapshot(batch), native=native, listed=listed)
        body |= batch.overrides
        return {name: value for name, value in body.items() if value is not None}

    # files

    def upload(
        self, provider: str, form: dict[str, str], filename: str, content: IO[bytes], *, native: bool
    ) -> JsonObject:
        """Keep an uploaded file."""
        api = PROVIDERS[provider]
        purpose = form["purpose"]
        if api.validates_input and purpose == "batch" and not filename.endswith(".jsonl"):
            raise api.refusal(400, "Invalid file format for Batch API. Must be .jsonl")
        blob, size = self.store.write_blob(iter(partial(content.read, _CHUNK), b""))
        file = self.store.add_file(
            provider, api.new_file_id(filename, form), filename, purpose, time.time(), blob, size
        )
        return self._file(file, native=native)

    def add_file(
        self,
        api: Provider,
        content: Iterable[bytes],
        *,
        filename: str,
        file_id: str | None = None,
        purpose: str = "batch",
    ) -> File:
        """Keep a file that nobody uploaded."""
        blob, size = self.store.write_blob(content)
        own = api.new_file_id(filename, {}) if file_id is None else api.own_file_id(file_id)
        return self.store.add_file(api.name, own, filename, purpose, time.time(), blob, size)

    def retrieve_file(self, provider: str, segment: str, *, native: bool) -> JsonObject:
        """The file object."""
        return self._file(self._find_file(provider, segment), native=native)

    def list_files(self, provider: str, query: dict[str, str], *, native: bool) -> JsonObject:
        """A page of files, newest first. The cursor is called ``after`` here."""
        api = PROVIDERS[provider]
        before = None
        if api.cursors_advance and query.get("after"):
            last = self.store.file(provider, read_cursor(query["after"]))
            before = 0 if last is None else last.seq
        limit = _limit(query)
        found: list[File] = []
        while len(found) <= limit:
            chunk = self.store.files(provider, before, limit + 1)
            found += [
                file for file in chunk if self._exists(file) and query.get("purpose", file.purpose) == file.purpose
            ]
            if len(chunk) <= limit:
                break
            before = chunk[-1].seq
        page: JsonObject = {
            "object": "list",
            "data": [self._file(file, native=native, listed=True) for file in found[:limit]],
        }
        if len(found) > limit:
            page |= {"has_more": True, "after": cursor(found[limit - 1].id)}
        return page

    def delete_file(self, provider: str, segment: str, *, native: bool) -> JsonObject:
        """Delete a file."""
        file = self._find_file(provider, segment)
        self.store.delete_file(file)
        return {"id": PROVIDERS[provider].public_file_id(file.id, native=native), "object": "file", "deleted": True}

    def content(self, provider: str, segment: str) -> File:
        """The file whose bytes are asked for, which are there when this returns."""
        return self._find_file(provider, segment)

    def _find_file(self, provider: str, segment: str) -> File:
        api = PROVIDERS[provider]
        own = api.own_file_id(segment)
        file = self.store.file(provider, own)
        if file is None or not self._exists(file):
            raise api.no_file(own)
        return self._written(file)

    def _exists(self, file: File) -> bool:
        if file.batch is None or file.blob is not None:
            return True
        return file.kind in self._snapshot(self.store.batch_by_seq(file.batch)).yielded

    def _written(self, file: File) -> File:
        """The file with its content: what a batch yields is written when it is first asked for."""
        if file.blob is not None or file.batch is None or file.kind is None:
            return file
        snapshot = self._snapshot(self.store.batch_by_seq(file.batch))
        blob, size = self.store.write_blob(results.lines(self.store, snapshot, file.kind))
        return self.store.fill_yield(file, blob, size)

    def _file(self, file: File, *, native: bool, listed: bool = False) -> JsonObject:
        return PROVIDERS[file.provider].file(
            file.id,
            size=self._written(file).bytes,
            created_at=int(file.created_at),
            filename=file.filename,
            purpose=file.purpose,
            listed=listed,
            native=native,
        )

    # by hand

    def put_batch(
        self,
        provider: str,
        *,
        rows: int | list[JsonObject],
        status: str | None = None,
        batch_id: str | None = None,
        **fields: Any,
    ) -> str:
        """Put a batch straight into the state; returns its id as the openai routes give it."""
        api = provider_of(provider)
        overrides = _with_full_counts(fields)
        given = echo_lines(provider, rows) if isinstance(rows, int) else rows
        file = self.add_file(api, map(to_line, given), filename="input.jsonl")
        batch = self._add(
            api,
            file,
            id=api.new_batch_id() if batch_id is None else self._own_id(api, batch_id),
            input_file_id=file.id,
            endpoint=str(overrides.pop("endpoint", "/v1/chat/completions")),
            completion_window="24h",
            model=overrides.pop("model", None),
            metadata=overrides.pop("metadata", {}),
            options={name: overrides.pop(name) for name in ("dest", "job_name", "output_s3_uri") if name in overrides},
            held=status,
            held_at=None if status is None else time.time(),
            overrides=overrides,
            idempotency_key=None,
        )
        return api.public_batch_id(batch.id, native=False)

    def set_batch(self, batch_id: str, **fields: Any) -> None:
        """Override wire fields of a batch. A status holds it there; status None gives it back to its clock."""
        batch = self._by_public_id(batch_id)
        columns: dict[str, Any] = {}
        if "status" in fields:
            status = fields.pop("status")
            columns = {"held": status, "held_at": None if status is None else time.time(), "cancel_at": None}
        self.store.update_batch(batch, overrides={**batch.overrides, **_with_full_counts(fields)}, **columns)

    def describe(self) -> list[JsonObject]:
        """Every batch, oldest first, with what the wire does not tell."""
        described = []
        for batch in self.store.all_batches():
            wire = self._wire(batch, native=False)
            extra = {"provider": batch.provider, "rows": batch.rows, "idempotency_key": batch.idempotency_key}
            described.append({**wire, **extra})
        return described

    def _own_id(self, api: Provider, batch_id: str) -> str:
        own = api.own_batch_id(batch_id, native=False)
        return api.own_batch_id(batch_id, native=True) if api.name == "bedrock" and not own.startswith("arn:") else own

    def _by_public_id(self, batch_id: str) -> Batch:
        found = [
            b
            for api in PROVIDERS.values()
            if (b := self.store.batch(api.name, self._own_id(api, batch_id))) is not None
        ]
        if len(found) != 1:
            msg = f"{len(found)} batches have the id {batch_id}"
            raise LookupError(msg)
        return found[0]


def _with_full_counts(fields: dict[str, Any]) -> dict[str, Any]:
    counts = fields.get("request_counts")
    if counts is None:
        return dict(fields)
    check_names("a count", counts, COUNTS)
    return {**fields, "request_counts": {"total": 0, "completed": 0, "failed": 0, **counts}}


def _limit(query: dict[str, str]) -> int:
    try:
        limit = int(query.get("limit", _FIRST_PAGE))
    except ValueError:
        return _FIRST_PAGE
    return min(limit, _PAGE_CAP) if limit > 0 else _PROVIDER_PAGE


def plain_name(filename: str | None) -> str:
    """The last part of a file name that a client gave."""
    return PurePosixPath(filename or "file").name
