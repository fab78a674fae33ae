"""The sources of a batch's results: files, the gateway's native results route, or an object store.

:attr:`airflow_bifrost.providers.base.Provider.results` says which of them a provider uses.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat
from typing import Any, Protocol

from airflow_bifrost import providers
from airflow_bifrost.exceptions import BatchNotFound, BifrostProtocolError, BifrostRequestError, ResultsUnavailable
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.ids import checked_id
from airflow_bifrost.gateway.models import Batch
from airflow_bifrost.gateway.redact import quote
from airflow_bifrost.providers.base import Provider, ResultLocation
from airflow_bifrost.providers.statuses import WITH_RESULTS
from airflow_bifrost.results.completeness import (
    Promise,
    Taken,
    promise_of_all,
    promise_of_errors,
    promise_of_output,
)
from airflow_bifrost.results.lines import TooLong
from airflow_bifrost.results.members import list_of, object_of, text_of
from airflow_bifrost.results.native import entries
from airflow_bifrost.results.parse import is_placeholder
from airflow_bifrost.results.stored import content_of, misplaced, result_files

log = logging.getLogger("airflow.task")

MAX_URI = 200  # characters of a place that an error shows

Content = Callable[[], AbstractContextManager[Iterator[bytes]]]
Check = Callable[[Taken], None]


class Sink(Protocol):
    """Receives results. The sink calls ``check`` with the counts of the source that it has read. If ``check`` raises, the sink drops them."""

    def add_lines(self, chunks: Iterator[bytes], check: Check | None = None) -> Taken: ...

    def add(self, values: Iterator[Any], check: Check | None = None) -> Taken: ...


@dataclass(frozen=True, slots=True)
class Source:
    """Results in the provider's form: JSONL, or the gateway's native JSON object.

    :param name: for messages, as in "the output file file-1".
    :param content: opens the results, as chunks of bytes.
    :param promise: what the source must hold, given the number of results in the sources before it.
    :param errors: whether this is the error file, whose rows are not billed.
    :param native: whether these are the gateway's native results.
    :param is_ours: whether a batch ID in native results is this batch's ID.
    :param placeholder_error: the error to raise if the gateway found no native results and invented a row; None: accept that there are no results.
    :param instead: what to read if the gateway cannot return this source.
    """

    name: str
    content: Content
    promise: Callable[[int], Promise]
    errors: bool = False
    native: bool = False
    is_ours: Callable[[str], bool] = lambda _: True
    placeholder_error: ResultsUnavailable | None = None
    instead: Source | None = None

    def read(self, sink: Sink, check: Check) -> Taken:
        """Read the source once.

        :raises ResultsUnavailable: there are no results that can be trusted.
        :raises BifrostProtocolError: the answer is not what the API promises.
        :raises BifrostUnavailable: the download broke off.
        """
        try:
            with self.content() as chunks:
                return sink.add(self._entries(chunks), check) if self.native else sink.add_lines(chunks, check)
        except (BatchNotFound, BifrostRequestError) as error:
            if self.instead is None:
                raise
            log.info("%s Reading %s instead.", error.problem, self.instead.name)
            return self.instead.read(sink, check)
        except TooLong as error:
            raise BifrostProtocolError(
                f"{self.name[0].upper()}{self.name[1:]} cannot be read: {error}, the most that a result can have. The rows are paid for, and nothing was"
                " written. Download the results from the provider's console, and check which gateway the connection leads to."
            ) from error

    def _entries(self, chunks: Iterator[bytes]) -> Iterator[Any]:
        lost = 0

        def on_member(name: Any, value: Any) -> None:
            nonlocal lost
            if name == "batch_id" and text_of(value) and not self.is_ours(value):
                raise ValueError(f"it is about another batch, {quote(value, 100)!r}")
            if name == "extra_fields":  # the gateway drops lines that it cannot read
                lost += len(list_of(object_of(value).get("parse_errors")))

        try:
            found = entries(chunks, on_member)
            for first in found:
                if not is_placeholder(first):
                    yield from chain([first], found)
                elif self.placeholder_error is not None:
                    raise self.placeholder_error
            yield from repeat(None, lost)
        except TooLong:
            raise
        except ValueError as error:
            raise BifrostProtocolError(
                f"{self.name[0].upper()}{self.name[1:]} cannot be read. The answer is not what the gateway's API promises: {error}.",
                transient=True,
            ) from error


def sources_of(
    client: GatewayClient,
    batch: Batch,
    batch_id: str,
    provider: str,
    *,
    storage_conn_id: str | None = None,
    folder: str | None = None,
) -> list[Source]:
    """The sources that together hold all results of a terminal batch.

    :param client: its timeout must cover the time that the provider takes for a whole file, because the gateway sends nothing before that.
    :param batch_id: the ID with which the batch was retrieved.
    :param storage_conn_id: Airflow connection for the object store; None: the credentials of the worker's environment. If they cannot read
        the results, the gateway may return them.
    :param folder: the folder in the object store that the task's own arguments name. Results in another place are not read.
    :raises ResultsUnavailable: the batch has no results, or this gateway cannot return them.
    """
    known = providers.get(provider)
    outcome = known.outcome(batch.status, batch.request_counts)
    if outcome is None:
        raise ResultsUnavailable(
            f"Batch {batch_id} of {provider} is {batch.status}: it has no results yet. Wait for it first, with BatchSensor or"
            " BatchRetrieveOperator(wait_for_completion=True)."
        )
    if known.results is ResultLocation.OBJECT_STORAGE:
        return _in_storage(client, batch, batch_id, known, storage_conn_id, folder, needed=outcome in WITH_RESULTS)
    if known.results is ResultLocation.NATIVE:
        placeholder_error = ResultsUnavailable(
            f"The gateway has no results of batch {batch_id}: it returned only a placeholder row that says so. The rows may be billed. If the"
            " batch was created with Google's REST API, its results are in the file response.responsesFile: download it from Google."
        )
        return [
            _native(
                client,
                batch_id,
                known,
                lambda _: promise_of_all(batch, known),
                placeholder_error=placeholder_error if outcome in WITH_RESULTS else None,
            )
        ]
    return _in_files(client, batch, batch_id, known)


def error_sources_of(client: GatewayClient, batch: Batch, batch_id: str, provider: str) -> list[Source]:
    """The error file of a batch, if it names one."""
    return [source for source in _in_files(client, batch, batch_id, providers.get(provider)) if source.errors]


def _native(
    client: GatewayClient, batch_id: str, provider: Provider, promise: Callable[[int], Promise], **members: Any
) -> Source:
    return Source(
        f"the results of batch {batch_id}",
        partial(client.results_content, batch_id, provider=provider.name),
        promise,
        native=True,
        is_ours=lambda answered: provider.is_same_batch(batch_id, answered) or answered == provider.native_id(batch_id),
        **members,
    )


def _in_files(client: GatewayClient, batch: Batch, batch_id: str, provider: Provider) -> list[Source]:
    def source(kind: str, file_id: str, promise: Callable[[int], Promise]) -> Source:
        try:
            checked_id(file_id, "its ID")
        except ValueError as error:
            raise ResultsUnavailable(
                f"The gateway cannot return the {kind} file of batch {batch_id}: {error} Its rows may be billed. Find the file in the"
                " provider's console."
            ) from error
        content = partial(client.file_content, file_id, provider=provider.name)
        return Source(f"the {kind} file {file_id} of batch {batch_id}", content, promise, errors=kind == "error")

    sources = []
    if batch.output_file_id is not None:
        sources.append(source("output", batch.output_file_id, lambda _: promise_of_output(batch, provider)))
    if batch.error_file_id is not None:
        sources.append(source("error", batch.error_file_id, lambda before: promise_of_errors(batch, provider, before)))
    return sources


def _in_storage(
    client: GatewayClient,
    batch: Batch,
    batch_id: str,
    provider: Provider,
    storage_conn_id: str | None,
    folder: str | None,
    *,
    needed: bool,
) -> list[Source]:
    stored = provider.stored
    assert stored is not None
    uri = batch.output_file_id
    if uri is None:
        if not needed:
            return []
        raise ResultsUnavailable(
            f"Batch {batch_id} does not say where in {stored.scheme}:// its results are. Its rows may be billed. Find them in the provider's console."
        )
    if problem := misplaced(uri, stored.scheme, folder):
        raise ResultsUnavailable(
            f"The gateway says that the results of batch {batch_id} are at {quote(uri, MAX_URI)}, but {problem}. Nothing was read. The processed"
            " rows are billed: find their results in the provider's console, and check which gateway the connection leads to."
        )
    try:
        fs, names = result_files(uri, stored, provider.native_id(batch_id), batch_id, storage_conn_id)
    except ResultsUnavailable as error:
        if storage_conn_id is not None or stored.usual_file is None:
            raise
        log.info("%s Reading them through the gateway instead.", error)
        return [_through_gateway(client, batch, batch_id, provider, f"{uri.rstrip('/')}/{stored.usual_file}", needed)]
    if not names and needed:
        credentials = f"connection {storage_conn_id}" if storage_conn_id else "the worker's environment"
        raise ResultsUnavailable(
            f"There is no file {stored.file.pattern} below {uri}, where batch {batch_id} has its results. Check the credentials for"
            f" {stored.scheme}:// (from {credentials}; storage_conn_id names a connection), and whether the files were moved. The rows are paid"
            " for. Clear the task to read the results again."
        )
    if not names:
        return []
    return [
        Source(f"the results below {uri}", partial(content_of, fs, names), lambda _: promise_of_all(batch, provider))
    ]


def _through_gateway(
    client: GatewayClient, batch: Batch, batch_id: str, provider: Provider, usual: str, needed: bool
) -> Source:
    """Stored results, read through the gateway, which lists the folder. If it cannot list it, it may still return the usual file."""
    assert provider.stored is not None
    file_id = provider.stored.file_id(usual)

    def promise(_: int) -> Promise:
        return promise_of_all(batch, provider)

    by_name = Source(f"the results in {usual}", partial(client.file_content, file_id, provider=provider.name), promise)
    return _native(client, batch_id, provider, promise, instead=by_name)
