"""Input files at the provider: waiting until a batch may use them, and deleting them when they are no longer needed."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from airflow_bifrost import providers
from airflow_bifrost.exceptions import BatchInputError, BatchNotFound, BifrostGatewayError, BifrostUnavailable
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.gateway.models import File

READY_WITHIN = 600.0  # seconds that a provider may take to process an uploaded file
FIRST_PAUSE = 1.0  # seconds between two polls of a file; doubled each time
LONGEST_PAUSE = 15.0  # seconds
OWN_NAME = re.compile(r"[0-9a-f]{32}-[0-9a-f]{8}\.jsonl")
NEWEST = 100  # files of a page

log = logging.getLogger("airflow.task")


def wait_until_ready(
    client: GatewayClient, provider: str, file: File, *, pause: Callable[[float], None], within: float = READY_WITHIN
) -> None:
    """Wait until a batch may use the file. Some providers refuse the create before that.

    :param pause: sleeps some seconds.
    :param within: seconds.
    :raises BatchInputError: the provider cannot use the file.
    :raises BifrostUnavailable: the file is not ready in time.
    """
    readiness = providers.get(provider).files
    if readiness is None:
        return
    waited, seconds = 0.0, FIRST_PAUSE
    while file.status not in readiness.ready:
        if file.status in readiness.failed:
            raise BatchInputError(
                f"{provider} cannot use the uploaded file {file.id}: its status is {file.status}"
                f"{f' ({file.status_details})' if file.status_details else ''}. Nothing was submitted, and nothing is billed."
                " Fix the rows, and clear the task."
            )
        if waited >= within:
            raise BifrostUnavailable(
                f"The uploaded file {file.id} of {provider} is still {file.status or 'without a status'} after {within:.0f} s. Nothing was"
                " submitted, and nothing is billed. A retry of this task uses the same file."
            )
        log.info("File %s of %s is %s: waiting until it is ready", file.id, provider, file.status)
        pause(seconds)
        waited += seconds
        seconds = min(seconds * 2, LONGEST_PAUSE)
        file = client.get_file(file.id, provider=provider)


def delete_input(client: GatewayClient, provider: str, file_id: str, why: str) -> bool:
    """Delete a file that this package uploaded. A file costs nothing, so a failure is only logged.

    :param why: why the file is not needed, for the log.
    :return: whether it is gone.
    """
    try:
        client.delete_file(file_id, provider=provider)
    except BifrostGatewayError as error:
        log.warning("The input file %s of %s was not deleted: %s", file_id, provider, error)
        return isinstance(error, BatchNotFound)
    log.info("Deleted the input file %s of %s: %s", file_id, provider, why)
    return True


def is_own(file: File) -> bool:
    """Whether this package uploaded the file, according to its name, see ``creating``."""
    return OWN_NAME.fullmatch(file.filename or "") is not None


def delete_lost_uploads(client: GatewayClient, provider: str, kept: File, filename: str) -> None:
    """Delete the files that repeated uploads left, which have the same, unique name. The newest page of the list is enough.

    :param kept: the file that the last repetition returned.
    """
    try:
        files = client.list_files_page(provider=provider, limit=NEWEST).data
    except BifrostGatewayError as error:
        log.warning(
            "The files of %s cannot be listed, so a repeated upload may have left a second file, which costs nothing: %s",
            provider,
            error,
        )
        return
    for file in files:
        if file.filename == filename and file.id != kept.id:
            delete_input(client, provider, file.id, "the upload was repeated")


@contextmanager
def explaining_too_many_files(provider: str) -> Iterator[None]:
    """If the provider refuses an upload because it keeps too many files, say how to delete them."""
    try:
        yield
    except BifrostGatewayError as error:
        refusal = providers.get(provider).too_many_files
        if error.transient or refusal is None or refusal.search(error.problem) is None:
            raise
        raise type(error)(
            f"{error} {provider} keeps too many files. Nothing was submitted. Delete those that are not needed (BifrostHook().list_files,"
            " delete_file). To delete the files of each batch after its results are written, set cleanup='all' on BatchRunOperator and"
            " BatchDownloadOperator, or let output files expire with output_expires_after.",
            problem=error.problem,
            status_code=error.status_code,
            error_type=error.error_type,
            error_code=error.error_code,
            sent=error.sent,
        ) from error
