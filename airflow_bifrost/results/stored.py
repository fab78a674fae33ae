"""Results in an object store: which folders may be read, which files hold a batch's results, and how to read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from airflow_bifrost import providers
from airflow_bifrost.exceptions import BifrostUnavailable, ResultsUnavailable
from airflow_bifrost.providers.base import StoredResults
from airflow_bifrost.results.lines import chunks_of
from airflow_bifrost.results.storage import locate


def results_folder(provider: str, create: Mapping[str, Any]) -> str | None:
    """The folder in the object store that a create call names for its results; None if it names none. Pure.

    :param create: additional members of the create call.
    """
    stored = providers.get(provider).stored
    return None if stored is None else stored.folder(create)


def misplaced(uri: str, scheme: str, folder: str | None) -> str | None:
    """Why a place that the gateway names must not be read with this Airflow's credentials; None if it may be. Pure.

    :param scheme: the scheme of the provider's store.
    :param folder: the folder that the task's own arguments name; None: they name none.
    """
    parts = urlsplit(uri)
    if parts.scheme != scheme or not parts.netloc:
        return f"it is not a folder in {scheme}://"
    if "@" in parts.netloc or parts.query or parts.fragment:
        return "it names credentials or options, not only a folder"
    if {".", ".."} & set(parts.path.split("/")):
        return "its path has relative parts"
    if folder is not None and not f"{uri.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/"):
        return f"it is not below {folder}, the folder that the task names"
    return None


def result_files(
    uri: str, stored: StoredResults, job: str, batch_id: str, storage_conn_id: str | None
) -> tuple[Any, list[str]]:
    """The file system, and the paths of the files that hold the results of a job.

    :raises ResultsUnavailable: this Airflow cannot open the store, or the store refuses.
    :raises BifrostUnavailable: the store does not answer.
    """
    try:
        prefix, fs = locate(uri, storage_conn_id)
        fs.invalidate_cache()  # an earlier attempt may have listed the folder before the files were written
        found = fs.find(prefix.path)
    except FileNotFoundError:
        return None, []
    except (ConnectionError, TimeoutError) as error:
        raise BifrostUnavailable(
            f"The results of batch {batch_id} are below {uri}, but the store does not answer: {error}. The processed rows are billed, and"
            " nothing was written. Retry or clear the task to read them again."
        ) from error
    except Exception as error:  # each store's library has its own errors for missing or refused credentials
        raise ResultsUnavailable(
            f"The processed rows of batch {batch_id} are billed. Their results are below {uri}, but this Airflow cannot read them:"
            f" {error or type(error).__name__}"
        ) from error
    return fs, sorted(
        path
        for path in found
        if stored.file.fullmatch(path.rpartition("/")[2]) and (not stored.in_job_folder or f"/{job}/" in path)
    )


@contextmanager
def content_of(fs: Any, names: list[str]) -> Iterator[Iterator[bytes]]:
    """The files, one after the other, as chunks of bytes.

    :raises BifrostUnavailable: a file could not be read to its end.
    """

    def chunks() -> Iterator[bytes]:
        for name in names:
            try:
                with fs.open(name, "rb") as file:
                    yield from chunks_of(file)
            except OSError as error:
                raise BifrostUnavailable(
                    f"The results in {name} could not be read to their end: {error}. The rows are paid for, and nothing was written."
                    " Retry or clear the task to read them again.",
                    problem=f"The results in {name} could not be read to their end: {error}.",
                ) from error
            yield b"\n"  # the last line of a file may have no newline

    yield chunks()
