"""The file of a part: fetched, uploaded or sent within the create call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.models import Batch, File
from airflow_bifrost.submission.ids import custom_id_of
from airflow_bifrost.submission.ledger import delete_lost_uploads, explaining_too_many_files
from airflow_bifrost.submission.parts import Part
from airflow_bifrost.worker.batch_spec import BatchSpec


class LinesGone(Exception):
    """The request lines of a part are lost. Raised by ``fetch``."""


@dataclass(slots=True)
class PartFile:
    """The file of a part, fetched when it is first needed. It is uploaded, or sent within the create call."""

    client: GatewayClient
    provider: str
    spec: BatchSpec
    part: Part
    fetch: Callable[[], None] | None
    check_stop: Callable[[], None]
    cleanup: str

    def path(self) -> Path:
        if self.fetch is not None:
            self.fetch()
            self.fetch = None
        return self.part.path

    def custom_ids(self) -> Iterator[str] | None:
        """The custom IDs of the part's lines; None: the lines are lost."""
        try:
            path = self.path()
        except LinesGone:
            return None
        return _custom_ids(path)

    def upload(self, filename: str) -> File:
        repeated = False

        def on_repeat() -> None:
            nonlocal repeated
            self.check_stop()
            repeated = True

        with self.path().open("rb") as file, explaining_too_many_files(self.provider):
            uploaded = self.client.upload_file(
                file,
                filename=filename,
                provider=self.provider,
                purpose="batch",
                idempotency_key=f"{self.part.sha256}-{filename[:64]}",
                extra_form=self.spec.extra_form,
                on_repeat=on_repeat,
            )
        if repeated and self.cleanup != "never":
            delete_lost_uploads(self.client, self.provider, uploaded, filename)
        return uploaded

    def create(self, file_id: str | None, metadata: dict[str, str], idempotency_key: str) -> Batch:
        with self.path().open("rb") if file_id is None else nullcontext() as rows:
            return _create(
                self.client, self.provider, self.spec, metadata, idempotency_key, input_file_id=file_id, rows=rows
            )


def _custom_ids(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        yield from (custom_id_of(line) for line in file)


def create_of_file(
    client: GatewayClient,
    provider: str,
    spec: BatchSpec,
    file_id: str | None,
    metadata: dict[str, str],
    idempotency_key: str,
) -> Batch:
    """Create the batch of a file that is already at the provider."""
    return _create(client, provider, spec, metadata, idempotency_key, input_file_id=file_id)


def _create(
    client: GatewayClient,
    provider: str,
    spec: BatchSpec,
    metadata: dict[str, str],
    idempotency_key: str,
    **source: Any,
) -> Batch:
    members = spec.members()
    members["metadata"] |= metadata
    return client.create_batch(provider=provider, idempotency_key=idempotency_key, **members, **source)
