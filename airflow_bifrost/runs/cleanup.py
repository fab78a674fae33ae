"""Deletes files at the provider that a run no longer needs. They cost no tokens, so a failure is only logged."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from airflow_bifrost import providers
from airflow_bifrost.exceptions import BifrostError
from airflow_bifrost.gateway.client import GatewayClient
from airflow_bifrost.providers.statuses import TERMINAL, BatchStatus
from airflow_bifrost.runs.state import RunState

log = logging.getLogger("airflow.task")


def delete_inputs(client: GatewayClient, state: RunState) -> list[str]:
    """Delete the input files of batches that have ended: those of this run, and of earlier runs with other rows.

    :return: IDs of these files.
    """
    provider = state.request.provider
    own = [part for part in state.parts if part.ended and part.confirmed and not part.lost]
    files = [part.input_file_id for part in own if part.input_file_id is not None]
    for file_id, batch_id in state.superseded.items():
        try:
            status = client.get_batch(batch_id, provider=provider).status
        except BifrostError as error:
            log.warning("The input file %s of the superseded batch %s is kept: %s", file_id, batch_id, error)
        else:
            files += [file_id] if BatchStatus.of(status) in TERMINAL else []
    delete_files(client, files, provider)
    return files


def delete_outputs(client: GatewayClient, state: RunState) -> None:
    """Delete the results of a run whose output is written."""
    provider = state.request.provider
    if state.written is None or providers.get(provider).stored is not None:  # the gateway does not delete folders
        return
    names = ("output_file_id", "error_file_id")
    delete_files(client, [batch[name] for batch in state.written["batches"] for name in names], provider)


def delete_files(client: GatewayClient, file_ids: Sequence[str | None], provider: str) -> None:
    for file_id in filter(None, file_ids):
        try:
            client.delete_file(file_id, provider=provider)
        except BifrostError as error:
            log.warning("File %s could not be deleted: %s", file_id, error)
