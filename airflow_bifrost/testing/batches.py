"""The gateway's calls about batches."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from airflow_bifrost.testing import clock, results
from airflow_bifrost.testing.arguments import cursor, page_limit, read_cursor
from airflow_bifrost.testing.behavior import Behaviors, ProviderBehavior
from airflow_bifrost.testing.clock import Batch
from airflow_bifrost.testing.errors import of_another_key
from airflow_bifrost.testing.files import Files
from airflow_bifrost.testing.model import JsonObject, to_line
from airflow_bifrost.testing.providers import PROVIDERS, Provider, Snapshot
from airflow_bifrost.testing.scan import scan
from airflow_bifrost.testing.snapshots import snapshot
from airflow_bifrost.testing.store import File, Store
from airflow_bifrost.testing.versions import V1_5, V2, Version

_OPTIONS = ("job_name", "role_arn", "output_s3_uri", "output_folder", "display_name")
_NO_COUNTS = {"total": 0, "completed": 0, "failed": 0}


class UnreadablePage(Exception):
    """The requested page is not JSON."""


class Batches:
    """Creates, shows, lists and cancels batches.

    :param batch_seconds: seconds from creation to the end of a new batch.
    :param version: of the gateway.
    """

    def __init__(
        self, store: Store, files: Files, behaviors: Behaviors, batch_seconds: float, version: Version
    ) -> None:
        self._store = store
        self._version = version
        self._files = files
        self._behaviors = behaviors
        self.batch_seconds = batch_seconds

    def create(
        self, provider: str, body: JsonObject, *, native: bool, idempotency_key: str | None, caller: str | None = None
    ) -> JsonObject:
        """Create a batch. The same call twice makes two.

        :param caller: the virtual key of the call, to which the batch then belongs.
        """
        api = PROVIDERS[provider]
        own_input, input_file = self._input(api, body)
        batch = self.add(
            api,
            input_file,
            id=api.new_batch_id(),
            input_file_id=own_input,
            endpoint=str(body.get("endpoint") or "/v1/chat/completions"),
            completion_window=str(body.get("completion_window") or "24h"),
            model=body.get("model"),
            metadata=body.get("metadata") or {},
            options={name: body[name] for name in _OPTIONS if name in body} | ({"owner": caller} if caller else {}),
            idempotency_key=idempotency_key,
        )
        at_creation = replace(self._snapshot(batch), progress=clock.at_creation(batch), yielded={})
        return api.created(at_creation, native=native)

    def _input(self, api: Provider, body: JsonObject) -> tuple[str | None, File]:
        """The input's ID as the batch shows it, and the stored file; a file wins over inline requests."""
        if body.get("input_file_id") and api.name != "anthropic":
            own = api.own_file_id(str(body["input_file_id"]))
            file = self._store.file(api.name, own)
            if file is None:
                raise api.no_input(own)
            if (status := self._behaviors.file_status(file.seq)) != "processed":
                raise api.input_not_ready(own, status)
            shown = own if api.name in ("bedrock", "vertex") else str(body["input_file_id"])
            return shown, file
        file = self._files.add(api, map(to_line, body["requests"]), filename="batch_requests.jsonl")
        inline_is_visible = api.name in ("openai", "azure", "bedrock", "vertex")
        return (file.id if inline_is_visible else None), file

    def add(self, api: Provider, file: File, **columns: Any) -> Batch:
        """Keep a new batch; ``columns`` are those of ``clock.Batch`` that have no default."""
        found = scan(self._store.lines(file), validated=api.validates_input, seen_before=self._store.seen_before)
        yields = api.yields(columns["id"], columns["input_file_id"], columns["options"])
        defaults = {"created_at": time.time(), "seconds": self.batch_seconds, "overrides": {}}
        columns = {**defaults, **columns, "provider": api.name, "input_file": file.seq}
        return self._store.add_batch(found, yields, **columns)

    def retrieve(self, provider: str, segment: str, *, native: bool, caller: str | None = None) -> JsonObject:
        """The batch as it stands now."""
        batch = self._find(provider, segment, caller, native=native)
        late = self._behaviors.of(provider)
        if self._behaviors.is_one_of_the_first(late.running_polls, "running", batch.seq):
            at_creation = replace(self._snapshot(batch), progress=clock.at_creation(batch), yielded={})
            return PROVIDERS[provider].batch(at_creation, native=native, listed=False)
        body = self.wire(batch, native=native)
        if not self._snapshot(batch).progress.terminal:
            return body
        if not self._behaviors.is_one_of_the_first(late.files_late, "batch", batch.seq):
            return body
        shown = {name: value for name, value in body.items() if name not in ("output_file_id", "error_file_id")}
        return shown if late.late_counts else shown | {"request_counts": dict(_NO_COUNTS)}

    def list(self, provider: str, query: dict[str, str], *, native: bool, caller: str | None = None) -> JsonObject:
        """A page of batches, newest first."""
        api = PROVIDERS[provider]
        behavior = self._behaviors.of(provider)
        page_number = 1
        before = None
        if api.cursors_advance and query.get("after"):
            after = read_cursor(query["after"], self._version)
            last = self._store.batch(provider, after) or self._store.batch(
                provider, api.own_batch_id(after, native=False)
            )
            before = 0 if last is None else last.seq
            page_number = 2
        if behavior.list_lie == "unreadable" and page_number > 1:
            raise UnreadablePage
        if behavior.list_lie == "repeated_cursor":
            before = None
        limit = min(page_limit(query), behavior.list_page or page_limit(query))
        found = self._store.batches(provider, before, limit + 1)
        shown = found[:limit]
        own = [batch for batch in shown if self._may_see(batch, caller)]
        page: JsonObject = {"object": "list", "data": [self._listed(batch, native=native) for batch in own]}
        if len(found) > limit:
            page |= {"has_more": True, "next_cursor": cursor(shown[-1].id)}
        return _lying(page, behavior, shown)

    def _listed(self, batch: Batch, *, native: bool) -> JsonObject:
        api = PROVIDERS[batch.provider]
        entry = self.wire(batch, native=native, listed=True)
        if not self._behaviors.of(batch.provider).list_metadata:
            entry.pop("metadata", None)
        if self._version >= V1_5:
            return {**entry, "extra_fields": {"request_type": "", "routing_info": {}, "latency": 0, "chunk_index": 0}}
        about = {"request_type": api.list_request_type}
        if api.list_request_type:
            about["provider"] = batch.provider
        return {**entry, "extra_fields": {**about, "latency": 0, "chunk_index": 0}}

    def cancel(self, provider: str, segment: str, *, native: bool, caller: str | None = None) -> JsonObject:
        """Ask a batch to stop: it is cancelling for a fifth of its seconds, and keeps the rows that are done."""
        api = PROVIDERS[provider]
        batch = self._find(provider, segment, caller, native=native)
        now = self._snapshot(batch)
        if now.progress.terminal:
            raise api.not_cancellable(now)
        if batch.cancel_at is None:
            self._store.update_batch(batch, cancel_at=time.time())
        batch = self._store.batch_by_seq(batch.seq)
        body = api.cancelled(self._snapshot(batch, batch.cancel_at), native=native)
        return body | {"id": batch.overrides.get("id") or body["id"]}

    def native_results(self, provider: str, segment: str, caller: str | None = None) -> JsonObject:
        """The results as the native route gives them."""
        batch = self._find(provider, segment, caller, native=True)
        if self._behaviors.of(provider).placeholder_results:
            batch = replace(batch, options=batch.options | {"dest": False})
        return results.native(self._store, self._snapshot(batch), segment)

    def wire(self, batch: Batch, *, native: bool, listed: bool = False) -> JsonObject:
        """The batch as JSON, with what was overridden by hand."""
        body = PROVIDERS[batch.provider].batch(self._snapshot(batch), native=native, listed=listed)
        body |= batch.overrides
        return {name: value for name, value in body.items() if value is not None}

    def _snapshot(self, batch: Batch, now: float | None = None) -> Snapshot:
        return snapshot(self._store, batch, self._version, now)

    def _may_see(self, batch: Batch, caller: str | None) -> bool:
        """Whether a virtual key may see a batch. Since 2.0, it may not if the batch belongs to another one."""
        owner = batch.options.get("owner")
        return self._version < V2 or caller is None or owner is None or owner == caller

    def _find(self, provider: str, segment: str, caller: str | None, *, native: bool) -> Batch:
        api = PROVIDERS[provider]
        own = api.own_batch_id(segment, native=native)
        batch = self._store.batch(provider, own)
        if batch is None:
            raise api.no_batch(own)
        if not self._may_see(batch, caller):
            raise of_another_key("batch")
        return batch


def _lying(page: JsonObject, behavior: ProviderBehavior, shown: list[Batch]) -> JsonObject:
    """The page as a faulty list shows it; see ``ProviderBehavior.list_lie``."""
    if behavior.list_lie is None:
        return page
    if behavior.list_lie == "no_cursor":
        page.pop("next_cursor", None)
        return page | {"has_more": True}
    if behavior.list_lie == "empty_pages":
        return page | {"data": [], "has_more": True, "next_cursor": cursor(f"batch_{time.monotonic_ns()}")}
    last = shown[-1].id if shown else "batch_0"  # repeated_cursor, unreadable
    return page | {"has_more": True, "next_cursor": cursor(last)}
