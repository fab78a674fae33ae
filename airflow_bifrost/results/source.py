"""Where the results of a batch are, by upstream, and how they get to a worker's disk: whole, and as they came.

========== ============================================================================================
openai     the output file and the error file, through the gateway
azure      the same
anthropic  the gateway's native results: one JSON object
gemini     the same; of batches of Google's REST API the gateway gives one invented row, which is refused
bedrock    every ``*.jsonl.out`` below the batch's S3 prefix, through Airflow's object storage
========== ============================================================================================
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from airflow_bifrost.exceptions import BifrostProtocolError, BifrostUnavailable, ResultsUnavailable
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.gateway.outcome import Outcome, outcome_of_batch
from airflow_bifrost.gateway.requests import native_id
from airflow_bifrost.results.lines import lines_of
from airflow_bifrost.results.native import entries
from airflow_bifrost.results.rows import is_invented
from airflow_bifrost.results.storage import locate
from airflow_bifrost.results.writer import ResultsWriter

TRIES = 4  # of a download that breaks off; the gateway cannot go on in the middle of one
PAUSE = 5.0  # seconds before the second try; doubled for each further one
CHUNK = 2**18  # bytes
WITH_RESULTS = (Outcome.SUCCEEDED, Outcome.PARTIAL)  # other batches may have some
NATIVE = frozenset({"anthropic", "gemini"})

log = logging.getLogger("airflow.task")


@dataclass(frozen=True, slots=True)
class Raw:
    """Results as they came: JSONL, or the gateway's native JSON object."""

    path: Path
    native: bool = False

    def add_to(self, results: ResultsWriter) -> None:
        """:raises BifrostProtocolError: they are not what the API promises."""
        with self._chunks() as chunks:
            results.add(self._entries(chunks)) if self.native else results.add_lines(chunks)

    def lines(self) -> Iterator[bytes]:
        """JSONL in any case, of results as they came."""
        with self._chunks() as chunks:
            if self.native:
                yield from (json.dumps(entry, ensure_ascii=True).encode() + b"\n" for entry in self._entries(chunks))
            else:
                yield from (line + b"\n" for line in lines_of(chunks))

    def is_invented(self) -> bool:
        """Whether the gateway made them up, since it has found none."""
        with self._chunks() as chunks:
            return self.native and is_invented(next(self._entries(chunks), None))

    @contextmanager
    def _chunks(self) -> Iterator[Iterator[bytes]]:
        with self.path.open("rb") as file:
            yield iter(partial(file.read, CHUNK), b"")

    @staticmethod
    def _entries(chunks: Iterator[bytes]) -> Iterator[Any]:
        try:
            yield from entries(chunks)
        except ValueError as error:
            raise BifrostProtocolError(f"The gateway's results are not what its API promises: {error}.") from error


def fetch(
    client: GatewayClient,
    batch: Batch,
    batch_id: str,
    provider: str,
    folder: Path,
    *,
    storage_conn_id: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Raw]:
    """Bring all results of a terminal batch into ``folder``.

    :param client: with a timeout as long as the upstream may take for a whole file: the gateway sends nothing before it has all of it.
    :param batch_id: as it was asked for.
    :param storage_conn_id: Airflow connection for Bedrock's S3 bucket; None: the default of its provider.
    :raises ResultsUnavailable: there are none, or none that can be trusted.
    :raises BifrostError: they cannot be had now.
    """
    outcome = outcome_of_batch(batch, provider)
    if outcome is None:
        raise ResultsUnavailable(
            f"Batch {batch_id} of {provider} is {batch.status}: it has no results yet. Wait for it first, with BatchSensor or"
            " BatchRetrieveOperator(wait_for_completion=True)."
        )
    if provider == "bedrock":
        return _from_storage(batch, batch_id, folder, storage_conn_id, needed=outcome in WITH_RESULTS)
    if provider in NATIVE:
        raw = Raw(folder / "results.json", native=True)
        _download(partial(client.results_content, batch_id, provider=provider), raw.path, sleep)
        if raw.is_invented():
            if outcome not in WITH_RESULTS:
                return []
            raise ResultsUnavailable(
                f"The gateway has no results of batch {batch_id}: it gave one row that says so, and that is no result. Batches of"
                " Google's REST API keep theirs in a file of their own (response.responsesFile): read it there."
            )
        return [raw]
    found = []
    for kind, file_id in (("output", batch.output_file_id), ("errors", batch.error_file_id)):
        if file_id is not None:
            raw = Raw(folder / f"{kind}.jsonl")
            _download(partial(client.file_content, file_id, provider=provider), raw.path, sleep)
            found.append(raw)
    return found


def _download(
    content: Callable[[], AbstractContextManager[Iterator[bytes]]], path: Path, sleep: Callable[[float], None]
) -> None:
    for number in range(1, TRIES + 1):
        try:
            with content() as chunks, path.open("wb") as file:
                file.writelines(chunks)
        except BifrostUnavailable as error:
            if number == TRIES or not error.may_pass:
                raise
            pause = PAUSE * 2 ** (number - 1)
            log.warning("%s Beginning anew in %g s (try %d of %d).", error, pause, number + 1, TRIES)
            sleep(pause)
        else:
            return


def _from_storage(batch: Batch, batch_id: str, folder: Path, storage_conn_id: str | None, *, needed: bool) -> list[Raw]:
    """AWS writes below the prefix, into a folder for each job; the prefix may have those of many."""
    if batch.output_file_id is None:
        raise ResultsUnavailable(f"Batch {batch_id} names no S3 prefix for its results.")
    try:
        prefix, fs = locate(batch.output_file_id, storage_conn_id)
        job = native_id(batch_id, "bedrock")
        names = (name for name in fs.find(prefix.path) if name.endswith(".jsonl.out"))
        outputs = sorted(name for name in names if f"/{job}/" in name)
    except (ImportError, ValueError) as error:
        raise ResultsUnavailable(
            f"The results of batch {batch_id} are below {batch.output_file_id}, and this Airflow cannot read S3: {error}"
        ) from error
    if not outputs and needed:
        raise ResultsUnavailable(
            f"There is no *.jsonl.out in a folder {job} below {batch.output_file_id}, where batch {batch_id} has its results: check the"
            f" connection for S3 ({storage_conn_id or 'aws_default'}), and whether they were moved."
        )
    found = []
    for number, output in enumerate(outputs, start=1):
        raw = Raw(folder / f"output-{number}.jsonl")
        with fs.open(output, "rb") as source, raw.path.open("wb") as target:
            shutil.copyfileobj(source, target)
        found.append(raw)
    return found
