"""Where the results of a batch are, by provider, and how they are read: as they come, and from the begin where they break off.

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
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import IO, Any

from airflow_bifrost import providers
from airflow_bifrost.exceptions import BifrostProtocolError, BifrostUnavailable, ResultsUnavailable
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.gateway.requests import native_id
from airflow_bifrost.providers.statuses import WITH_RESULTS
from airflow_bifrost.results.lines import chunks_of, lines_of
from airflow_bifrost.results.native import entries
from airflow_bifrost.results.rows import is_invented
from airflow_bifrost.results.storage import locate
from airflow_bifrost.results.writer import ResultsWriter

TRIES = 4  # of a download that breaks off; the gateway cannot go on in the middle of one
PAUSE = 5.0  # seconds before the second try; doubled for each further one
NATIVE = frozenset({"anthropic", "gemini"})

log = logging.getLogger("airflow.task")


Content = Callable[[], AbstractContextManager[Iterator[bytes]]]


@dataclass(frozen=True, slots=True)
class Source:
    """Results as the provider has them: JSONL, or the gateway's native JSON object.

    :param content: opens them, as bytes in chunks.
    :param made_up: the error for native results that the gateway has made up, since it has found none; None: then there are none.
    """

    content: Content
    native: bool = False
    made_up: ResultsUnavailable | None = None
    sleep: Callable[[float], None] = time.sleep

    def add_to(self, results: ResultsWriter) -> None:
        """
        :raises ResultsUnavailable: there are none that can be trusted.
        :raises BifrostProtocolError: they are not what the API promises.
        :raises BifrostUnavailable: they break off each time.
        """
        self._read(lambda chunks: results.add(self._entries(chunks)) if self.native else results.add_lines(chunks))

    def copy_to(self, file: IO[bytes]) -> None:
        """Write them as JSONL, as they came, into an empty local file. For the errors see :meth:`add_to`."""

        def copy(chunks: Iterator[bytes]) -> None:
            file.seek(0)
            file.truncate()
            if self.native:
                for entry in self._entries(chunks):
                    file.write(json.dumps(entry, ensure_ascii=True).encode() + b"\n")
            else:
                file.writelines(line + b"\n" for line in lines_of(chunks))

        self._read(copy)

    def _read(self, take: Callable[[Iterator[bytes]], None]) -> None:
        for number in range(1, TRIES + 1):
            try:
                with self.content() as chunks:
                    take(chunks)
            except BifrostUnavailable as error:
                if number == TRIES or not error.transient:
                    raise
                pause = PAUSE * 2 ** (number - 1)
                log.warning("%s Beginning anew in %g s (try %d of %d).", error, pause, number + 1, TRIES)
                self.sleep(pause)
            else:
                return

    def _entries(self, chunks: Iterator[bytes]) -> Iterator[Any]:
        try:
            found = entries(chunks)
            for first in found:
                if not is_invented(first):
                    yield from chain([first], found)
                elif self.made_up is not None:
                    raise self.made_up
        except ValueError as error:
            raise BifrostProtocolError(f"The gateway's results are not what its API promises: {error}.") from error


def sources_of(
    client: GatewayClient,
    batch: Batch,
    batch_id: str,
    provider: str,
    *,
    storage_conn_id: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Source]:
    """Where all results of a terminal batch are.

    :param client: with a timeout as long as the provider may take for a whole file: the gateway sends nothing before it has all of it.
    :param batch_id: as it was asked for.
    :param storage_conn_id: Airflow connection for Bedrock's S3 bucket; None: the credentials of the worker's environment.
    :raises ResultsUnavailable: there are none.
    :raises BifrostProtocolError: there are some, and the gateway does not say where.
    """
    outcome = providers.get(provider).outcome(batch.status, batch.request_counts)
    if outcome is None:
        raise ResultsUnavailable(
            f"Batch {batch_id} of {provider} is {batch.status}: it has no results yet. Wait for it first, with BatchSensor or"
            " BatchRetrieveOperator(wait_for_completion=True)."
        )
    if provider == "bedrock":
        return _in_storage(batch, batch_id, storage_conn_id, needed=outcome in WITH_RESULTS)
    if provider in NATIVE:
        content = partial(client.results_content, batch_id, provider=provider)
        made_up = ResultsUnavailable(
            f"The gateway has no results of batch {batch_id}: it gave one row that says so, and that is no result. Batches of"
            " Google's REST API keep theirs in a file of their own (response.responsesFile): read it there."
        )
        return [Source(content, native=True, made_up=made_up if outcome in WITH_RESULTS else None, sleep=sleep)]
    if batch.output_file_id is None and outcome in WITH_RESULTS and batch.request_counts.completed:
        raise BifrostProtocolError(
            f"Batch {batch_id} of {provider} is {batch.status} with {batch.request_counts.completed} rows done, and names no output file."
            " Nothing was written; the rows are paid for, and a retry looks for them again."
        )
    return [
        Source(partial(client.file_content, file_id, provider=provider), sleep=sleep)
        for file_id in (batch.output_file_id, batch.error_file_id)
        if file_id is not None
    ]


def _in_storage(batch: Batch, batch_id: str, storage_conn_id: str | None, *, needed: bool) -> list[Source]:
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
            f" credentials for S3 ({f'connection {storage_conn_id}' if storage_conn_id else 'of the environment: storage_conn_id names none'}), and whether they were moved."
        )
    return [Source(partial(_stored, fs, name)) for name in outputs]


@contextmanager
def _stored(fs: Any, name: str) -> Iterator[Iterator[bytes]]:
    with fs.open(name, "rb") as file:
        yield chunks_of(file)
